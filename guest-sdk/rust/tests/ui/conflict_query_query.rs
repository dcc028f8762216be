//! Two queries on one pattern.

use sandbar_guest::query;

#[query("order.*.get")]
fn get() {}

#[query("order.*.get")]
fn fetch() {}

sandbar_guest::plugin!(get, fetch);

fn main() {}
