//! Whether what was counted of two versions speaks for the one that is tried, against it, or not yet.
//!
//! Shares are compared by how likely it is that they differ by chance. It is looked again and again, so the bound grows
//! with the number of messages; otherwise some version would be rolled back by chance sooner or later.

use std::fmt;
use std::time::Duration;

use super::{Policy, Side};

/// What follows from the counts so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// Nothing yet, and what is waited for.
    Wait(String),
    /// It takes the place of the live version, and why.
    Promote(String),
    /// It goes, and why.
    RollBack(String),
}

/// One of a hundred is further away by chance.
const UNLIKELY: f64 = 2.33;
/// One of thirty thousand is: what is that clear needs no more messages.
const CLEAR: f64 = 4.0;
/// Less than that is never more than by chance.
const FEWEST: u64 = 3;
/// A p99 that is not longer than that of the live version by half of it and a millisecond is no slower one.
const SLOWER_US: u64 = 1_000;

/// Judges a version that is tried, by the counts of both sides and the time that has passed.
#[must_use]
pub fn judge(policy: &Policy, live: &Side, canary: &Side, passed: Duration) -> Judgement {
    let against = crashes(policy, live, canary)
        .or_else(|| {
            more(policy, live, canary, "failed", |side| {
                side.failed + side.crashed
            })
        })
        .or_else(|| more(policy, live, canary, "rejected", |side| side.rejected))
        .or_else(|| slower(policy, live, canary));
    if let Some(reason) = against {
        return Judgement::RollBack(reason);
    }
    let missing = |side: &Side| policy.min_messages.saturating_sub(side.messages());
    let (of_canary, of_live) = (missing(canary), missing(live));
    if of_canary > 0 || of_live > 0 {
        let side = |missing: u64, whose: &str| match missing {
            0 => None,
            1 => Some(format!("1 more message of the {whose}")),
            _ => Some(format!("{missing} more messages of the {whose}")),
        };
        let sides = [side(of_canary, "canary"), side(of_live, "live version")];
        let sides: Vec<String> = sides.into_iter().flatten().collect();
        return Judgement::Wait(format!("needs {}", sides.join(" and ")));
    }
    let same = "no worse than the live version";
    match policy.lasts_ms.map(Duration::from_millis) {
        None => Judgement::Wait(format!("{same} so far; it is promoted by hand")),
        Some(lasts) if passed < lasts => {
            let left = Duration::from_secs((lasts - passed).as_secs() + 1);
            let left = humantime::format_duration(left);
            Judgement::Wait(format!("{same} so far; it is promoted in {left}"))
        }
        Some(_) => Judgement::Promote(format!(
            "{same}: {}, and {} of the live version",
            Summary(canary),
            Summary(live)
        )),
    }
}

/// Crashes end it at once, unless the live version crashes as often.
fn crashes(policy: &Policy, live: &Side, canary: &Side) -> Option<String> {
    let often =
        |side: &Side, other: &Side| u128::from(side.crashed) * u128::from(other.messages().max(1));
    let more = canary.crashed > policy.max_crashes && often(canary, live) > often(live, canary);
    more.then(|| {
        format!(
            "{} crashed, and {} of the live version",
            of(canary.crashed, canary.messages()),
            of(live.crashed, live.messages())
        )
    })
}

/// Whether there is a larger part of something among its messages than among those of the live version.
fn more(
    policy: &Policy,
    live: &Side,
    canary: &Side,
    what: &str,
    count: impl Fn(&Side) -> u64,
) -> Option<String> {
    let (of_canary, of_live) = (
        (count(canary), canary.messages()),
        (count(live), live.messages()),
    );
    let fewest = of_canary.1.min(of_live.1);
    let bound = if fewest < policy.min_messages {
        CLEAR
    } else {
        bound(policy, fewest)
    };
    is_more(of_canary, of_live, bound).then(|| {
        format!(
            "{} {what}, and {} of the live version",
            of(of_canary.0, of_canary.1),
            of(of_live.0, of_live.1)
        )
    })
}

/// Whether more of its calls than of those of the live version take longer than these should.
fn slower(policy: &Policy, live: &Side, canary: &Side) -> Option<String> {
    let fewest = canary.messages().min(live.messages());
    if fewest < policy.min_messages {
        return None;
    }
    let (of_live, of_canary) = (live.times.percentile(99)?, canary.times.percentile(99)?);
    let too_long = of_live + (of_live / 2).max(SLOWER_US);
    let slow = |side: &Side| (side.times.above(too_long), side.times.count());
    let is = of_canary > too_long && is_more(slow(canary), slow(live), bound(policy, fewest));
    is.then(|| {
        format!(
            "p99 of {}, and {} of the live version",
            Milliseconds(of_canary),
            Milliseconds(of_live)
        )
    })
}

/// What is too far away after so many messages: it was looked many times on the way.
fn bound(policy: &Policy, messages: u64) -> f64 {
    let looks = messages as f64 / policy.min_messages.max(1) as f64;
    (UNLIKELY * UNLIKELY + 2.0 * looks.max(1.0).ln()).sqrt()
}

/// The z of two proportions, each a count of so many: of their angles, which are alike for rare failures as well, and with
/// the correction for small counts.
fn is_more((some, of): (u64, u64), (other_some, other_of): (u64, u64), bound: f64) -> bool {
    if some < FEWEST || other_of == 0 {
        return false;
    }
    let (n, m) = (of as f64, other_of as f64);
    let angle = |part: f64| 2.0 * part.clamp(0.0, 1.0).sqrt().asin();
    let less = angle((some as f64 - 0.5) / n);
    let more = angle((other_some as f64 + 0.5) / m);
    (less - more) / (1.0 / n + 1.0 / m).sqrt() > bound
}

fn of(some: u64, all: u64) -> String {
    format!("{some} of {all} messages")
}

/// A side in a few words.
struct Summary<'a>(&'a Side);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = self.0;
        let failed = side.failed + side.crashed;
        write!(f, "{failed} of {} messages failed", side.messages())?;
        if let Some(p99) = side.times.percentile(99) {
            write!(f, " (p99 {})", Milliseconds(p99))?;
        }
        Ok(())
    }
}

/// Microseconds, as people want them.
struct Milliseconds(u64);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0 as f64 / 1000.0;
        match ms {
            _ if ms < 10.0 => write!(f, "{ms:.2} ms"),
            _ if ms < 1000.0 => write!(f, "{ms:.0} ms"),
            _ => write!(f, "{:.1} s", ms / 1000.0),
        }
    }
}

#[cfg(test)]
mod tests;
