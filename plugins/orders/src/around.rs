//! What runs around the handlers of this plugin. Each of these knows nothing of orders.

use sandbar_guest::{
    Context, Error, Next, Request, Response, Result, after, before, info, middleware,
};

/// Nobody gives commands anonymously.
#[before(command)]
pub(crate) fn log_in(ctx: &Context) -> Result<()> {
    match ctx.user() {
        Some(_) => Ok(()),
        None => Err(Error::rejected("header `user`: commands need a user")),
    }
}

/// Puts the name of the shop on every reply.
#[after(all)]
pub(crate) fn sign(response: &mut Response, ctx: &Context) {
    let shop = ctx
        .config()
        .get("shop")
        .unwrap_or_else(|| "sandbar".to_owned());
    response.set_header("shop", shop);
}

/// Writes a line about how each call ended.
#[middleware]
pub(crate) fn audit(request: Request, ctx: &Context, next: Next<'_>) -> Result<Response> {
    let result = next.run(request);
    let ended = match &result {
        Ok(response) => response.current_status().code().to_string(),
        Err(error) => error.to_string(),
    };
    info!(topic = ctx.topic(), attempt = ctx.attempt(), "{ended}");
    result
}

/// Lets only members of staff in.
#[middleware]
pub(crate) fn staff(request: Request, next: Next<'_>) -> Result<Response> {
    match request.header("role") {
        Some("staff") => next.run(request),
        _ => Err(Error::rejected("header `role`: this is for `staff`")),
    }
}
