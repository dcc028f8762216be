//! `sandbar queues`: what waits where, and emptying a queue.

use std::time::Duration;

use clap::{Args, Subcommand};
use sandbar::backend::{BackendError, Overview, QueueName, QueueStatus};
use sandbar::clock;
use sandbar::config::{Config, Time};
use serde_json::{Value, json};

use super::moment::{age, moment};
use super::options::parse;
use super::table::Table;
use super::terminal::{self, count, note};
use super::{Ended, broker};

/// Look at what waits in the queues.
#[derive(Debug, Args)]
pub(super) struct Queues {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List all queues with how much waits in each
    List {
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Show everything about a queue
    Show {
        /// Its name, such as sandbar.orders
        #[arg(value_name = "NAME", value_parser = parse::<QueueName>)]
        name: QueueName,
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Remove everything that waits in a queue, for good; what is being handled goes on
    Purge {
        /// Its name, such as sandbar.orders
        #[arg(value_name = "NAME", value_parser = parse::<QueueName>)]
        name: QueueName,
        /// Only say how many messages would be removed
        #[arg(long)]
        dry_run: bool,
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
}

impl Queues {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<Ended> {
        let mut broker = broker::look(config).await?;
        let backend = broker.backend();
        let done = async {
            let overview = backend.overview().await?;
            match self.verb {
                Verb::List { json } => list(&overview, json),
                Verb::Show { name, json } => show(find(&overview, &name)?, json),
                Verb::Purge {
                    name,
                    dry_run,
                    json,
                } => {
                    let waiting = find(&overview, &name)?.waiting();
                    let purged = match dry_run {
                        true => waiting,
                        false => backend.purge_queue(&name).await?,
                    };
                    purged_text(&name, purged, dry_run, json)
                }
            }
        };
        let done = done.await;
        broker.close().await;
        done.map(|()| Ended::Done)
    }
}

fn find<'a>(overview: &'a Overview, name: &QueueName) -> anyhow::Result<&'a QueueStatus> {
    let mut queues = overview.queues.iter();
    let found = queues.find(|status| status.spec.name == *name);
    let unknown = || BackendError::UnknownQueue(name.clone());
    found.ok_or_else(|| {
        anyhow::anyhow!(
            "{}",
            unknown().to_string().replace(
                "declare it first",
                "`sandbar queues list` shows those that there are"
            )
        )
    })
}

fn purged_text(name: &QueueName, purged: u64, dry_run: bool, json: bool) -> anyhow::Result<()> {
    if json {
        return terminal::json(
            &json!({ "queue": name.as_str(), "messages": purged, "dry_run": dry_run }),
        );
    }
    let what = if dry_run { "would be purged" } else { "purged" };
    terminal::line(format!("{} {what}", count(purged)))
}

fn list(overview: &Overview, json: bool) -> anyhow::Result<()> {
    let now = clock::now_ms();
    if json {
        let queues: Vec<Value> = overview.queues.iter().map(|it| as_json(it, now)).collect();
        let (kept, beyond) = (overview.kept, &overview.beyond);
        return terminal::json(&match beyond {
            None => json!({ "queues": queues, "kept": kept }),
            Some(beyond) => json!({ "queues": queues, "kept": kept, "beyond": beyond }),
        });
    }
    if overview.queues.is_empty() {
        note("no queues");
    } else {
        let headings = [
            "queue",
            "ready",
            "in flight",
            "delayed",
            "retrying",
            "parked",
            "oldest",
            "receivers",
        ];
        let mut table = Table::new(&headings).right(&[1, 2, 3, 4, 5, 6, 7]);
        for status in &overview.queues {
            let oldest = status.oldest_ms.map(|oldest| age(oldest, now));
            table.row([
                status.spec.name.to_string(),
                count(status.ready),
                count(status.in_flight),
                count(status.delayed),
                count(status.retrying),
                count(status.parked),
                oldest.unwrap_or_else(|| "-".to_owned()),
                count(status.receivers),
            ]);
        }
        terminal::data(table.text().as_bytes())?;
    }
    if overview.kept > 0 {
        note(format!(
            "{} messages wait in topics to which no queue is bound",
            count(overview.kept)
        ));
    }
    if let Some(beyond) = &overview.beyond {
        note(beyond);
    }
    Ok(())
}

fn show(status: &QueueStatus, json: bool) -> anyhow::Result<()> {
    let now = clock::now_ms();
    if json {
        return terminal::json(&as_json(status, now));
    }
    let spec = &status.spec;
    let topics: Vec<&str> = spec.topics.iter().map(|topic| topic.as_str()).collect();
    let none = || "none".to_owned();
    let dead_letters = spec
        .dead_letter
        .as_ref()
        .map_or_else(none, ToString::to_string);
    let oldest = status.oldest_ms.map_or_else(none, |oldest| {
        format!("{} ago, {}", age(oldest, now), moment(oldest))
    });
    let rows = [
        ("group", spec.group.clone()),
        (
            "topics",
            if topics.is_empty() {
                none()
            } else {
                topics.join(", ")
            },
        ),
        ("dead letters also to", dead_letters),
        ("lease", Time(spec.lease).to_string()),
        (
            "lives",
            if spec.ephemeral {
                "as long as who declared it"
            } else {
                "until it is deleted"
            }
            .to_owned(),
        ),
        ("ready", count(status.ready)),
        ("in flight", count(status.in_flight)),
        ("delayed", count(status.delayed)),
        ("retrying", count(status.retrying)),
        ("parked", count(status.parked)),
        ("oldest", oldest),
        ("receivers", count(status.receivers)),
    ];
    let mut text = format!("{}\n", spec.name);
    for (name, value) in rows {
        text.push_str(&format!("  {name:<20}  {}\n", terminal::printable(&value)));
    }
    terminal::data(text.as_bytes())
}

fn as_json(status: &QueueStatus, now: i64) -> Value {
    let spec = &status.spec;
    let topics: Vec<&str> = spec.topics.iter().map(|topic| topic.as_str()).collect();
    let age = |oldest: i64| Duration::from_millis(now.saturating_sub(oldest).max(0).unsigned_abs());
    json!({
        "name": spec.name.as_str(),
        "group": spec.group,
        "topics": topics,
        "dead_letter": spec.dead_letter.as_ref().map(QueueName::as_str),
        "lease_ms": u64::try_from(spec.lease.as_millis()).unwrap_or(u64::MAX),
        "ephemeral": spec.ephemeral,
        "depth": status.depth(),
        "ready": status.ready,
        "in_flight": status.in_flight,
        "delayed": status.delayed,
        "retrying": status.retrying,
        "parked": status.parked,
        "oldest": status.oldest_ms.map(moment),
        "oldest_age_s": status.oldest_ms.map(|oldest| age(oldest).as_secs_f64()),
        "receivers": status.receivers,
    })
}
