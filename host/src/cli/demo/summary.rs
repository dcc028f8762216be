//! What the demo has seen: the numbers, what they say, and whether they can be true.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cli::terminal::{count, printable, rate, time};

/// Everything that was counted.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    pub(super) events: u64,
    pub(super) rejected: u64,
    pub(super) stats: Stats,
    /// Alerts that arrived at a subscriber.
    pub(super) alerts: u64,
    /// The greatest magnitude among the events, read from the input.
    pub(super) greatest: Option<f64>,
    #[serde(serialize_with = "seconds")]
    pub(super) publishing: Duration,
    #[serde(serialize_with = "seconds")]
    pub(super) handling: Duration,
    pub(super) requests: u64,
    pub(super) replies: u64,
    #[serde(serialize_with = "seconds")]
    pub(super) asking: Duration,
    #[serde(serialize_with = "seconds")]
    pub(super) p50: Duration,
    #[serde(serialize_with = "seconds")]
    pub(super) p99: Duration,
}

/// The reply to `quake.stats`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Stats {
    pub(super) count: u64,
    regions: Vec<Region>,
    strongest: Option<Strongest>,
    mean_magnitude: Option<f64>,
    pub(super) alerts: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Region {
    region: String,
    count: u64,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Strongest {
    magnitude: f64,
    place: String,
}

fn seconds<S: serde::Serializer>(duration: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(duration.as_secs_f64())
}

impl Summary {
    /// Sums that are not right, in words.
    pub(super) fn wrong(&self) -> Vec<String> {
        let stats = &self.stats;
        let mut wrong = Vec::new();
        let mut equal = |what: &str, found: u64, expected: u64| {
            if found != expected {
                wrong.push(format!("{what}: {found}, and {expected} were expected"));
            }
        };
        equal(
            "events counted or rejected",
            stats.count + self.rejected,
            self.events,
        );
        equal("alerts received", self.alerts, stats.alerts);
        equal("replies", self.replies, self.requests);
        let strongest = stats
            .strongest
            .as_ref()
            .map(|strongest| strongest.magnitude);
        if strongest != self.greatest {
            wrong.push(format!(
                "the strongest quake: {strongest:?}, and {:?} is in the input",
                self.greatest
            ));
        }
        wrong
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stats, .. } = self;
        writeln!(
            f,
            "events     {} published, {} counted, {} rejected",
            count(self.events),
            count(stats.count),
            count(self.rejected)
        )?;
        writeln!(
            f,
            "           published in {}, handled after {}: {} events/s",
            time(self.publishing),
            time(self.handling),
            rate(self.events, self.handling)
        )?;
        writeln!(
            f,
            "replies    {} of {} requests, 32 in flight: {} requests/s",
            count(self.replies),
            count(self.requests),
            rate(self.requests, self.asking)
        )?;
        writeln!(
            f,
            "           request to reply: p50 {}, p99 {}",
            time(self.p50),
            time(self.p99)
        )?;
        writeln!(
            f,
            "alerts     {} published by the plugin, {} received",
            count(stats.alerts),
            count(self.alerts)
        )?;
        for (position, region) in stats.regions.iter().enumerate() {
            let label = if position == 0 { "regions" } else { "" };
            writeln!(
                f,
                "{label:<10} {:<24} {:>5}",
                printable(&region.region),
                count(region.count)
            )?;
        }
        if let Some(strongest) = &stats.strongest {
            writeln!(
                f,
                "strongest  magnitude {}, {}",
                strongest.magnitude,
                printable(&strongest.place)
            )?;
        }
        if let Some(mean) = stats.mean_magnitude {
            writeln!(f, "mean       magnitude {mean:.2}")?;
        }
        let verdict = if self.wrong().is_empty() {
            "the numbers add up"
        } else {
            "the numbers do not add up"
        };
        writeln!(f, "{verdict}; nothing is left behind")?;
        writeln!(f, "\nwhat to try next")?;
        writeln!(
            f,
            "  sandbar run FILE.wasm            serve a plugin of your own"
        )?;
        writeln!(
            f,
            "  sandbar request TOPIC CONTENT    ask it something, from another terminal"
        )?;
        writeln!(
            f,
            "  sandbar inspect FILE.wasm        see what a component is"
        )
    }
}
