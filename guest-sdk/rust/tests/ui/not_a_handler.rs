//! A function without an attribute in the list.

use sandbar_guest::command;

#[command("a")]
fn handler() {}

#[derive(Debug)]
struct Plain;

sandbar_guest::plugin!(handler, Plain);

fn main() {}
