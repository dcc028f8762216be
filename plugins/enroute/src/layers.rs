//! The layers, and the trace that they leave. Each knows nothing of the others.

use std::cell::RefCell;

use sandbar_guest::{Context, Error, Next, Request, Response, Result, after, before, middleware};

thread_local! {
    static TRACE: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

/// Something has run.
pub(crate) fn trace(name: &'static str) {
    TRACE.with_borrow_mut(|trace| trace.push(name));
}

/// Begins the trace of a call and tells it when the call has ended.
#[middleware]
pub(crate) fn outer(request: Request, ctx: &Context, next: Next<'_>) -> Result<Response> {
    TRACE.take();
    trace("outer in");
    let response = next.run(request);
    trace("outer out");
    let trace = TRACE.take().join(", ");
    match response {
        Ok(response) if ctx.reply_topic().is_some() => Ok(response.header("trace", trace)),
        Ok(response) => {
            ctx.publish("out.trace", trace)?;
            Ok(response)
        }
        Err(error) if error.is_rejected() => {
            Err(Error::rejected(format!("{} [{trace}]", error.text())))
        }
        Err(error) if error.is_failed() => {
            Err(Error::failed(format!("{} [{trace}]", error.text())))
        }
        Err(error) => Err(error),
    }
}

#[middleware]
pub(crate) fn inner(request: Request, next: Next<'_>) -> Result<Response> {
    trace("inner in");
    let response = next.run(request)?;
    trace("inner out");
    Ok(response.header("inner", "yes"))
}

/// Answers by itself when it is told to.
#[middleware]
pub(crate) fn shortcut(request: Request, next: Next<'_>) -> Result<Response> {
    match request.header("shortcut") {
        Some(text) => Ok(Response::text(text)),
        None => next.run(request),
    }
}

#[before(all)]
pub(crate) fn before_all() {
    trace("before all");
}

#[before(command)]
pub(crate) fn before_commands(request: &Request) -> Result<()> {
    trace("before commands");
    match request.header("stop") {
        Some(text) => Err(Error::rejected(text)),
        None => Ok(()),
    }
}

#[before(event)]
pub(crate) fn before_events() {
    trace("before events");
}

#[after(command)]
pub(crate) fn after_commands(response: &mut Response, ctx: &Context) -> Result<()> {
    trace("after commands");
    response.set_header("after", "commands");
    match ctx.header("late") {
        Some(text) => Err(Error::failed(text)),
        None => Ok(()),
    }
}

#[after(query)]
pub(crate) fn after_queries() {
    trace("after queries");
}

pub(crate) fn polite(request: &Request, _: &Context) -> Result<bool> {
    trace("polite");
    match request.header("rude") {
        Some(text) => Err(Error::rejected(text)),
        None => Ok(true),
    }
}

pub(crate) fn ready(_: &Request, ctx: &Context) -> Result<bool> {
    trace("ready");
    Ok(ctx.state().get("ready")?.is_some())
}
