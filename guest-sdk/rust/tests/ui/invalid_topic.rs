//! Topics that no broker would take.

use sandbar_guest::{command, event, query};

#[command("")]
fn empty() {}

#[command("order create")]
fn space() {}

#[query("order..get")]
fn empty_token() {}

#[event("order.>.done")]
fn early_tail() {}

#[event("order.cre*")]
fn partial() {}

#[event("order.#")]
fn foreign() {}

#[command]
fn none() {}

#[command(order.create)]
fn unquoted() {}

#[event("0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890123456789012345")]
fn long() {}

// No errors of its own because of the ones above.
sandbar_guest::plugin!(empty, space, empty_token);

fn main() {}
