//! Functions in lists where they don't belong.

use sandbar_guest::{Request, Result, before, command};

#[command("a")]
fn handler() {}

#[before(command)]
fn hook() {}

fn plain(_: &Request) -> Result<()> {
    Ok(())
}

#[command("b", middleware(hook))]
fn around() {}

#[command("c", middleware(plain))]
fn nothing() {}

sandbar_guest::plugin! {
    handlers: handler, hook;
    before: handler;
    after: hook;
    middleware: hook;
}

fn main() {}
