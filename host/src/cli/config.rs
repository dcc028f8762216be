//! `sandbar config`: checks the configuration, or shows what comes of it.
//!
//! Connects to nothing and loads no plugin.

use std::fmt;

use clap::{Args, Subcommand};
use sandbar::config::{self, Size, Sourced, Time};
use sandbar::plugin::Limits;
use sandbar::wire::Form;
use serde_json::{Value, json};

use super::terminal::{self, note};
use super::{Ended, options};

/// Check or show the configuration.
#[derive(Debug, Args)]
pub(super) struct Config {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Say whether `sandbar run` would take it; reads every file that it names and connects to nothing
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
}

impl Config {
    pub(super) fn host(&self) -> &options::HostOptions {
        match &self.verb {
            Verb::Check { host } | Verb::Show { host, .. } => host,
        }
    }

    pub(super) fn run(self, config: &config::Config) -> anyhow::Result<Ended> {
        match self.verb {
            Verb::Check { .. } => {
                let plugins = config.served(&[])?;
                match &config.file {
                    Some(file) => note(format!(
                        "{} is valid; plugins: {}",
                        file.display(),
                        plugins.len()
                    )),
                    None => note(format!(
                        "there is no sandbar.toml; plugins: {}",
                        plugins.len()
                    )),
                }
            }
            Verb::Show { json: true, .. } => terminal::json(&as_json(config))?,
            Verb::Show { json: false, .. } => terminal::data(as_text(config).as_bytes())?,
        }
        Ok(Ended::Done)
    }
}

/// The top level as name, value and source.
fn settings(config: &config::Config) -> [(&'static str, Option<String>, &'static str); 5] {
    fn row<T>(
        name: &'static str,
        setting: &Sourced<T>,
        text: impl FnOnce(&T) -> Option<String>,
    ) -> (&'static str, Option<String>, &'static str) {
        (name, text(&setting.value), setting.source.as_str())
    }
    [
        row("data", &config.data, |data| {
            Some(data.display().to_string())
        }),
        row("group", &config.group, |group| Some(group.clone())),
        row("grace", &config.grace, |grace| {
            Some(Time(*grace).to_string())
        }),
        row("plugin_dir", &config.plugin_dir, |dir| {
            dir.as_ref().map(|dir| dir.display().to_string())
        }),
        row("log", &config.log, Clone::clone),
    ]
}

fn as_text(config: &config::Config) -> String {
    let mut text = match &config.file {
        Some(file) => format!("# {}\n", file.display()),
        None => "# no configuration file\n".to_owned(),
    };
    for (name, value, source) in settings(config) {
        let value = value.map_or_else(
            || "# not set".to_owned(),
            |value| format!("{name} = {value:?}"),
        );
        let value = if value.starts_with('#') {
            format!("# {name} is not set")
        } else {
            value
        };
        text.push_str(&format!("{value:<40} # {source}\n"));
    }
    for (name, plugin) in &config.plugins {
        text.push_str(&format!("\n[plugins.{name}]\n"));
        let mut put =
            |key: &str, value: &dyn fmt::Display| text.push_str(&format!("{key} = {value}\n"));
        if let Some(file) = &plugin.file {
            put("file", &format!("{:?}", file.display().to_string()));
        }
        if let Some(digest) = &plugin.digest {
            put("digest", &format!("{digest:?}"));
        }
        if let Some(subscribe) = &plugin.grants.subscribe {
            put("subscribe", &list(subscribe));
        }
        put("publish", &list(&plugin.grants.publish));
        put("request", &list(&plugin.grants.request));
        put("state", &plugin.grants.state);
        let config = plugin
            .settings
            .iter()
            .map(|(key, value)| format!("{key:?} = {:?}", value.to_string()));
        let config: Vec<String> = config.collect();
        put(
            "config",
            &if config.is_empty() {
                "{}".to_owned()
            } else {
                format!("{{ {} }}", config.join(", "))
            },
        );
        put("wire", &format!("{:?}", form(plugin.form)));
        text.push_str(&format!("[plugins.{name}.limits]\n"));
        for (key, value) in limits(&plugin.limits) {
            text.push_str(&format!("{key} = {value}\n"));
        }
        let retry = &plugin.retry;
        text.push_str(&format!(
            "[plugins.{name}.retry]\nmax_attempts = {}\ninitial = \"{}\"\nmultiplier = {:?}\nmax = \"{}\"\n",
            retry.max_attempts,
            Time(retry.initial),
            retry.multiplier,
            Time(retry.max)
        ));
    }
    text
}

fn as_json(config: &config::Config) -> Value {
    let mut shown = serde_json::Map::new();
    shown.insert("file".to_owned(), json!(config.file));
    for (name, value, source) in settings(config) {
        shown.insert(name.to_owned(), json!({ "value": value, "source": source }));
    }
    let plugins = config.plugins.iter().map(|(name, plugin)| {
        let patterns = |list: &[sandbar::topic::Pattern]| -> Value {
            list.iter().map(sandbar::topic::Pattern::as_str).collect()
        };
        let shown = json!({
            "file": plugin.file,
            "digest": plugin.digest,
            "subscribe": plugin.grants.subscribe.as_deref().map(patterns),
            "publish": patterns(&plugin.grants.publish),
            "request": patterns(&plugin.grants.request),
            "state": plugin.grants.state,
            "config": plugin.settings,
            "wire": form(plugin.form),
            "limits": limits(&plugin.limits).into_iter().collect::<serde_json::Map<_, _>>(),
            "retry": {
                "max_attempts": plugin.retry.max_attempts,
                "initial": Time(plugin.retry.initial).to_string(),
                "multiplier": plugin.retry.multiplier,
                "max": Time(plugin.retry.max).to_string(),
            },
        });
        (name.clone(), shown)
    });
    shown.insert("plugins".to_owned(), Value::Object(plugins.collect()));
    Value::Object(shown)
}

fn form(form: Form) -> &'static str {
    match form {
        Form::Native => "native",
        Form::Json => "json",
    }
}

fn list(patterns: &[sandbar::topic::Pattern]) -> String {
    let names: Vec<String> = patterns
        .iter()
        .map(|pattern| format!("{:?}", pattern.as_str()))
        .collect();
    format!("[{}]", names.join(", "))
}

/// Every limit as it would be written.
fn limits(limits: &Limits) -> Vec<(String, Value)> {
    let size = |bytes: usize| json!(Size(u64::try_from(bytes).unwrap_or(u64::MAX)).to_string());
    [
        ("time", json!(Time(limits.time).to_string())),
        ("load_time", json!(Time(limits.load_time).to_string())),
        ("memory", size(limits.memory)),
        ("concurrency", json!(limits.concurrency)),
        ("content", size(limits.content)),
        ("headers", json!(limits.headers)),
        ("header_bytes", size(limits.header_bytes)),
        ("publishes", json!(limits.publishes)),
        ("publish_bytes", size(limits.publish_bytes)),
        ("log_lines", json!(limits.log_lines)),
        ("log_bytes", size(limits.log_bytes)),
        ("state_value", size(limits.state_value)),
        ("state_writes", json!(limits.state_writes)),
        ("file", json!(Size(limits.file).to_string())),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
    .collect()
}
