//! What a host answers about its plugins, for people and as JSON.

use std::collections::BTreeMap;

use sandbar::clock;
use sandbar::deploy::{Answer, Outcome, PluginStatus, Question};
use sandbar::registry::{Record, Verdict};
use serde_json::{Value, json};

use super::super::moment::{age, moment};
use super::super::table::Table;
use super::super::terminal::{self, note, printable};
use super::{canary, shadow};

/// Prints an answer; a refusal is an error.
pub(super) fn answer(question: &Question, answer: Answer, json: bool) -> anyhow::Result<()> {
    match answer {
        Answer::Refused(reason) => refused(question, &reason),
        Answer::Plugins(plugins) if json => {
            let plugins: Vec<Value> = plugins.iter().map(status_json).collect();
            terminal::json(&json!({ "plugins": plugins }))
        }
        Answer::Plugins(plugins) => list(&plugins),
        Answer::Plugin(status) if json => terminal::json(&status_json(&status)),
        Answer::Plugin(status) => show(&status),
        Answer::Served { outcome, version } if json => terminal::json(&json!({
            "name": version.name,
            "outcome": outcome,
            "version": version.number,
            "digest": version.digest,
        })),
        Answer::Served { outcome, version } => {
            let number = number(version.number);
            let is = match outcome {
                Outcome::Unchanged => "was live already",
                Outcome::Swapped => "is live",
            };
            terminal::line(format!(
                "{} {number} {is}, {}",
                version.name,
                short(&version.digest)
            ))
        }
        Answer::Tried { share, version } if json => terminal::json(&json!({
            "name": version.name,
            "outcome": "tried",
            "share": share.to_string(),
            "version": version.number,
            "digest": version.digest,
        })),
        Answer::Tried { share, version } => {
            let number = number(version.number);
            let digest = short(&version.digest);
            terminal::line(format!(
                "{} {number} is tried on {share} of the messages, {digest}",
                version.name
            ))
        }
        Answer::Withdrawn(version) if json => terminal::json(&json!({
            "name": version.name,
            "outcome": "withdrawn",
            "version": version.number,
            "digest": version.digest,
        })),
        Answer::Withdrawn(version) => {
            let number = number(version.number);
            terminal::line(format!(
                "{} {number} is withdrawn; the live version handles everything",
                version.name
            ))
        }
        Answer::Shadow(status) if json => terminal::json(&shadow::json(&status)),
        Answer::Shadow(status) => shadow::show(&status),
        Answer::Paused(paused) if json => terminal::json(&json!({ "paused": paused })),
        Answer::Paused(true) => {
            terminal::line("paused; what has begun is finished, everything else waits")
        }
        Answer::Paused(false) => terminal::line("resumed"),
        Answer::Removed { drained } if json => terminal::json(&json!({ "drained": drained })),
        Answer::Removed { drained: true } => {
            terminal::line("removed; its messages wait in its queue")
        }
        Answer::Removed { drained: false } => terminal::line(
            "removed; what was still being handled was broken off and waits with the others in its queue",
        ),
        Answer::History(versions) if json => {
            let versions: Vec<Value> = versions.iter().map(record_json).collect();
            terminal::json(&json!({ "versions": versions }))
        }
        Answer::History(versions) => history(&versions),
    }
}

fn refused(question: &Question, reason: &str) -> anyhow::Result<()> {
    let what = match question {
        Question::Deploy { .. } => "not deployed, and what was served before goes on: ",
        Question::Shadow { .. } => "not compared: ",
        Question::Promote { .. } => "not promoted, and what was served before goes on: ",
        Question::Rollback { .. } => "not rolled back, and what was served before goes on: ",
        _ => "",
    };
    anyhow::bail!("{what}{reason}")
}

fn list(plugins: &[PluginStatus]) -> anyhow::Result<()> {
    if plugins.is_empty() {
        note("no plugins");
        return Ok(());
    }
    let headings = ["plugin", "version", "state", "since", "by", "digest"];
    let mut table = Table::new(&headings).right(&[1]);
    for status in plugins {
        table.row([
            status.name.clone(),
            status
                .version
                .map_or_else(dash, |number| number.to_string()),
            status.state.as_str().to_owned(),
            status.since_ms.map_or_else(dash, moment),
            status.who.clone().unwrap_or_else(dash),
            short(&status.digest),
        ]);
        if let Some(canary) = &status.canary {
            table.row(canary::row(status, canary));
        }
    }
    terminal::data(table.text().as_bytes())
}

