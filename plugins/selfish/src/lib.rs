//! Takes time, and leaves things behind in its memory, without ever waiting for the host: it imports nothing that could.
//! Used by the host's tests; not an example of how to write handlers.

use std::cell::RefCell;
use std::hint::black_box;

use sandbar_guest::command;

thread_local! {
    static KEPT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Never returns.
#[command("selfish.loop")]
fn spin() {
    let mut turns = 0_u64;
    while black_box(true) {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Returns at once.
#[command("selfish.ping")]
fn ping() -> &'static str {
    "pong"
}

/// Keeps what it got, and replies with what it had kept before.
#[command("selfish.keep")]
fn keep(content: Vec<u8>) -> Vec<u8> {
    KEPT.replace(content)
}

sandbar_guest::plugin!(spin, ping, keep);
