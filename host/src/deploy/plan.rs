//! What a host serves at its start: what the files say, unless an operator chose something else.
//!
//! Nothing is loaded here beyond what tells one component from another.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::config::{Config, ConfigError};
use crate::control::{ServedPlugin, Tried};
use crate::plugin::Components;
use crate::registry::{Choice, History, Registry, RegistryError};

/// What a host serves at its start.
#[derive(Debug, Default)]
pub struct Plan {
    /// The plugins, each with the component that was chosen.
    pub plugins: Vec<ServedPlugin>,
    /// What is served where a component cannot be loaded.
    pub instead: BTreeMap<String, PathBuf>,
    /// Components of earlier versions that messages may wait for.
    pub before: BTreeMap<String, Vec<PathBuf>>,
    /// Versions that are tried on a share of the messages.
    pub beside: BTreeMap<String, Tried>,
    /// Who receives nothing.
    pub paused: Vec<String>,
    /// Who is not served because it was removed.
    pub removed: Vec<String>,
    /// What was read of their components.
    pub components: Components,
}

/// Decides what a host serves at its start.
///
/// # Errors
/// When the registry cannot be read, or the configuration of a plugin that was deployed is wrong.
pub fn plan(
    config: &Config,
    plugins: Vec<ServedPlugin>,
    registry: Option<&Registry>,
) -> Result<Plan, PlanError> {
    let mut plan = Plan::default();
    let Some(registry) = registry else {
        plan.plugins = plugins;
        return Ok(plan);
    };
    let names: Vec<String> = plugins.iter().map(|it| it.spec.name.clone()).collect();
    for mut served in plugins {
        let name = served.spec.name.clone();
        let history = registry.read(&name)?;
        // What cannot be read is refused when it is loaded.
        let read = plan.components.read(&served.spec).ok();
        let mut target = read.map(|binary| binary.digest().to_string());
        match target.as_deref().map(|found| history.choose(Some(found))) {
            Some(Choice::Nothing) => {
                plan.removed.push(name);
                continue;
            }
            Some(Choice::Kept(digest)) => {
                let kept = registry.component(&digest);
                match plan.components.digest(&kept) {
                    Some(found) if *found == *digest => {
                        served.spec.file = kept;
                        target = Some(digest);
                    }
                    _ => {
                        tracing::error!(plugin = %name, "{} is not what was kept; the file is served instead", kept.display());
                    }
                }
            }
            Some(Choice::File) | None => {}
        }
        plan.add(registry, &history, served, target.as_deref());
    }
    for name in registry.names()? {
        let history = registry.read(&name)?;
        if let Choice::Kept(digest) = history.choose(None)
            && !names.contains(&name)
        {
            let served = config.served_as(&name, &registry.component(&digest))?;
            plan.add(registry, &history, served, Some(&digest));
        }
    }
    Ok(plan)
}

/// Why a plan cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
}

impl Plan {
    fn add(
        &mut self,
        registry: &Registry,
        history: &History,
        served: ServedPlugin,
        digest: Option<&str>,
    ) {
        let name = served.spec.name.clone();
        let before = history.waited_for(digest).into_iter();
        let before = before.map(|digest| registry.component(digest));
        let before: Vec<PathBuf> = before.filter(|file| file.is_file()).collect();
        self.before.insert(name.clone(), before);
        let live = history.live().map(|live| registry.component(&live.digest));
        if let Some(live) = live.filter(|live| live.is_file() && *live != served.spec.file) {
            self.instead.insert(name.clone(), live);
        }
        if let Some(trial) = &history.trial
            && digest == Some(&*trial.beside)
        {
            let tried = Tried {
                file: registry.component(&trial.digest),
                share: trial.policy.share,
            };
            self.beside.insert(name.clone(), tried);
        }
        if history.paused {
            self.paused.push(name);
        }
        self.plugins.push(served);
    }
}
