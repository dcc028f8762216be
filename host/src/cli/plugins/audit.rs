//! `sandbar plugins audit`: the audit log of a data folder, whether a host runs on it or not.

use clap::Args;
use sandbar::config::Config;
use sandbar::registry::{self, AuditEntry};
use serde_json::json;

use super::super::Ended;
use super::super::moment::moment;
use super::super::table::Table;
use super::super::terminal::{self, note};
use super::Json;
use super::show::short;

/// What is listed.
#[derive(Debug, Args)]
pub(super) struct Audit {
    /// Only what happened to this plugin
    #[arg(value_name = "NAME")]
    name: Option<String>,
    /// The last so many entries
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    #[command(flatten)]
    json: Json,
}

impl Audit {
    pub(super) fn run(&self, config: &Config) -> anyhow::Result<Ended> {
        let (mut entries, illegible) = registry::audit_log(&config.data.value)?;
        if let Some(name) = &self.name {
            entries.retain(|entry| entry.plugin == *name);
        }
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        let earlier = entries.len().saturating_sub(limit);
        let entries = entries.split_off(earlier);
        if self.json.json {
            let listed: Vec<_> = entries.iter().map(as_json).collect();
            let all = json!({ "entries": listed, "earlier": earlier, "illegible": illegible });
            terminal::json(&all)?;
            return Ok(Ended::Done);
        }
        let headings = ["when", "plugin", "version", "event", "by", "digest", "why"];
        let mut table = Table::new(&headings).right(&[2]);
        for entry in &entries {
            table.row([
                moment(entry.at_ms),
                entry.plugin.clone(),
                entry
                    .number
                    .map_or_else(String::new, |number| number.to_string()),
                entry.event.as_str().to_owned(),
                entry.who.clone(),
                entry.digest.as_deref().map(short).unwrap_or_default(),
                entry.why.clone().unwrap_or_default(),
            ]);
        }
        terminal::data(table.text().as_bytes())?;
        if earlier > 0 {
            note(format!("{earlier} earlier entries; `--limit` shows more"));
        }
        if illegible > 0 {
            note(format!("{illegible} lines cannot be read"));
        }
        Ok(Ended::Done)
    }
}

fn as_json(entry: &AuditEntry) -> serde_json::Value {
    json!({
        "at": moment(entry.at_ms),
        "plugin": entry.plugin,
        "version": entry.number,
        "event": entry.event,
        "by": entry.who,
        "digest": entry.digest,
        "why": entry.why,
    })
}
