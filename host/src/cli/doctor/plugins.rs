//! Whether everything that is configured can be loaded, as a host would.

use std::sync::Arc;

use sandbar::config::Config;
use sandbar::guest::{CacheOptions, Engine, EngineOptions};
use sandbar::plugin::{Loader, Plugin};

use super::super::check::conflicts;
use super::super::terminal::count;
use super::{Check, Finding};

pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let served = match config.served(&[]) {
        Ok(served) => served,
        Err(error) => {
            let problems = error.0.iter();
            return problems
                .map(|problem| Finding::error(Check::Plugins, problem))
                .collect();
        }
    };
    if served.is_empty() {
        return vec![Finding::ok(Check::Plugins, "none are configured")];
    }
    // It changes nothing.
    let cache = config.cache().map(|options| CacheOptions {
        write: false,
        ..options
    });
    let options = EngineOptions {
        cache,
        ..config.engine()
    };
    let loader = match Engine::with(options) {
        Ok(engine) => Loader::new(engine),
        Err(error) => return vec![Finding::error(Check::Plugins, &error)],
    };
    let mut plugins: Vec<Arc<Plugin>> = Vec::new();
    let mut findings = Vec::new();
    for served in served {
        match loader.load(served.spec).await {
            Ok(plugin) => {
                let routes = count(plugin.routes.len());
                let text = format!(
                    "{} (routes: {routes}; grants: {})",
                    plugin.name,
                    plugin.grants.summary()
                );
                findings.push(Finding::ok(Check::Plugins, text));
                plugins.push(plugin);
            }
            Err(error) => {
                let mut finding = Finding::error(Check::Plugins, &error);
                let remedy = "build it again, or take it out; a host does not start with it";
                finding.remedy.get_or_insert_with(|| remedy.to_owned());
                findings.push(finding);
            }
        }
    }
    match conflicts(&plugins) {
        Ok(conflicts) => {
            findings.extend(
                conflicts
                    .iter()
                    .map(|it| Finding::error(Check::Plugins, it)),
            );
        }
        Err(error) => findings.push(Finding::error(Check::Plugins, &error)),
    }
    findings
}
