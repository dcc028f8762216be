//! Hooks and middleware that can't run.

use sandbar_guest::{Context, Json, Next, Request, Response, Result, after, before, middleware};

#[before]
fn no_kind() {}

#[before(commands)]
fn unknown_kind() {}

#[before(command)]
fn owned(_: Request) {}

#[before(command)]
fn content(_: Json<u8>) {}

#[before(query)]
fn result(_: &Request) -> Result<bool> {
    Ok(true)
}

#[after(query)]
fn request(_: &Request, _: &Context) {}

#[after(query)]
async fn suspended(_: &mut Response) {}

#[middleware(all)]
fn arguments(request: Request, next: Next<'_>) -> Result<Response> {
    next.run(request)
}

#[middleware]
fn no_next(_: Request) -> Response {
    Response::default()
}

#[middleware]
fn forgets(request: Request, next: Next<'_>) {
    let _ = next.run(request);
}

#[middleware]
fn wrong(_: Request, _: Next<'_>) -> Result<String> {
    Ok(String::new())
}

fn main() {}
