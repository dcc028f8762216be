//! `sandbar dead-letters replay` and `purge`: what is done with a selection, part by part.
//!
//! Each part is one transaction of the store, so an end in the middle leaves every letter either done or as it was.

use clap::Args;
use sandbar::config::Config;
use sandbar::store::{
    LetterCounts, LetterFilter, LetterPart, LettersDone, ReplayTo, Store, StoreError,
};
use sandbar::topic::TopicName;
use serde::Serialize;

use super::super::options::parse;
use super::super::terminal::{self, Progress, note};
use super::super::{Ended, broker};
use super::filter::Selection;

/// Letters in one part.
const PART: usize = 500;
/// Of more letters that stay, only these are told apart.
const REFUSED: usize = 100;

/// Make messages of dead letters again.
///
/// Each goes to the queue that it came from, or to its topic when that queue is gone; it keeps its identifier and its
/// attempts begin anew. Exit code 1 when one could not be replayed; that one stays.
#[derive(Debug, Args)]
pub(super) struct Replay {
    #[command(flatten)]
    bulk: Bulk,
    /// Send each to the queues that are bound to its topic now; with =TOPIC, to that topic
    #[arg(
        long,
        value_name = "TOPIC",
        num_args = 0..=1,
        require_equals = true,
        value_parser = parse::<TopicName>
    )]
    to_topic: Option<Option<TopicName>>,
}

/// Remove dead letters for good.
#[derive(Debug, Args)]
pub(super) struct Purge {
    #[command(flatten)]
    bulk: Bulk,
}

/// What both have in common.
#[derive(Debug, Args)]
struct Bulk {
    #[command(flatten)]
    selection: Selection,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// What was done.
#[derive(Serialize)]
struct Report {
    action: &'static str,
    dry_run: bool,
    selected: u64,
    reasons: Vec<(String, u64)>,
    done: u64,
    refused_total: u64,
    refused: Vec<Refused>,
    missing: Vec<u64>,
}

/// A letter that stays, and why.
#[derive(Serialize)]
struct Refused {
    id: u64,
    error: String,
}

impl Replay {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<Ended> {
        let to = match self.to_topic {
            None => ReplayTo::Origin,
            Some(None) => ReplayTo::Topic,
            Some(Some(topic)) => ReplayTo::Other(topic),
        };
        self.bulk
            .run(config, "replayed", async |store, part| {
                store.replay_letters(part, &to).await
            })
            .await
    }
}

impl Purge {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<Ended> {
        self.bulk
            .run(config, "purged", async |store, part| {
                store.purge_letters(part).await
            })
            .await
    }
}

impl Bulk {
    async fn run(
        self,
        config: &Config,
        action: &'static str,
        act: impl AsyncFn(&dyn Store, &LetterPart) -> Result<LettersDone, StoreError>,
    ) -> anyhow::Result<Ended> {
        let filter = self.selection.letters()?;
        let mut broker = broker::look(config).await?;
        let store = broker.store();
        let report = async {
            let counts = store.count_letters(&filter).await?;
            let mut report = Report::new(action, self.dry_run, &counts);
            report.missing = missing(&*store, &filter).await?;
            if !self.dry_run {
                report.act(&*store, filter, counts.last, act).await?;
            }
            Ok(report)
        };
        let report: Result<Report, StoreError> = report.await;
        broker.close().await;
        let report = report?;
        if self.json {
            terminal::json(&report)?;
        } else {
            report.print()?;
        }
        let complete = report.missing.is_empty() && report.refused_total == 0;
        Ok(if complete { Ended::Done } else { Ended::Failed })
    }
}

/// Numbers that were named and that no letter of the selection has.
async fn missing(store: &dyn Store, filter: &LetterFilter) -> Result<Vec<u64>, StoreError> {
    let mut missing = Vec::new();
    for id in &filter.ids {
        let one = LetterFilter {
            ids: vec![*id],
            ..filter.clone()
        };
        if store.count_letters(&one).await?.total() == 0 {
            missing.push(*id);
        }
    }
    Ok(missing)
}

impl Report {
    fn new(action: &'static str, dry_run: bool, counts: &LetterCounts) -> Self {
        let reason = |(reason, count): &(sandbar::store::Reason, u64)| (reason.to_string(), *count);
        Self {
            action,
            dry_run,
            selected: counts.total(),
            reasons: counts.reasons.iter().map(reason).collect(),
            done: 0,
            refused_total: 0,
            refused: Vec::new(),
            missing: Vec::new(),
        }
    }

    /// Works on what there was when it began; what comes meanwhile is left alone, also a message that ends here again.
    async fn act(
        &mut self,
        store: &dyn Store,
        filter: LetterFilter,
        until: Option<u64>,
        act: impl AsyncFn(&dyn Store, &LetterPart) -> Result<LettersDone, StoreError>,
    ) -> Result<(), StoreError> {
        let Some(until) = until else { return Ok(()) };
        let progress = Progress::new(self.action, Some(self.selected));
        let mut part = LetterPart {
            filter,
            after: 0,
            until,
            limit: PART,
        };
        loop {
            let LettersDone {
                done,
                refused,
                next,
            } = act(store, &part)
                .await
                .inspect_err(|_| self.interrupted())?;
            self.done += done;
            self.refused_total += refused.len() as u64;
            let refused = refused.into_iter();
            let refused = refused.map(|(id, error)| Refused { id, error });
            self.refused
                .extend(refused.take(REFUSED.saturating_sub(self.refused.len())));
            progress.set(self.done);
            match next {
                Some(next) => part.after = next,
                None => return Ok(()),
            }
        }
    }

    /// Says how far it came.
    fn interrupted(&self) {
        if self.done > 0 {
            note(format!(
                "{} of {} {} for certain before it failed; `sandbar dead-letters list` shows what is left",
                terminal::count(self.done),
                terminal::count(self.selected),
                self.action
            ));
        }
    }

    fn print(&self) -> anyhow::Result<()> {
        let count = terminal::count;
        if self.dry_run {
            terminal::line(format!("{} would be {}", count(self.selected), self.action))?;
        } else {
            terminal::line(format!("{} {}", count(self.done), self.action))?;
        }
        for (reason, number) in &self.reasons {
            note(format!("  {reason}: {}", count(*number)));
        }
        for Refused { id, error } in &self.refused {
            note(format!("not {}: {id}: {error}", self.action));
        }
        let more = self.refused_total - self.refused.len() as u64;
        if more > 0 {
            note(format!(
                "not {}: {} more",
                self.action,
                terminal::count(more)
            ));
        }
        for id in &self.missing {
            note(format!(
                "not {}: {id}: there is no such dead letter",
                self.action
            ));
        }
        Ok(())
    }
}
