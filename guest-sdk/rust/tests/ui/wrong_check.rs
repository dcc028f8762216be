//! Checks that can't be made, and other mistakes behind the topic.

use sandbar_guest::{Context, Request, Result, command};

fn no_context(_: &Request) -> Result<bool> {
    Ok(true)
}

fn no_result(_: &Request, _: &Context) -> bool {
    true
}

fn good(_: &Request, _: &Context) -> Result<bool> {
    Ok(true)
}

#[command("a", check(no_context))]
fn a() {}

#[command("b", check(no_result))]
fn b() {}

#[command("d", check(good, attempts = 3))]
fn d() {}

#[command("e", check(good, max_attempts = 0))]
fn e() {}

#[command("f", check(good, delay_ms = "1s"))]
fn f() {}

#[command("g", retry(good))]
fn g() {}

#[command("h", "i")]
fn h() {}

fn main() {}