fn show(status: &PluginStatus) -> anyhow::Result<()> {
    let now = clock::now_ms();
    let since = status.since_ms.map_or_else(dash, |since| {
        format!("{}, {} ago", moment(since), age(since, now))
    });
    let mut rows = vec![
        ("state", status.state.as_str().to_owned()),
        (
            "version",
            status
                .version
                .map_or_else(dash, |number| number.to_string()),
        ),
        ("since", since),
        ("by", status.who.clone().unwrap_or_else(dash)),
        ("digest", status.digest.clone()),
    ];
    if let Some(trouble) = &status.trouble {
        rows.insert(1, ("trouble", trouble.clone()));
    }
    if !status.queue.is_empty() {
        let instead = if status.deployed {
            ", instead of what is in the folder of plugins"
        } else {
            ""
        };
        rows.push(("file", format!("{}{instead}", status.file)));
        rows.push(("queue", status.queue.clone()));
        rows.push(("may", status.grants.clone()));
    }
    if let Some(weight) = status.weight {
        rows.push(("weight", weight.to_string()));
    }
    if !status.limits_hit.is_empty() {
        let hit = status.limits_hit.iter();
        let hit: Vec<String> = hit
            .map(|(limit, count)| format!("{limit} {count}"))
            .collect();
        rows.push(("limits", format!("hit: {}", hit.join(", "))));
    }
    for (kind, topic, description) in &status.routes {
        rows.push((kind, format!("{topic:<24} {description}")));
    }
    if status.before > 0 {
        let text = "still handles what waited for routes that this version doesn't have";
        rows.push(("before", format!("an earlier version {text}")));
    }
    if let Some(canary) = &status.canary {
        rows.extend(canary::rows(canary));
    }
    if let Some(shadow) = &status.shadow {
        rows.extend(shadow::rows(shadow));
    }
    let mut text = format!("{}\n", status.name);
    for (name, value) in rows {
        text.push_str(&format!("  {name:<9}  {}\n", printable(value.trim_end())));
    }
    terminal::data(text.as_bytes())
}

fn history(versions: &[Record]) -> anyhow::Result<()> {
    let headings = ["version", "when", "by", "digest", "result"];
    let mut table = Table::new(&headings).right(&[0]);
    for record in versions {
        let result = match (&record.verdict, record.back_to) {
            (Verdict::Served, Some(number)) => format!("served, back to version {number}"),
            (Verdict::Served, None) => "served".to_owned(),
            (Verdict::Failed(reason), _) => format!("refused: {reason}"),
            (Verdict::Removed, _) => "removed".to_owned(),
            (Verdict::Tried, _) => "tried on a share of the messages".to_owned(),
            (Verdict::Withdrawn(reason), _) => format!("withdrawn: {reason}"),
        };
        table.row([
            record.number.to_string(),
            moment(record.at_ms),
            record.who.clone(),
            short(&record.digest),
            result,
        ]);
    }
    terminal::data(table.text().as_bytes())
}

fn status_json(status: &PluginStatus) -> Value {
    let routes: Vec<Value> = status
        .routes
        .iter()
        .map(|(kind, topic, description)| {
            json!({ "kind": kind, "topic": topic, "description": description })
        })
        .collect();
    json!({
        "name": status.name,
        "state": status.state,
        "trouble": status.trouble,
        "version": status.version,
        "digest": status.digest,
        "since": status.since_ms.map(moment),
        "by": status.who,
        "file": status.file,
        "deployed": status.deployed,
        "queue": status.queue,
        "routes": routes,
        "grants": status.grants,
        "weight": status.weight,
        "limits_hit": status.limits_hit.iter().cloned().collect::<BTreeMap<_, _>>(),
        "before": status.before,
        "shadow": status.shadow.as_deref().map(shadow::json),
        "canary": status.canary.as_deref().map(canary::json),
    })
}

fn record_json(record: &Record) -> Value {
    let (result, reason) = match &record.verdict {
        Verdict::Served => ("served", None),
        Verdict::Failed(reason) => ("refused", Some(reason)),
        Verdict::Removed => ("removed", None),
        Verdict::Tried => ("tried", None),
        Verdict::Withdrawn(reason) => ("withdrawn", Some(reason)),
    };
    json!({
        "version": record.number,
        "at": moment(record.at_ms),
        "by": record.who,
        "digest": record.digest,
        "result": result,
        "reason": reason,
        "back_to": record.back_to,
    })
}

fn number(number: Option<u64>) -> String {
    number.map_or_else(
        || "without a number".to_owned(),
        |number| format!("version {number}"),
    )
}

pub(super) fn short(digest: &str) -> String {
    digest.chars().take("sha256:".len() + 12).collect()
}

pub(super) fn dash() -> String {
    "-".to_owned()
}
