//! Whether the shop is open: a flag in state, set by two commands and read by a check.

use sandbar_guest::{Context, Request, Result, command};

use crate::around::staff;

/// Set while the shop is closed.
const CLOSED: &str = "closed";

/// Lets orders through again.
#[command("shop.open", middleware(staff))]
pub(crate) fn open(ctx: &Context) -> Result<()> {
    Ok(ctx.state().delete(CLOSED)?)
}

/// Puts orders off.
#[command("shop.close", middleware(staff))]
pub(crate) fn close(ctx: &Context) -> Result<()> {
    Ok(ctx.state().set(CLOSED, "")?)
}

/// The check that orders wait for.
pub(crate) fn is_open(_: &Request, ctx: &Context) -> Result<bool> {
    Ok(ctx.state().get(CLOSED)?.is_none())
}
