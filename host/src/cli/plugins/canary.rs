//! A version that is tried on a share of the messages, as `list` and `show` print it.
//!
//! What it did and what follows from that is the host's.

use sandbar::clock;
use sandbar::deploy::{CanaryStatus, PluginStatus, SideStatus};
use serde_json::{Value, json};

use super::super::moment::{age, moment};
use super::show::{dash, short};

/// Its row in the list of plugins.
pub(super) fn row(status: &PluginStatus, canary: &CanaryStatus) -> [String; 6] {
    [
        status.name.clone(),
        canary
            .version
            .map_or_else(dash, |number| number.to_string()),
        format!("canary {}", canary.share),
        canary.since_ms.map_or_else(dash, moment),
        canary.who.clone().unwrap_or_else(dash),
        short(&canary.digest),
    ]
}

/// Its lines among everything about its plugin.
pub(super) fn rows(canary: &CanaryStatus) -> [(&'static str, String); 4] {
    let number = canary
        .version
        .map_or_else(dash, |number| number.to_string());
    let now = clock::now_ms();
    let since = canary
        .since_ms
        .map_or_else(dash, |since| format!("{} ago", age(since, now)));
    let who = canary.who.clone().unwrap_or_else(dash);
    let share = canary.share;
    [
        (
            "canary",
            format!(
                "version {number} on {share} of the messages, {since}, by {who}, {}",
                short(&canary.digest)
            ),
        ),
        ("", format!("canary: {}", side(&canary.canary))),
        ("", format!("live:   {}", side(&canary.live))),
        ("", canary.verdict.clone()),
    ]
}

fn side(side: &SideStatus) -> String {
    let messages = match side.messages {
        1 => "1 message".to_owned(),
        count => format!("{count} messages"),
    };
    let (failed, rejected, crashed) = (side.failed, side.rejected, side.crashed);
    let p99 = side.p99_us.map_or_else(dash, milliseconds);
    format!("{messages}, {failed} failed, {rejected} rejected, {crashed} crashed, p99 {p99}")
}

fn milliseconds(us: u64) -> String {
    format!("{}.{:02} ms", us / 1000, us % 1000 / 10)
}

pub(super) fn json(canary: &CanaryStatus) -> Value {
    let side = |side: &SideStatus| {
        json!({
            "messages": side.messages,
            "failed": side.failed,
            "rejected": side.rejected,
            "crashed": side.crashed,
            "p50_us": side.p50_us,
            "p99_us": side.p99_us,
        })
    };
    json!({
        "version": canary.version,
        "digest": canary.digest,
        "since": canary.since_ms.map(moment),
        "by": canary.who,
        "share": canary.share.to_string(),
        "canary": side(&canary.canary),
        "live": side(&canary.live),
        "verdict": canary.verdict,
    })
}
