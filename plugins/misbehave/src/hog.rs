//! Handlers that take more than they should: time, memory, space in replies and logs, or the whole instance.

use std::hint::black_box;

use sandbar_guest::{Response, Result, command, warn};

/// Never returns.
#[command("bad.loop")]
pub(crate) fn spin() {
    let mut turns = 0_u64;
    while black_box(true) {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Traps: by `abort` if the content is `abort`, else by a panic with the content as its text.
#[command("bad.trap")]
#[expect(clippy::panic, reason = "it is what this handler is for")]
pub(crate) fn trap(how: String) {
    if how == "abort" {
        std::process::abort();
    }
    panic!("trapped: {how}");
}

/// Allocates until there is no more: pieces of a mebibyte, or small ones if the content is `small`.
#[command("bad.memory")]
pub(crate) fn memory(pieces: String) {
    let size = if pieces == "small" { 48 } else { 1 << 20 };
    let mut kept = Vec::new();
    while black_box(true) {
        kept.push(black_box(vec![1_u8; size]));
    }
}

/// Replies with as many bytes as the content says.
#[command("bad.huge-reply")]
pub(crate) fn huge_reply(bytes: String) -> Result<Response> {
    Ok(Response::new(vec![b'x'; bytes.trim().parse::<usize>()?]))
}

/// Writes as many lines to the log as the content says (10,000 if it is empty), with a terminal escape in each.
#[command("bad.log-flood")]
pub(crate) fn log_flood(lines: String) -> Result<String> {
    let lines = match lines.trim() {
        "" => 10_000,
        lines => lines.parse::<u32>()?,
    };
    for line in 0..lines {
        warn!(line = line, "flood \u{1b}[31mred\u{1b}[0m\n{line}");
    }
    Ok(lines.to_string())
}
