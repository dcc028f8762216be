//! What the host says of itself while it runs: the log on standard error, and the closed list of its metrics.
//!
//! Only the set-up; what is logged is said where it happens, and text of guests is cleaned before it gets here. The metrics
//! are in `telemetry/metrics.rs`, which knows their names and nothing of where their numbers come from.

use std::io::IsTerminal as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

mod metrics;

pub use metrics::{METRICS, Metric, Numbers, Sort, metric};

/// How lines of the log look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Whether a filter such as `info` or `warn,sandbar=debug` can be used.
///
/// # Errors
/// What is wrong with it.
pub fn check_filter(filter: &str) -> Result<(), String> {
    // A single word that is no level would be taken for the name of a module, and silence the rest.
    let level = |directive: &str| {
        directive.contains(['=', '[']) || directive.parse::<LevelFilter>().is_ok()
    };
    if filter.split(',').all(level) && EnvFilter::try_new(filter).is_ok() {
        return Ok(());
    }
    Err(format!(
        "{filter:?} is not a log level; use error, warn, info, debug or trace, or a filter such as `warn,sandbar=debug`"
    ))
}

/// Writes the log to standard error from now on. Does nothing the second time.
///
/// # Errors
/// When the filter is none.
pub fn start(filter: &str, format: LogFormat) -> Result<(), String> {
    check_filter(filter)?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let log = tracing_subscriber::fmt()
        // Clients of brokers report what we expect and act upon; our own lines say what it means.
        .with_env_filter(EnvFilter::new(format!("lapin=off,{filter}")))
        .with_writer(std::io::stderr)
        .with_ansi(colours)
        .with_target(false);
    // It fails only when there is a log already, which then stays.
    match format {
        LogFormat::Text => log.compact().try_init().ok(),
        LogFormat::Json => log.json().flatten_event(true).try_init().ok(),
    };
    Ok(())
}
