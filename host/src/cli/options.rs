//! Options that several verbs share, and the environment variables of all of them.
//!
//! Flags win over the environment, the environment over the file; which of them spoke is kept, for `config show`.

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Command, ValueEnum};
use sandbar::config::{Options as Layers, Source, Sourced, Time};
use sandbar::telemetry::{self, LogFormat};

use super::Usage;

/// Options of every verb.
#[derive(Debug, Clone, Args)]
pub(super) struct Global {
    /// The configuration file [default: sandbar.toml, if there is one]
    #[arg(
        long,
        global = true,
        value_name = "FILE",
        env = "SANDBAR_CONFIG",
        hide_env_values = true,
        help_heading = "Global options"
    )]
    config: Option<PathBuf>,
    /// The folder of the embedded broker [default: sandbar-data]
    #[arg(
        long,
        global = true,
        value_name = "DIR",
        env = "SANDBAR_DATA",
        hide_env_values = true,
        help_heading = "Global options"
    )]
    data: Option<PathBuf>,
    /// What to log on standard error: error, warn, info, debug, trace, or a filter [default: info for run, else warn]
    #[arg(
        long,
        global = true,
        value_name = "LEVEL",
        env = "SANDBAR_LOG",
        hide_env_values = true,
        help_heading = "Global options"
    )]
    log: Option<String>,
    /// How to log it
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        env = "SANDBAR_LOG_FORMAT",
        hide_env_values = true,
        default_value = "text",
        hide_default_value = true,
        help_heading = "Global options"
    )]
    log_format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// Options of verbs that are about a host.
#[derive(Debug, Clone, Args)]
pub(super) struct HostOptions {
    /// A folder whose .wasm files are served [default: plugins, if there is one]
    #[arg(
        long,
        value_name = "DIR",
        env = "SANDBAR_PLUGINS",
        hide_env_values = true
    )]
    plugins: Option<PathBuf>,
    /// Hosts of one group share the messages [default: sandbar]
    #[arg(long, value_name = "NAME", env = "SANDBAR_GROUP", hide_env_values = true, value_parser = group)]
    group: Option<String>,
    /// How long stopping waits for what is being handled [default: 10s]
    #[arg(long, value_name = "DURATION", env = "SANDBAR_GRACE", hide_env_values = true, value_parser = parse::<Time>)]
    grace: Option<Time>,
}

/// What the command line and its environment say about the configuration.
#[derive(Debug)]
pub(super) struct Options {
    layers: Layers,
    format: LogFormat,
}

impl Options {
    pub(super) fn new(global: Global, host: Option<&HostOptions>, matches: &ArgMatches) -> Self {
        let source = |name| source(matches, name);
        let host = host.cloned();
        let (plugins, group, grace) = match host {
            Some(host) => (host.plugins, host.group, host.grace),
            None => (None, None, None),
        };
        Self {
            layers: Layers {
                config: global.config,
                data: global.data.map(|value| Sourced {
                    value,
                    source: source("data"),
                }),
                group: group.map(|value| Sourced {
                    value,
                    source: source("group"),
                }),
                grace: grace.map(|time| Sourced {
                    value: time.0,
                    source: source("grace"),
                }),
                plugin_dir: plugins.map(|value| Sourced {
                    value,
                    source: source("plugins"),
                }),
                log: global.log.map(|value| Sourced {
                    value,
                    source: source("log"),
                }),
            },
            format: match global.log_format {
                Format::Text => LogFormat::Text,
                Format::Json => LogFormat::Json,
            },
        }
    }

    pub(super) fn log_format(&self) -> LogFormat {
        self.format
    }

    pub(super) fn layers(self) -> Layers {
        self.layers
    }

    /// Starts the log of a verb that reads no configuration.
    pub(super) fn start_log(&self, filter: Option<&str>, default: &str) -> Result<(), Usage> {
        let said = self.layers.log.as_ref().map(|log| log.value.as_str());
        start_log(filter.or(said).unwrap_or(default), self.format)
    }
}

pub(super) fn start_log(filter: &str, format: LogFormat) -> Result<(), Usage> {
    telemetry::start(filter, format).map_err(Usage)
}

/// Whether the value of an option, of the verb that was used, came from the environment.
fn source(matches: &ArgMatches, name: &str) -> Source {
    let mut found = None;
    let mut level = Some(matches);
    while let Some(matches) = level {
        if matches.try_contains_id(name).is_ok() {
            found = matches.value_source(name).or(found);
        }
        level = matches.subcommand().map(|(_, inner)| inner);
    }
    match found {
        Some(ValueSource::EnvVariable) => Source::Env,
        _ => Source::Flag,
    }
}

/// A value parser over `FromStr`.
pub(super) fn parse<T: std::str::FromStr>(text: &str) -> Result<T, T::Err> {
    text.parse()
}

pub(super) fn group(text: &str) -> Result<String, String> {
    sandbar::config::check_group(text).map(|()| text.to_owned())
}

/// Gives every option that has none an environment variable, `SANDBAR_` with the verb's and its own name.
pub(super) fn with_environment(command: Command) -> Command {
    command.mut_subcommands(|verb| {
        let prefix = format!("SANDBAR_{}_", verb.get_name().to_ascii_uppercase());
        verb.mut_args(|argument| match argument.get_long().map(str::to_owned) {
            Some(long) if argument.get_env().is_none() && long != "help" => {
                let name = format!("{prefix}{}", long.replace('-', "_").to_ascii_uppercase());
                argument.env(name).hide_env(true)
            }
            _ => argument,
        })
    })
}
