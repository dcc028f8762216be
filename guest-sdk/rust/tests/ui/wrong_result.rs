//! Results that are no reply.

use sandbar_guest::{Json, Result, command};

struct Order;

#[command("a")]
fn number() -> u32 {
    1
}

#[command("b")]
fn not_serialize() -> Result<Json<Order>> {
    Ok(Json(Order))
}

fn main() {}
