//! A handler that tells its secret wherever it can.

use std::time::Duration;

use sandbar_guest::{Context, Error, Result, command, warn};

/// Writes the secret `API_KEY` into the log, its standard output, its state and a message, and then ends as the content says:
/// `panic`, `forbidden`, `reject`, `retry`, `fail`; with `ask` it fails after a request with the secret.
#[command("bad.leak")]
#[expect(clippy::print_stdout, clippy::panic, reason = "it shall be found")]
pub(crate) fn leak(how: String, ctx: &Context) -> Result<String> {
    let config = ctx.config();
    let secret = config.get("API_KEY").unwrap_or_default();
    warn!(key = secret, "the key is {secret}, twice {secret}{secret}");
    println!("printed {secret}");
    ctx.state().set("key", format!("it is {secret}"))?;
    ctx.state().set(&format!("named.{secret}"), "x")?;
    ctx.publish("out.leak", format!("published {secret}"))?;
    if how == "ask" {
        let reply = ctx.request(
            "bad.context",
            format!("asked {secret}"),
            Duration::from_secs(4),
        )?;
        warn!("answered {}", String::from_utf8_lossy(reply.content()));
    }
    let text = format!("{} characters: {secret}", secret.len());
    match how.as_str() {
        "panic" => panic!("{text}"),
        "forbidden" => ctx.publish(&format!("leaked.{secret}"), text.clone())?,
        "reject" => return Err(Error::rejected(text)),
        "retry" => return Err(Error::retry(text)),
        _ => return Err(Error::failed(text)),
    }
    Ok(text)
}
