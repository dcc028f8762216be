//! `sandbar plugins shadow`: what is asked, and what came of the copies, as it is printed.
//!
//! What differs is found by the host.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;
use sandbar::clock;
use sandbar::deploy::{Question, ShadowStatus};
use sandbar::rollout::Share;
use serde_json::{Value, json};

use super::super::Usage;
use super::super::moment::{age, moment};
use super::super::table::Table;
use super::super::terminal;
use super::show::short;

/// Of what a version gets copies.
#[derive(Debug, Clone, Copy, Args)]
pub(super) struct Copies {
    /// Of how much of the messages, like 10% [default: 100%]
    #[arg(long, value_name = "SHARE", requires = "file")]
    share: Option<Part>,
    /// Of so many messages [default: until it is stopped, or another version is live]
    #[arg(long, value_name = "N", requires = "file", value_parser = clap::value_parser!(u64).range(1..))]
    messages: Option<u64>,
    /// No more copies; show what came of them
    #[arg(long, conflicts_with = "file")]
    stop: bool,
}

/// A share, or everything.
#[derive(Debug, Clone, Copy)]
struct Part(Option<Share>);

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "100%" => Ok(Self(None)),
            _ => text.parse().map(|share| Self(Some(share))),
        }
    }
}

impl Copies {
    pub(super) fn question(self, name: String, file: Option<&Path>) -> Result<Question, Usage> {
        let Some(file) = file else {
            return Ok(match self.stop {
                true => Question::Unshadow { name },
                false => Question::Compared { name },
            });
        };
        let (file, digest): (PathBuf, String) = super::component(file)?;
        Ok(Question::Shadow {
            name,
            file,
            digest,
            who: super::who(),
            share: self.share.and_then(|Part(share)| share),
            messages: self.messages,
        })
    }
}

/// The report of a version.
pub(super) fn show(status: &ShadowStatus) -> anyhow::Result<()> {
    let [first, second] = rows(status);
    let mut text = format!("{}\n  {}\n  {}\n", status.name, first.1, second.1);
    if !status.compared.first.is_empty() {
        let mut table = Table::new(&["message", "topic", "what", "live", "shadow"]);
        for message in &status.compared.first {
            for difference in &message.differences {
                table.row([
                    message.identifier.to_string(),
                    message.topic.clone(),
                    difference.what.clone(),
                    difference.live.clone(),
                    difference.shadow.clone(),
                ]);
            }
        }
        text.push('\n');
        text.push_str(&table.text());
    }
    terminal::data(text.as_bytes())
}

/// Its lines among everything about its plugin.
pub(super) fn rows(status: &ShadowStatus) -> [(&'static str, String); 2] {
    let since = age(status.since_ms, clock::now_ms());
    let share = status
        .share
        .map_or_else(|| "all".to_owned(), |share| share.to_string());
    let is = if status.ended { "was" } else { "is" };
    let compared = &status.compared;
    [
        (
            "shadow",
            format!(
                "{} {is} compared on copies of {share} messages, begun {since} ago by {}",
                short(&status.digest),
                status.who
            ),
        ),
        (
            "",
            format!(
                "{} same, {} different, {} skipped, {} not comparable",
                compared.same, compared.different, compared.skipped, compared.incomparable
            ),
        ),
    ]
}

pub(super) fn json(status: &ShadowStatus) -> Value {
    let compared = &status.compared;
    json!({
        "name": status.name,
        "digest": status.digest,
        "since": moment(status.since_ms),
        "by": status.who,
        "share": status.share.map_or_else(|| "100%".to_owned(), |share| share.to_string()),
        "ended": status.ended,
        "same": compared.same,
        "different": compared.different,
        "skipped": compared.skipped,
        "not_comparable": compared.incomparable,
        "first": compared.first,
    })
}
