//! Everything that can run around handlers, each leaving its name in a trace. Not an example of how to write handlers.
//!
//! `tests/tests/enroute` declares native actions in the same way and compares what runs.

mod layers;

use sandbar_guest::{
    Context, Error, Json, Result, command, context as ambient, event, periodic, query,
};
use serde_json::{Value, json};

use layers::{inner, polite, ready, shortcut, trace};

/// Replies with its content.
#[command("en.do", middleware(inner, shortcut))]
fn act(content: Vec<u8>) -> Vec<u8> {
    trace("act");
    content
}

/// Runs when both checks are satisfied.
#[command(
    "en.checked",
    check(polite),
    check(ready, max_attempts = 3, delay_ms = 5)
)]
fn checked() {
    trace("checked");
}

/// Waits for as long as it takes.
#[command("en.patient", check(ready, max_attempts = 1000, delay_ms = 20))]
fn patient(ctx: &Context) -> String {
    ctx.attempt().to_string()
}

/// Stores `NAME=VALUE`, or removes `NAME` if there is no value.
#[command("en.set")]
fn set(content: String, ctx: &Context) -> Result<()> {
    match content.split_once('=') {
        Some((name, value)) => Ok(ctx.state().set(name, value)?),
        None => Ok(ctx.state().delete(&content)?),
    }
}

/// Replies with 1.
#[query("en.ask")]
fn ask() -> Json<u8> {
    trace("ask");
    Json(1)
}

/// Says what is known without being told.
#[query("en.context")]
fn context() -> Json<Value> {
    let headers = ambient::headers();
    Json(json!({
        "note": headers.get("note"),
        "user": ambient::user(),
        "reply": ambient::reply_topic().is_some(),
    }))
}

/// Passes the event on.
#[event("en.told")]
fn first(content: Vec<u8>, ctx: &Context) -> Result<()> {
    trace("first");
    Ok(ctx.publish("out.first", content)?)
}

/// Passes the event on, but not as long as `fail` is stored.
#[event("en.told")]
fn second(content: Vec<u8>, ctx: &Context) -> Result<()> {
    trace("second");
    ctx.publish("out.second", content)?;
    match ctx.state().get("fail")? {
        Some(_) => Err(Error::retry("`fail` is stored")),
        None => Ok(()),
    }
}

/// Says when it was due; fails once at its first attempt if `fail` is stored.
#[periodic("0 0 1 1 *")]
fn tick(ctx: &Context) -> Result<()> {
    trace("tick");
    ctx.publish("out.tick", ctx.header("due").unwrap_or_default())?;
    match ctx.state().get("fail")? {
        Some(_) if ctx.attempt() == 1 => Err(Error::retry("`fail` is stored")),
        _ => Ok(()),
    }
}

sandbar_guest::plugin! {
    handlers: act, checked, patient, set, ask, context, first, second, tick;
    before: layers::before_all, layers::before_commands, layers::before_events;
    after: layers::after_commands, layers::after_queries;
    middleware: layers::outer;
}
