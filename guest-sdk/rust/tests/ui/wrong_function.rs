//! Functions that can't be handlers at all.

use sandbar_guest::command;

#[command("a")]
async fn suspended() {}

#[command("b")]
fn generic<T>() {}

#[command("c")]
unsafe fn dangerous() {}

struct Orders;

impl Orders {
    #[command("d")]
    fn method(&self) {}
}

fn main() {}
