//! Parameters that no message can fill.

use sandbar_guest::{Context, Json, command};

struct Order;

#[command("a")]
fn number(_: u32) {}

#[command("b")]
fn not_deserialize(_: Json<Order>) {}

#[command("c")]
fn reference(_: &str) {}

#[command("d")]
fn twice(_: String, _: Vec<u8>) {}

#[command("e")]
fn three(_: String, _: &Context, _: &Context) {}

#[command("f")]
fn exclusive(_: &mut Context) {}

fn main() {}
