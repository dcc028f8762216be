//! What is due so seldom that no test meets it by chance.

use sandbar_guest::{Context, Error, Result, periodic};

/// Counts in the key `ticks` and publishes to `out.tick` when it was due; not as long as the key `fail` is set.
#[periodic("0 0 1 1 *")]
pub(crate) fn tick(ctx: &Context) -> Result<()> {
    ctx.state().increment("ticks", 1)?;
    ctx.publish("out.tick", ctx.header("due").unwrap_or("nobody knows"))?;
    match ctx.state().get("fail")? {
        Some(_) => Err(Error::retry("the key `fail` is set")),
        None => Ok(()),
    }
}
