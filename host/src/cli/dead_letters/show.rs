//! `sandbar dead-letters show`: everything about one.

use std::path::PathBuf;

use clap::Args;
use sandbar::clock;
use sandbar::config::Config;
use sandbar::message::{CONTENT_TYPE, Message, Strategy};
use sandbar::store::{KeptLetter, Reason, Report};
use sandbar::wire::{self, Packet};
use serde::Serialize;
use serde_json::value::RawValue;

use super::super::moment::{age, moment};
use super::super::table::Table;
use super::super::terminal::{self, note, printable};
use super::super::{Ended, Usage, broker};
use super::no_such;
use super::preview::preview;
use super::report;

/// Show everything about a dead letter.
#[derive(Debug, Args)]
pub(super) struct Show {
    /// Its number
    #[arg(value_name = "ID")]
    id: u64,
    /// Write the content of the message as it is to a file (- for standard output), and nothing else
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    content: Option<PathBuf>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<Ended> {
        let mut broker = broker::look(config).await?;
        let letter = broker.store().letter(self.id).await;
        broker.close().await;
        let kept = letter?.ok_or_else(|| no_such(self.id))?;
        match &self.content {
            Some(file) if file.as_os_str() == "-" => terminal::data(content(&kept))?,
            Some(file) => {
                let name = file.display();
                std::fs::write(file, content(&kept))
                    .map_err(|error| Usage(format!("content file {name}: {error}")))?;
                note(format!("{} bytes in {name}", content(&kept).len()));
            }
            None if self.json => terminal::json(&Shown::new(&kept)?)?,
            None => terminal::data(as_text(&kept).as_bytes())?,
        }
        Ok(Ended::Done)
    }
}

fn content(kept: &KeptLetter) -> &[u8] {
    match &kept.letter.packet {
        Packet::Message(message) => &message.payload.content,
        Packet::Raw(raw) => &raw.body,
    }
}

fn as_text(kept: &KeptLetter) -> String {
    let letter = &kept.letter;
    let now = clock::now_ms();
    let mut rows: Vec<(&str, String)> = vec![
        ("reason", letter.reason.to_string()),
        ("error", letter.error.clone()),
        (
            "ended",
            format!("{}, {} ago", moment(letter.at_ms), age(letter.at_ms, now)),
        ),
        ("published", moment(kept.published_ms)),
        ("attempts", letter.attempts.to_string()),
    ];
    let optional = [
        ("plugin", letter.plugin.clone()),
        ("digest", letter.digest.clone()),
        ("queue", Some(letter.queue.clone())),
        ("route", kept.route.map(|route| route.to_string())),
        ("key", kept.key.as_deref().map(str::to_owned)),
    ];
    for (name, value) in optional {
        rows.extend(value.map(|value| (name, value)));
    }
    match &letter.packet {
        Packet::Message(message) => about(message, &mut rows),
        Packet::Raw(raw) => {
            rows.push(("topic", raw.topic.clone()));
            rows.extend(raw.broker_id.clone().map(|id| ("broker id", id)));
            for (name, value) in &raw.properties {
                rows.push(("property", format!("{name} = {value}")));
            }
        }
    }
    let mut text = format!("dead letter {}\n", kept.id);
    for (name, value) in rows {
        let value = printable(&value).replace('\n', "\n            ");
        text.push_str(&format!("  {name:<9} {value}\n"));
    }
    text.push_str("attempts\n");
    let mut table = Table::new(&["try", "ended", "reason", "error"]).right(&[0]);
    for failed in &kept.history.last {
        table.row([
            failed.attempt.to_string(),
            moment(failed.at_ms),
            failed.reason.to_string(),
            failed.error.clone(),
        ]);
    }
    text.push_str(&indent(&table.text()));
    if let Some(report) = &kept.history.report {
        text.push_str(&report::as_text(report));
    }
    let content = content(kept);
    let (kind, shown) = preview(content);
    match content.len() {
        0 => text.push_str("no content\n"),
        bytes => {
            text.push_str(&format!("content, {bytes} bytes of {kind}\n"));
            text.push_str(&indent(&shown));
        }
    }
    text
}

fn about(message: &Message, rows: &mut Vec<(&'static str, String)>) {
    rows.push(("message", message.identifier.to_string()));
    rows.push(("topic", message.topic.to_string()));
    if let Some(reply_topic) = &message.reply_topic {
        rows.push(("reply to", reply_topic.to_string()));
    }
    if message.strategy == Strategy::Multicast {
        rows.push(("strategy", "multicast".to_owned()));
    }
    if !message.ok() {
        rows.push(("status", message.payload.status.to_string()));
    }
    for (name, value) in message.payload.headers.iter() {
        rows.push(match name {
            CONTENT_TYPE => ("type", value.to_owned()),
            _ => ("header", format!("{name} = {value}")),
        });
    }
}

pub(super) fn indent(text: &str) -> String {
    let lines = text.lines().map(|line| format!("  {line}\n"));
    lines.collect()
}

/// As programs read it. The message is in the form of the JSON envelope, its content to the letter.
#[derive(Serialize)]
struct Shown<'a> {
    id: u64,
    reason: Reason,
    error: &'a str,
    published: String,
    first: String,
    ended: String,
    attempts: u32,
    history: Vec<Attempt<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    report: Option<&'a Report>,
    plugin: Option<&'a str>,
    digest: Option<&'a str>,
    queue: &'a str,
    route: Option<u32>,
    key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    raw: Option<Raw<'a>>,
}

#[derive(Serialize)]
struct Attempt<'a> {
    attempt: u32,
    ended: String,
    reason: Reason,
    error: &'a str,
}

/// What is no message.
#[derive(Serialize)]
struct Raw<'a> {
    topic: &'a str,
    broker_id: Option<&'a str>,
    properties: &'a [(String, String)],
    body: &'a [u8],
}

impl<'a> Shown<'a> {
    fn new(kept: &'a KeptLetter) -> anyhow::Result<Self> {
        let letter = &kept.letter;
        let (message, raw) = match &letter.packet {
            Packet::Message(message) => (
                Some(serde_json::from_slice(&wire::to_json(message)?)?),
                None,
            ),
            Packet::Raw(raw) => {
                let raw = Raw {
                    topic: &raw.topic,
                    broker_id: raw.broker_id.as_deref(),
                    properties: &raw.properties,
                    body: &raw.body,
                };
                (None, Some(raw))
            }
        };
        let attempts = kept.history.last.iter().map(|failed| Attempt {
            attempt: failed.attempt,
            ended: moment(failed.at_ms),
            reason: failed.reason,
            error: &failed.error,
        });
        Ok(Self {
            id: kept.id,
            reason: letter.reason,
            error: &letter.error,
            published: moment(kept.published_ms),
            first: moment(kept.history.first_ms),
            ended: moment(letter.at_ms),
            attempts: letter.attempts,
            history: attempts.collect(),
            report: kept.history.report.as_deref(),
            plugin: letter.plugin.as_deref(),
            digest: letter.digest.as_deref(),
            queue: &letter.queue,
            route: kept.route,
            key: kept.key.as_deref(),
            message,
            raw,
        })
    }
}
