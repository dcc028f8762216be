//! The command line: verbs, the options that they share, and how they end.
//!
//! One file per verb under `cli/`; each turns words into calls of the library and results into text. Data goes to
//! standard output, everything else to standard error.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use sandbar::config::{Config, FileChoice};

mod broker;
mod check;
mod config;
mod content;
mod dead_letters;
mod demo;
mod doctor;
mod inspect;
mod moment;
mod new;
mod options;
mod plugins;
mod queues;
mod receive;
mod request;
mod run;
mod send;
mod signals;
mod table;
mod terminal;

use options::Global;

/// A WebAssembly plugin host for message handlers
#[derive(Debug, Parser)]
#[command(
    name = "sandbar",
    version,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Every option can also come from the environment, SANDBAR_SEND_KEY for --key of `send`, and so can \
                  every key of sandbar.toml: SANDBAR_DATA, SANDBAR_PLUGINS__ORDERS__STATE.\n\
                  Exit codes: 0 done, 1 failed, 64 wrong usage or configuration, 130 interrupted."
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(run::Run),
    Demo(demo::Demo),
    Send(Box<send::Send>),
    Request(request::Request),
    Receive(receive::Receive),
    Check(check::Check),
    Inspect(inspect::Inspect),
    DeadLetters(dead_letters::DeadLetters),
    Queues(queues::Queues),
    Plugins(plugins::Plugins),
    Config(config::Config),
    Doctor(doctor::Doctor),
    New(new::New),
}

/// A verb with its options.
#[derive(Debug)]
pub(crate) struct Command {
    cli: Cli,
    /// The environment variables of options.
    variables: Vec<String>,
}

/// How a verb ended without an error of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It did what it was asked.
    Done,
    /// It did not, and has said why.
    Failed,
    /// Somebody pressed Ctrl-C.
    Interrupted,
}

/// What was asked for makes no sense, as opposed to: did not work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// The exit code for wrong usage and configuration, `EX_USAGE` of sysexits.
const WRONG_USAGE: u8 = 64;

impl Ended {
    pub(crate) fn exit_code(self) -> ExitCode {
        match self {
            Self::Done => ExitCode::SUCCESS,
            Self::Failed => ExitCode::FAILURE,
            Self::Interrupted => ExitCode::from(130),
        }
    }
}

/// Reads the command line; prints what is wrong with it, or the help that was asked for.
pub(crate) fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, ExitCode> {
    let command = options::with_environment(Cli::command());
    let variables = options::variables(&command);
    let parsed = command
        .try_get_matches_from(arguments)
        .and_then(|matches| Cli::from_arg_matches(&matches))
        .map(|cli| Command { cli, variables });
    parsed.map_err(|error| {
        // Nobody reads it if it cannot be written.
        error.print().ok();
        if error.use_stderr() {
            ExitCode::from(WRONG_USAGE)
        } else {
            ExitCode::SUCCESS
        }
    })
}

impl Command {
    pub(crate) async fn run(self) -> anyhow::Result<Ended> {
        let Self {
            cli: Cli { global, verb },
            variables,
        } = self;
        let host = match &verb {
            Verb::Run(run) => Some(&run.host),
            Verb::Config(config) => config.host(),
            Verb::Doctor(doctor) => Some(&doctor.host),
            _ => None,
        };
        let mut layers = options::layers(global, host.cloned(), variables)?;
        let without_file = match &verb {
            Verb::Demo(_) | Verb::Inspect(_) | Verb::New(_) => true,
            Verb::Config(config) => config.describes(),
            _ => false,
        };
        if without_file {
            layers.file = FileChoice::Nothing;
        }
        let origin = layers.clone();
        let (config, plugins) = match &verb {
            Verb::Run(run) => Config::load_served(layers, &run.files)?,
            Verb::Config(config) if config.checks() => Config::load_served(layers, &[])?,
            _ => (Config::load(layers)?, Vec::new()),
        };
        let log = match &verb {
            Verb::Run(_) => "info",
            Verb::Demo(_) => "error",
            _ => "warn",
        };
        options::start_log(&config, log)?;
        match verb {
            Verb::Run(run) => Box::pin(run.run(config, plugins, origin)).await,
            Verb::Demo(demo) => demo.run().await,
            Verb::Send(send) => send.run(&config).await,
            Verb::Request(request) => request.run(&config).await,
            Verb::Receive(receive) => receive.run(&config).await,
            Verb::Check(check) => check.run(&config).await,
            Verb::Inspect(inspect) => inspect.run(&config).await,
            Verb::Config(verb) => verb.run(&config, &plugins),
            Verb::DeadLetters(verb) => verb.run(&config).await,
            Verb::Queues(queues) => queues.run(&config).await,
            Verb::Plugins(plugins) => plugins.run(&config).await,
            Verb::Doctor(doctor) => doctor.run(&config).await,
            Verb::New(new) => new.run(),
        }
    }
}

/// Prints an error with its causes and chooses the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if error.chain().any(|cause| cause.is::<terminal::Closed>()) {
        // Whoever read the output has seen enough.
        return ExitCode::SUCCESS;
    }
    match error.downcast_ref::<sandbar::config::ConfigError>() {
        Some(sandbar::config::ConfigError(problems)) => terminal::errors(problems),
        None => terminal::error(error),
    }
    let wrong_usage = error
        .chain()
        .any(|cause| cause.is::<Usage>() || cause.is::<sandbar::config::ConfigError>());
    if wrong_usage {
        ExitCode::from(WRONG_USAGE)
    } else {
        ExitCode::FAILURE
    }
}
