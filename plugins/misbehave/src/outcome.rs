//! Handlers that end in each way a handler can end without breaking anything.

use std::time::Duration;

use sandbar_guest::{Context, Error, Response, Result, Status, command};

/// Rejects the message with its own content as the text.
#[command("bad.reject")]
pub(crate) fn reject(content: String) -> Result<()> {
    Err(Error::rejected(content))
}

/// Fails with the message's content as the text.
#[command("bad.fail")]
pub(crate) fn fail(content: String) -> Result<()> {
    Err(Error::failed(content))
}

/// Succeeds at the third attempt, with the number of it. The content, if any, is the delay in milliseconds.
#[command("bad.retry")]
pub(crate) fn retry(delay: String, ctx: &Context) -> Result<String> {
    match (ctx.attempt(), delay.trim()) {
        (attempt @ 3.., _) => Ok(attempt.to_string()),
        (_, "") => Err(Error::retry("not yet")),
        (_, delay) => {
            let delay = Duration::from_millis(delay.parse()?);
            Err(Error::retry_after("not yet", delay))
        }
    }
}

/// Never succeeds.
#[command("bad.retry-forever")]
pub(crate) fn retry_forever() -> Result<()> {
    Err(Error::retry("never"))
}

/// Adds the header `m` and removes the header `trace`.
#[command("bad.headers")]
pub(crate) fn headers(content: Vec<u8>) -> Response {
    Response::new(content)
        .header("m", "1")
        .remove_header("trace")
}

/// Replies with the status that the content says, and the content.
#[command("bad.status")]
pub(crate) fn status(code: String) -> Result<Response> {
    let status = Status::from_code(code.trim().parse()?);
    Ok(Response::text(code).status(status))
}
