//! Two commands on one topic.

use sandbar_guest::command;

#[command("order.create")]
fn create() {}

#[command("order.create")]
fn make() {}

sandbar_guest::plugin!(create, make);

fn main() {}
