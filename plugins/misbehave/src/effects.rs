//! Handlers that publish, ask and store: some of it forbidden, some of it too much, some of it to be discarded.

use std::time::Duration;

use sandbar_guest::{Context, Error, Json, Response, Result, command, event};
use serde_json::{Value, json};

/// Publishes to the topic in the content (`forbidden.topic` if it is empty).
#[command("bad.publish-forbidden")]
pub(crate) fn publish_forbidden(topic: String, ctx: &Context) -> Result<()> {
    let topic = match topic.as_str() {
        "" => "forbidden.topic",
        topic => topic,
    };
    Ok(ctx.publish(topic, "smuggled")?)
}

/// Publishes to `out.x`, stores the key `x`, and fails.
#[command("bad.publish-then-fail")]
pub(crate) fn publish_then_fail(content: Vec<u8>, ctx: &Context) -> Result<()> {
    ctx.publish("out.x", content.clone())?;
    ctx.state().set("x", content)?;
    Err(Error::failed("after publishing"))
}

/// Publishes as many messages to `out.many` as the content says.
#[command("bad.publish-many")]
pub(crate) fn publish_many(count: String, ctx: &Context) -> Result<String> {
    for number in 0..count.trim().parse::<u32>()? {
        ctx.publish("out.many", number.to_string())?;
    }
    Ok(count)
}

/// Publishes a message with as many bytes to `out.huge` as the content says.
#[command("bad.publish-huge")]
pub(crate) fn publish_huge(bytes: String, ctx: &Context) -> Result<()> {
    Ok(ctx.publish("out.huge", vec![b'x'; bytes.trim().parse::<usize>()?])?)
}

/// Writes as many keys as the content says first, with as many bytes each as it says then.
#[command("bad.state-flood")]
pub(crate) fn state_flood(content: String, ctx: &Context) -> Result<()> {
    let (keys, bytes) = content.split_once(' ').unwrap_or((&content, "1"));
    let value = vec![b'x'; bytes.parse::<usize>()?];
    for key in 0..keys.parse::<u32>()? {
        ctx.state().set(&format!("flood.{key}"), value.clone())?;
    }
    Ok(())
}

/// Asks the topic that is the first word of the content, with the rest as content, for as many milliseconds as the header
/// `timeout-ms` says (1,000 without one); replies with the answer.
#[command("bad.request")]
pub(crate) fn request(content: String, ctx: &Context) -> Result<Response> {
    let (topic, rest) = content.split_once(' ').unwrap_or((&content, ""));
    let timeout = ctx.header("timeout-ms").unwrap_or("1000").parse()?;
    let reply = ctx.request(topic, rest, Duration::from_millis(timeout))?;
    let status = reply.status();
    Ok(Response::new(reply.into_content()).status(status))
}

/// Uses every operation on state and says what it saw.
#[command("bad.state")]
pub(crate) fn state(content: String, ctx: &Context) -> Result<Json<Value>> {
    let state = ctx.state();
    let text = |value: Option<Vec<u8>>| value.map(|it| String::from_utf8_lossy(&it).into_owned());

    let before = text(state.get("last")?);
    state.set("last", &content)?;
    let after = text(state.get("last")?);
    let count = state.increment("count", 1)?;
    state.set("gone", "x")?;
    state.delete("gone")?;
    let gone = text(state.get("gone")?);
    let not_a_number = state
        .increment("last", 1)
        .map_err(|error| error.to_string());
    Ok(Json(json!({
        "before": before,
        "after": after,
        "count": count,
        "gone": gone,
        "not_a_number": not_a_number.err(),
        "keys": state.keys("")?,
    })))
}

/// Leaves every trace that a handler can leave: counts in the key `ledger`, publishes its content to `out.ledger`, and
/// replies with it. Whoever loses or repeats one of them shows it.
#[command("bad.ledger")]
pub(crate) fn ledger(content: Vec<u8>, ctx: &Context) -> Result<Response> {
    ctx.state().increment("ledger", 1)?;
    ctx.publish("out.ledger", content.clone())?;
    Ok(Response::new(content))
}

/// Passes the event on to `out.a`.
#[event("bad.event")]
pub(crate) fn first_event(content: Vec<u8>, ctx: &Context) -> Result<()> {
    Ok(ctx.publish("out.a", content)?)
}

/// Passes the event on to `out.b`, but not as long as the key `fail` is set.
#[event("bad.event")]
pub(crate) fn second_event(content: Vec<u8>, ctx: &Context) -> Result<()> {
    ctx.publish("out.b", content)?;
    if ctx.state().get("fail")?.is_some() {
        return Err(Error::retry("the key `fail` is set"));
    }
    Ok(())
}

/// Sets the key `fail` to the content, or removes it if that is empty.
#[command("bad.event-fails")]
pub(crate) fn event_fails(content: Vec<u8>, ctx: &Context) -> Result<()> {
    if content.is_empty() {
        Ok(ctx.state().delete("fail")?)
    } else {
        Ok(ctx.state().set("fail", content)?)
    }
}
