//! `sandbar inspect`: says what a component is, and what it says of itself.

use std::fmt;
use std::path::PathBuf;

use clap::Args;
use sandbar::config::{Config, Size};
use sandbar::guest::{Engine, Inspection};
use sandbar::plugin::{Loader, Plugin, PluginSpec};
use serde::Serialize;

use super::terminal::{self, printable};
use super::{Ended, Usage};

/// Say what a component is.
///
/// Reads the file, then loads it to ask for its routes.
#[derive(Debug, Args)]
pub(super) struct Inspect {
    /// The component
    #[arg(value_name = "FILE.wasm")]
    file: PathBuf,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// A plugin as it would be served.
#[derive(Debug, Serialize)]
pub(super) struct Served {
    name: String,
    digest: String,
    routes: Vec<Route>,
    grants: String,
    missing_grants: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Route {
    topic: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    schedule: Option<String>,
    kind: String,
    description: String,
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    found: Inspection,
    routes: Option<Vec<Route>>,
}

impl Inspect {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<Ended> {
        let name = self.file.display();
        let bytes = std::fs::read(&self.file)
            .map_err(|error| Usage(format!("plugin file {name}: {error}")))?;
        let found = sandbar::guest::inspect(&bytes)
            .map_err(|error| anyhow::anyhow!("plugin file {name}: {error}"))?;
        let mut spec = PluginSpec::from_file(&self.file);
        // What a file is has nothing to do with what it is called.
        spec.name = "inspected".to_owned();
        // It may be able to send; while it is loaded nothing is sent.
        spec.grants.http = Some(Vec::new());
        let loader = Loader::new(Engine::with(config.engine())?);
        let loaded = loader.load(spec).await;
        let routes = loaded.as_ref().ok().map(|plugin| routes(plugin));
        let report = Report { found, routes };
        if self.json {
            terminal::json(&report)?;
        } else {
            terminal::data(report.to_string().as_bytes())?;
        }
        match loaded {
            Ok(_) => Ok(Ended::Done),
            Err(error) => Err(error.into()),
        }
    }
}

impl Served {
    pub(super) fn new(plugin: &Plugin) -> Self {
        Self {
            name: plugin.name.to_string(),
            digest: plugin.digest.to_string(),
            routes: routes(plugin),
            grants: plugin.grants.summary(),
            missing_grants: plugin.missing_grants(),
        }
    }
}

impl Served {
    /// For people who look at it while it runs: without the whole digest and the last line end.
    pub(super) fn short(mut self) -> String {
        self.digest.truncate("sha256:".len() + 12);
        let name = terminal::paint(&self.name, terminal::Style::Strong).into_owned();
        let text = self.to_string();
        let rest = text.strip_prefix(&self.name).unwrap_or(&text);
        format!("{name}{}", rest.trim_end())
    }
}

impl fmt::Display for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.name)?;
        row(f, "digest", &self.digest)?;
        for route in &self.routes {
            row(f, &route.kind, &route.to_string())?;
        }
        row(f, "may", &self.grants)?;
        if !self.missing_grants.is_empty() {
            row(
                f,
                "hint",
                "it can ask for more; to allow that, write into sandbar.toml:",
            )?;
            row(f, "", &format!("[plugins.{}]", self.name))?;
        }
        for line in &self.missing_grants {
            row(f, "", line)?;
        }
        Ok(())
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The topic of what is periodic is an inner name; when it is due is what matters.
        let what = self.schedule.as_deref().unwrap_or(&self.topic);
        write!(f, "{what:<24} {}", self.description)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let found = &self.found;
        let world = found.world.as_deref().unwrap_or("unknown");
        row(f, "world", world)?;
        row(f, "digest", &found.digest)?;
        row(f, "size", &format!("{} bytes", terminal::count(found.size)))?;
        row(
            f,
            "memory",
            &format!("{} to start with", Size(found.initial_memory)),
        )?;
        row(
            f,
            "core",
            &format!(
                "{} modules, {} instances",
                found.core_modules, found.core_instances
            ),
        )?;
        let sdk: Vec<String> = found
            .sdk
            .iter()
            .map(|(name, value)| printable(&format!("{name} {value}")))
            .collect();
        row(
            f,
            "sdk",
            if sdk.is_empty() {
                "unknown".to_owned()
            } else {
                sdk.join(", ")
            }
            .as_str(),
        )?;
        for export in &found.exports {
            row(f, "exports", &printable(export))?;
        }
        for import in &found.imports {
            row(f, "imports", &printable(import))?;
        }
        for route in self.routes.iter().flatten() {
            row(f, &route.kind, &route.to_string())?;
        }
        Ok(())
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, value: &str) -> fmt::Result {
    writeln!(f, "  {name:<8} {}", value.trim_end())
}

fn routes(plugin: &Plugin) -> Vec<Route> {
    let route = |route: &sandbar::plugin::PluginRoute| Route {
        topic: route.topic.to_string(),
        schedule: route.schedule.as_ref().map(ToString::to_string),
        kind: route.kind.to_string(),
        description: route.description.clone(),
    };
    plugin.routes.iter().map(route).collect()
}
