//! Schedules that no clock can follow.

use sandbar_guest::periodic;

#[periodic]
fn none() {}

#[periodic("")]
fn empty() {}

#[periodic("* * * *")]
fn four() {}

#[periodic("0 */5 * * * *")]
fn with_seconds() {}

#[periodic("@hourly")]
fn nickname() {}

#[periodic("61 * * * *")]
fn minute() {}

#[periodic("* * * * FUNDAY")]
fn day() {}

#[periodic("0 0 31 2 *")]
fn never() {}

sandbar_guest::plugin!(none, empty, four);

fn main() {}
