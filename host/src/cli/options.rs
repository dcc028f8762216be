//! Options that several verbs share, and the environment variables of all of them.
//!
//! An option whose identifier is that of a key stands for that key of the configuration, which reads its variable and says
//! what is wrong with it; every other option has a variable of its own, which the command line reads.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Command, ValueEnum};
use sandbar::config::{self, FileChoice, Flags, Options as Layers, Time, variable};
use sandbar::telemetry::{self, LogFormat};

use super::Usage;

/// What the identifier of an option begins with that stands for a key of the configuration.
const KEY: &str = "key:";

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
    /// The data folder, which the socket of a running host is in as well [default: sandbar-data]
    #[arg(
        id = "key:data",
        long = "data",
        global = true,
        value_name = "DIR",
        help_heading = "Global options"
    )]
    data: Option<PathBuf>,
    /// What to log on standard error: error, warn, info, debug, trace, or a filter [default: info for run, else warn]
    #[arg(
        id = "key:log",
        long = "log",
        global = true,
        value_name = "LEVEL",
        help_heading = "Global options",
        value_parser = filter
    )]
    log: Option<String>,
    /// How to log it [default: text]
    #[arg(
        id = "key:log_format",
        long = "log-format",
        global = true,
        value_name = "FORMAT",
        help_heading = "Global options"
    )]
    log_format: Option<Format>,
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
    #[arg(id = "key:plugin_dir", long = "plugins", value_name = "DIR")]
    plugins: Option<PathBuf>,
    /// Hosts of one group share the messages [default: sandbar]
    #[arg(id = "key:group", long = "group", value_name = "NAME", value_parser = group)]
    group: Option<String>,
    /// Leave plugins and configuration as they were at the start, whatever becomes of their files
    #[arg(id = "key:watch", long = "no-watch")]
    no_watch: bool,
    /// How long stopping waits for what is being handled [default: 10s]
    #[arg(id = "key:grace", long = "grace", value_name = "DURATION", value_parser = parse::<Time>)]
    grace: Option<Time>,
    /// Answer /livez, /readyz and /metrics over HTTP at this address [default: nowhere]
    #[arg(id = "key:admin.listen", long = "admin", value_name = "ADDRESS", value_parser = config::address)]
    admin: Option<SocketAddr>,
}

/// What the configuration of a verb is made of: its options, and `environment`.
pub(super) fn layers(
    global: Global,
    host: Option<HostOptions>,
    other_variables: Vec<String>,
) -> Result<Layers, Usage> {
    let mut flags = Flags {
        data: global.data,
        log: global.log,
        log_format: global.log_format.map(|format| match format {
            Format::Text => LogFormat::Text,
            Format::Json => LogFormat::Json,
        }),
        ..Flags::default()
    };
    if let Some(host) = host {
        flags.plugin_dir = host.plugins;
        flags.watch = host.no_watch.then_some(false);
        flags.group = host.group;
        flags.grace = host.grace.map(|time| time.0);
        flags.admin = host.admin;
    }
    Ok(Layers {
        file: global.config.map_or(FileChoice::Usual, FileChoice::Named),
        environment: environment()?,
        other_variables,
        flags,
    })
}

/// The variables that are ours. One that is set to nothing counts as not set.
fn environment() -> Result<Vec<(String, String)>, Usage> {
    let mut found = Vec::new();
    for (name, value) in std::env::vars_os() {
        let Some(name) = name.to_str().filter(|name| name.starts_with("SANDBAR_")) else {
            continue;
        };
        let Some(value) = value.to_str() else {
            return Err(Usage(format!(
                "{name} is not UTF-8; write the value in UTF-8"
            )));
        };
        if !value.is_empty() {
            found.push((name.to_owned(), value.to_owned()));
        }
    }
    Ok(found)
}

/// Starts the log as the configuration says, `default` if it says nothing.
pub(super) fn start_log(config: &config::Config, default: &str) -> Result<(), Usage> {
    let filter = config.log.value.as_deref().unwrap_or(default);
    telemetry::start(filter, config.log_format.value).map_err(Usage)
}

/// A value parser over `FromStr`.
pub(super) fn parse<T: std::str::FromStr>(text: &str) -> Result<T, T::Err> {
    text.parse()
}

pub(super) fn group(text: &str) -> Result<String, String> {
    config::check_name(text).map(|()| text.to_owned())
}

fn filter(text: &str) -> Result<String, String> {
    telemetry::check_filter(text).map(|()| text.to_owned())
}

/// Gives every option its environment variable: that of its key, or `SANDBAR_` with the verb's and its own name.
pub(super) fn with_environment(command: Command) -> Command {
    below(command, "SANDBAR")
}

fn below(command: Command, prefix: &str) -> Command {
    let command = command.mut_args(|argument| {
        let key = argument.get_id().as_str().strip_prefix(KEY);
        if let Some(variable) = key.map(|key| variable(key.split('.'))) {
            let help = argument
                .get_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            return argument.help(format!("{help} [env: {variable}]"));
        }
        match argument.get_long().map(in_capitals) {
            Some(long) if argument.get_env().is_none() && long != "HELP" && long != "VERSION" => {
                argument.env(format!("{prefix}_{long}")).hide_env(true)
            }
            _ => argument,
        }
    });
    command.mut_subcommands(|verb| {
        let prefix = format!("{prefix}_{}", in_capitals(verb.get_name()));
        below(verb, &prefix)
    })
}

/// The variables that the command line reads itself.
pub(super) fn variables(command: &Command) -> Vec<String> {
    let own = command.get_arguments().filter_map(clap::Arg::get_env);
    let mut names: Vec<String> = own
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.extend(command.get_subcommands().flat_map(variables));
    names
}

fn in_capitals(name: &str) -> String {
    name.replace('-', "_").to_ascii_uppercase()
}
