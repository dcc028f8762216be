//! `sandbar config`: checks the configuration, shows what comes of it, or describes what can be written.
//!
//! Connects to nothing and loads no plugin.

use clap::{Args, Subcommand};
use sandbar::config::{self, Shown};
use sandbar::control::ServedPlugin;
use serde_json::{Map, Value, json};

use super::terminal::{self, note};
use super::{Ended, options};

/// Check, show or describe the configuration.
#[derive(Debug, Args)]
pub(super) struct Config {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Say everything that `sandbar run` would refuse; reads every file that is named and connects to nothing
    Check {
        #[command(flatten)]
        host: options::HostOptions,
    },
    /// Print the effective configuration and where each value comes from; secrets stay hidden
    Show {
        #[command(flatten)]
        host: options::HostOptions,
        /// Print a JSON object
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of sandbar.toml, for editors
    Schema,
}

impl Config {
    pub(super) fn host(&self) -> Option<&options::HostOptions> {
        match &self.verb {
            Verb::Check { host } | Verb::Show { host, .. } => Some(host),
            Verb::Schema => None,
        }
    }

    /// Whether it wants to know what would be served.
    pub(super) fn checks(&self) -> bool {
        matches!(self.verb, Verb::Check { .. })
    }

    /// Whether it is about the format, and not about a configuration.
    pub(super) fn describes(&self) -> bool {
        matches!(self.verb, Verb::Schema)
    }

    pub(super) fn run(
        self,
        config: &config::Config,
        plugins: &[ServedPlugin],
    ) -> anyhow::Result<Ended> {
        match self.verb {
            Verb::Check { .. } => {
                let file = match &config.file {
                    Some(file) => format!("{} is valid", file.display()),
                    None => format!("there is no {}", config::DEFAULT_FILE),
                };
                note(format!("{file}; plugins: {}", plugins.len()));
            }
            Verb::Show { json: true, .. } => terminal::json(&as_json(config))?,
            Verb::Show { json: false, .. } => terminal::data(as_text(config).as_bytes())?,
            Verb::Schema => terminal::line(serde_json::to_string_pretty(&config::schema())?)?,
        }
        Ok(Ended::Done)
    }
}

/// A file that would say the same, with the sources as comments.
fn as_text(config: &config::Config) -> String {
    let mut text = match &config.file {
        Some(file) => format!("# {}\n", file.display()),
        None => "# no configuration file\n".to_owned(),
    };
    let mut table: Vec<String> = Vec::new();
    for entry in config.shown() {
        let Some((key, tables)) = entry.keys.split_last() else {
            continue;
        };
        if table != tables {
            let names: Vec<String> = tables.iter().map(|name| bare_or_quoted(name)).collect();
            text.push_str(&format!("\n[{}]\n", names.join(".")));
            table = tables.to_owned();
        }
        let value = entry
            .value
            .as_ref()
            .and_then(|value| toml::Value::try_from(value).ok());
        let line = match value {
            Some(value) => format!("{} = {value}", bare_or_quoted(key)),
            None => format!("# {key} is not set"),
        };
        text.push_str(&format!("{line:<40} # {}\n", origin(&entry)));
    }
    text
}

/// A key as TOML takes it.
fn bare_or_quoted(key: &str) -> String {
    let bare = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !key.is_empty() && key.chars().all(bare) {
        key.to_owned()
    } else {
        toml::Value::from(key).to_string()
    }
}

fn origin(entry: &Shown) -> String {
    let source = entry.source.as_str();
    match entry.keys.as_slice() {
        [_, _, table, _] if entry.inherited => format!("{source}, [defaults.{table}]"),
        _ => source.to_owned(),
    }
}

/// Nested tables, each value with its source.
fn as_json(config: &config::Config) -> Value {
    let mut shown = Map::new();
    shown.insert("file".to_owned(), json!(config.file));
    for entry in config.shown() {
        let leaf = json!({ "value": entry.value, "source": origin(&entry) });
        put(&mut shown, &entry.keys, leaf);
    }
    Value::Object(shown)
}

fn put(table: &mut Map<String, Value>, keys: &[String], leaf: Value) {
    match keys {
        [] => {}
        [key] => {
            table.insert(key.clone(), leaf);
        }
        [key, rest @ ..] => {
            let inner = table
                .entry(key)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                put(inner, rest, leaf);
            }
        }
    }
}
