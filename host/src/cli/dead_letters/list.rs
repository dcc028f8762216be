//! `sandbar dead-letters list`: one line for each.

use clap::Args;
use sandbar::config::Config;
use sandbar::store::{LetterPage, LetterSummary};
use serde_json::{Value, json};

use super::super::moment::moment;
use super::super::table::Table;
use super::super::terminal::{self, note};
use super::super::{Ended, broker};
use super::filter::Filter;

/// The most bytes of an error in a line.
const ERROR: usize = 80;

/// List dead letters, the newest first.
#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    filter: Filter,
    /// How many to list at most
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    /// Only those with smaller numbers, to go on where an earlier list ended
    #[arg(long, value_name = "ID")]
    before: Option<u64>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

impl List {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<Ended> {
        let mut broker = broker::look(config).await?;
        let store = broker.store();
        let filter = self.filter.letters();
        let page = store.letters(&filter, self.before, self.limit as usize);
        let page = page.await;
        let counts = store.count_letters(&filter).await;
        broker.close().await;
        let (page, counts) = (page?, counts?);
        if self.json {
            terminal::json(&as_json(&page, counts.total()))?;
            return Ok(Ended::Done);
        }
        if page.letters.is_empty() {
            note("no dead letters");
            return Ok(Ended::Done);
        }
        terminal::data(as_text(&page).as_bytes())?;
        if let Some(next) = page.next {
            note(format!(
                "{} of {}; go on with `--before {next}`",
                page.letters.len(),
                terminal::count(counts.total())
            ));
        }
        Ok(Ended::Done)
    }
}

fn as_text(page: &LetterPage) -> String {
    let headings = ["id", "ended", "reason", "tries", "plugin", "topic", "error"];
    let mut table = Table::new(&headings).right(&[0, 3]);
    for letter in &page.letters {
        let mut error: String = letter.error.chars().take(ERROR).collect();
        if error.len() < letter.error.len() {
            error.push('…');
        }
        table.row([
            letter.id.to_string(),
            moment(letter.at_ms),
            letter.reason.to_string(),
            letter.attempts.to_string(),
            letter.plugin.clone().unwrap_or_else(|| "-".to_owned()),
            letter.topic.clone(),
            error,
        ]);
    }
    table.text()
}

fn as_json(page: &LetterPage, total: u64) -> Value {
    let letters: Vec<Value> = page.letters.iter().map(summary).collect();
    json!({ "letters": letters, "total": total, "next": page.next })
}

fn summary(letter: &LetterSummary) -> Value {
    json!({
        "id": letter.id,
        "ended": moment(letter.at_ms),
        "first": moment(letter.first_ms),
        "reason": letter.reason,
        "error": letter.error,
        "attempts": letter.attempts,
        "plugin": letter.plugin,
        "queue": letter.queue,
        "topic": letter.topic,
        "identifier": letter.identifier,
        "bytes": letter.bytes,
    })
}
