//! Handlers that say what they can see from where they are.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use sandbar_guest::{Context, Json, Result, command, context as ambient};
use serde_json::{Value, json};

/// Uses the standard library's clock, randomness, environment and output, which are WASI's.
#[command("bad.wasi")]
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "the component shall import WASI"
)]
pub(crate) fn wasi() -> Result<Json<Value>> {
    println!("a line on standard output");
    eprintln!("a line on standard error");
    let mut map = HashMap::new();
    map.insert("key", "value");
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let environment: Vec<_> = std::env::vars().collect();
    Ok(Json(json!({
        "now_ms": now.as_millis().to_string(),
        "map": map,
        "environment": environment,
        "arguments": std::env::args().count(),
        "file": std::fs::read("/etc/passwd").map_err(|error| error.kind().to_string()).err(),
    })))
}

/// Says everything that a handler is told about its message and its place.
#[command("bad.context")]
pub(crate) fn context(content: String, ctx: &Context) -> Result<Json<Value>> {
    let headers: Vec<_> = ctx.headers().iter().collect();
    Ok(Json(json!({
        "id": ctx.id(),
        "topic": ctx.topic(),
        "content": content,
        "headers": headers,
        "user": ctx.user(),
        "reply_topic": ctx.reply_topic(),
        "attempt": ctx.attempt(),
        "budget_ms": u64::try_from(ctx.budget().as_millis())?,
        "config": ctx.config().all(),
        "now_ns": ctx.now().duration_since(UNIX_EPOCH)?.as_nanos().to_string(),
        "random": ctx.random(8),
        "uuid": ctx.uuid(),
        "ambient": {
            "headers": ambient::headers().len(),
            "user": ambient::user(),
            "reply_topic": ambient::reply_topic(),
        },
    })))
}
