//! `sandbar check`: says everything that would be refused at load, of all files at once.
//!
//! Loads as a host does and serves nothing.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use sandbar::config::Config;
use sandbar::guest::Engine;
use sandbar::plugin::{Loader, Plugin};
use serde::Serialize;

use super::terminal::{self, printable};
use super::{Ended, inspect};

/// Say everything that would be refused at load.
///
/// Exit code 1 if there is anything.
#[derive(Debug, Args)]
pub(super) struct Check {
    /// Components
    #[arg(value_name = "FILE.wasm", required = true)]
    files: Vec<PathBuf>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    plugins: Vec<inspect::Served>,
    problems: Vec<String>,
}

impl Check {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<Ended> {
        let loader = Loader::new(Engine::with(config.engine())?);
        let mut plugins: Vec<Arc<Plugin>> = Vec::new();
        let mut problems = Vec::new();
        for served in config.served_only(&self.files)? {
            match loader.load(served.spec).await {
                Ok(plugin) => plugins.push(plugin),
                Err(error) => problems.push(printable(&error.to_string())),
            }
        }
        problems.extend(conflicts(&plugins)?);
        let report = Report {
            plugins: plugins.iter().map(|it| inspect::Served::new(it)).collect(),
            problems,
        };
        if self.json {
            terminal::json(&report)?;
        } else {
            let tables: Vec<String> = report.plugins.iter().map(ToString::to_string).collect();
            terminal::data(tables.join("\n").as_bytes())?;
        }
        if report.problems.is_empty() {
            return Ok(Ended::Done);
        }
        if !self.json {
            terminal::errors(&report.problems);
        }
        Ok(Ended::Failed)
    }
}

/// What two plugins cannot both have.
pub(super) fn conflicts(plugins: &[Arc<Plugin>]) -> anyhow::Result<Vec<String>> {
    let mut found = Vec::new();
    for (position, first) in plugins.iter().enumerate() {
        for second in plugins.iter().skip(position + 1) {
            if first.name == second.name {
                found.push(format!(
                    "two plugins are named `{}`; rename one of the files or give it another name in the configuration",
                    first.name
                ));
            } else if let Err(conflict) = first.dispatcher()?.check_beside(&second.dispatcher()?) {
                found.push(conflict.to_string());
            }
        }
    }
    Ok(found)
}
