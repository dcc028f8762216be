//! A handler that sees everything that changes from call to call, and fails. The tests make another version of it by writing
//! other words of the same length over these.

use std::hint::black_box;
use std::time::{Duration, UNIX_EPOCH};

use sandbar_guest::{Context, Error, Result, command, info};

/// Long enough to stand in the component in one piece.
static VERSION: &str = "first version of the replayed handler, in words that are too many to be folded into an instruction";

/// Reads the key `fail`, lists keys, counts in the key `replays`, asks `bad.context`, draws numbers, publishes all of it,
/// and fails. The other version publishes elsewhere and succeeds.
#[command("bad.replay")]
pub(crate) fn replay(ctx: &Context) -> Result<String> {
    let fail = ctx.state().get("fail")?.unwrap_or_default();
    let fail = String::from_utf8_lossy(&fail).into_owned();
    let keys = ctx.state().keys("")?.join(" ");
    let count = ctx.state().increment("replays", 1)?;
    let reply = ctx.request("bad.context", "from the replayed", Duration::from_secs(4))?;
    let context = String::from_utf8_lossy(reply.content()).into_owned();
    let now = ctx.now().duration_since(UNIX_EPOCH)?.as_nanos();
    let all = format!(
        "{} {fail} [{keys}] {count} {context} {now} {:?} {}",
        ctx.attempt(),
        ctx.random(4),
        ctx.uuid()
    );
    info!("{all}");
    if black_box(VERSION).starts_with("first") {
        ctx.publish("out.replay", all.clone())?;
        return Err(Error::failed(all));
    }
    ctx.publish("out.other", all.clone())?;
    Ok(all)
}
