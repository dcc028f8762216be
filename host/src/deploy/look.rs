//! What has changed in the files becomes what is served.
//!
//! Each look compares all files with what was made of them; it makes no difference why it looks, or what it missed. A file
//! that is not at rest is left for the next look.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::{Applied, By, Shared, State};
use crate::clock;
use crate::config::{Config, DEFAULT_FILE, FileChoice};
use crate::control::{ReloadOutcome, ServedPlugin};
use crate::guest::Binary;
use crate::plugin::signature_file;
use crate::registry::{Choice, History, Verdict};
use crate::watch::{QUIET, Stamp, Watch};

/// A component that cannot be loaded may be half of one, if somebody wrote it so short a time ago.
const PATIENCE: Duration = Duration::from_secs(2);

/// Follows the files until it is dropped.
pub(super) async fn follow(shared: Arc<Shared>) {
    let mut watch = Watch::new();
    loop {
        let again = shared.look().await;
        let files = shared.files().await;
        if watch.follow(files.iter().map(PathBuf::as_path)) {
            continue;
        }
        match again {
            Some(again) => tokio::time::sleep(again).await,
            None => watch.changed().await,
        }
    }
}

impl Shared {
    /// Every file that says what is served.
    async fn files(&self) -> Vec<PathBuf> {
        let state = self.state.lock().await;
        let config = &state.config;
        let mut files = self.origin.files.clone();
        files.extend(config_file(&self.origin.options.file));
        files.extend(config.plugins.values().filter_map(|it| it.file.clone()));
        // Any name: its folder is what counts.
        files.extend(config.plugin_dir.value.iter().map(|dir| dir.join("*")));
        files.extend(state.applied.values().map(|it| it.served.spec.file.clone()));
        files
    }

    /// Acts on what has changed; returns when to look again if something was not at rest.
    async fn look(&self) -> Option<Duration> {
        let mut locked = self.state.lock().await;
        let state = &mut *locked;
        let now = self.began.elapsed();
        let mut again = self.look_at_config(state, now);
        let (mut described, wrong) = state.config.served_now(&self.origin.files);
        for (name, problems) in &wrong {
            let text = problems.to_string();
            state.refusals.say(name, &text);
        }
        described.extend(self.kept(state, &described));
        let is_there = |name: &str| {
            let mut wrong = wrong.iter().map(|(name, _)| name.as_str());
            let mut described = described.iter().map(|it| it.spec.name.as_str());
            described.any(|it| it == name) || wrong.any(|it| it == name)
        };
        let mut gone: Vec<String> = state.applied.keys().cloned().collect();
        gone.retain(|name| !is_there(name));
        let mut progress = false;
        for name in gone {
            let Some(applied) = state.applied.get(&name) else {
                continue;
            };
            let file = applied.served.spec.file.clone();
            let since = state.rest.since(&file, None, now);
            if since < QUIET {
                again = sooner(again, QUIET - since);
                continue;
            }
            progress |= self.unload(state, &name).await;
        }
        for served in &described {
            again = match self.consider(state, served, now).await {
                Step::Nothing => again,
                Step::Again(when) => sooner(again, when),
                Step::Changed => {
                    progress = true;
                    again
                }
            };
        }
        if progress {
            let refused = |applied: &&mut Applied| applied.refused;
            for applied in state.applied.values_mut().filter(refused) {
                // What stood in its way may be gone.
                applied.stamp = None;
                again = sooner(again, Duration::ZERO);
            }
        }
        let stays = |name: &str| {
            let refused = state.applied.get(name).is_some_and(|it| it.refused);
            refused || wrong.iter().any(|(wrong, _)| wrong == name)
        };
        state.refusals.keep(stays);
        let applied = &state.applied;
        let named = |file: &Path| applied.values().any(|it| it.served.spec.file == file);
        state.rest.keep(|file| file.exists() || named(file));
        again
    }

    /// Plugins that an operator deployed, for which there is no file.
    fn kept(&self, state: &State, described: &[ServedPlugin]) -> Vec<ServedPlugin> {
        let Some(registry) = &self.registry else {
            return Vec::new();
        };
        let names = registry.names().unwrap_or_default();
        let names = names
            .into_iter()
            .filter(|name| !described.iter().any(|it| it.spec.name == *name));
        let kept = names.filter_map(|name| match self.history(&name)?.choose(None) {
            Choice::Kept(digest) => {
                let file = registry.component(&digest);
                state.config.served_as(&name, &file).ok()
            }
            Choice::File | Choice::Nothing => None,
        });
        kept.collect()
    }

    /// Reads the configuration again when its file is another one and at rest.
    fn look_at_config(&self, state: &mut State, now: Duration) -> Option<Duration> {
        let file = config_file(&self.origin.options.file)?;
        let stamp = Stamp::of(&file);
        if stamp == state.config_stamp {
            return None;
        }
        let since = state.rest.since(&file, stamp, now);
        if since < QUIET {
            return Some(QUIET - since);
        }
        state.config_stamp = stamp;
        if stamp.is_none() {
            tracing::warn!("{} is gone; what it said goes on", file.display());
            return None;
        }
        match Config::load(self.origin.options.clone()) {
            Ok(config) => {
                for key in fixed(&state.config, &config) {
                    tracing::warn!(
                        "`{key}` in {} takes effect at the next start",
                        file.display()
                    );
                }
                tracing::info!("{} has changed", file.display());
                state.config = config;
            }
            Err(error) => {
                tracing::error!(
                    "{} is not used as it is now, and what was said before goes on: {error}",
                    file.display()
                );
            }
        }
        None
    }

    /// Serves a plugin as it is described now, if that is something new.
    async fn consider(&self, state: &mut State, served: &ServedPlugin, now: Duration) -> Step {
        let name = &served.spec.name;
        let stamp = Stamp::of(&served.spec.file);
        let beside = signature_file(&served.spec.file);
        let signature = Stamp::of(&beside);
        let since = state.rest.since(&served.spec.file, stamp, now);
        let known = state.applied.get(name);
        let as_before = known.is_some_and(|known| known.served == *served);
        let same_files =
            known.is_some_and(|known| known.stamp == stamp && known.signature == signature);
        if as_before && same_files {
            return Step::Nothing;
        }
        let since = match signature {
            Some(_) => since.min(state.rest.since(&beside, signature, now)),
            None => since,
        };
        if since < QUIET {
            return Step::Again(QUIET - since);
        }
        let who = if same_files { "configuration" } else { "file" };
        let mut applied = Applied {
            served: served.clone(),
            stamp,
            signature,
            refused: false,
        };
        let patient = since < PATIENCE;
        let outcome = match self.read_apart(served).await {
            Ok(binary) => self.apply(served, binary, who, patient).await,
            Err(error) => ReloadOutcome::RolledBack(error),
        };
        let step = match outcome {
            // Perhaps half of it is still to come.
            ReloadOutcome::RolledBack(_) if patient => return Step::Again(PATIENCE - since),
            ReloadOutcome::Unchanged => Step::Nothing,
            ReloadOutcome::Swapped => {
                let digest = self
                    .host
                    .plugin(name)
                    .map(|(plugin, _)| plugin.digest.clone());
                let digest = digest.as_deref().unwrap_or("none").to_owned();
                tracing::info!(plugin = %name, %digest, because = who, "serving a new version");
                Step::Changed
            }
            ReloadOutcome::RolledBack(reason) => {
                applied.refused = true;
                let still = if self.host.plugin(name).is_some() {
                    "the version before goes on"
                } else {
                    "nothing is served"
                };
                state.refusals.say(name, &format!("{reason}; {still}"));
                Step::Nothing
            }
        };
        state.applied.insert(name.clone(), applied);
        step
    }

    /// Serves what the registry says for a file with this content.
    async fn apply(
        &self,
        served: &ServedPlugin,
        binary: Binary,
        who: &str,
        patient: bool,
    ) -> ReloadOutcome {
        let (name, found, mut served) =
            (&served.spec.name, binary.digest().clone(), served.clone());
        let by = By { who, patient };
        let history = self.history(name).unwrap_or_default();
        let kept = |digest: &str| Some(self.registry.as_ref()?.component(digest));
        if kept(&found).is_some_and(|file| file == served.spec.file) {
            return self.serve(served, binary, by, |_| ()).await.outcome;
        }
        let chosen = match history.choose(Some(&found)) {
            Choice::Nothing => return ReloadOutcome::Unchanged,
            Choice::Kept(digest) => kept(&digest),
            Choice::File => None,
        };
        if let Some(file) = chosen {
            served.spec.file = file;
            return match self.read_apart(&served).await {
                Ok(binary) => self.serve(served, binary, by, |_| ()).await.outcome,
                Err(error) => ReloadOutcome::RolledBack(error),
            };
        }
        let by_file = |history: &mut History| history.chosen = None;
        self.serve(served, binary, by, by_file).await.outcome
    }

    /// Stops to serve a plugin whose file is gone.
    async fn unload(&self, state: &mut State, name: &str) -> bool {
        state.applied.remove(name);
        let Some((plugin, _)) = self.host.plugin(name) else {
            return false;
        };
        tracing::info!(plugin = %name, "its file is gone; it is unloaded, and its messages wait");
        self.host.remove(name, state.config.grace.value).await;
        let written = self.write(name, |history| {
            history.chosen = None;
            history.paused = false;
            history.withdraw("the plugin was unloaded");
            history.add(&plugin.digest, clock::now_ms(), "file", Verdict::Removed)
        });
        if let Err(error) = written {
            tracing::error!(plugin = %name, "that it is gone will be forgotten: {error}");
        }
        true
    }
}

/// What came of a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Nothing,
    Again(Duration),
    Changed,
}

fn sooner(one: Option<Duration>, other: Duration) -> Option<Duration> {
    Some(one.map_or(other, |one| one.min(other)))
}

fn config_file(choice: &FileChoice) -> Option<PathBuf> {
    match choice {
        FileChoice::Named(file) => Some(file.clone()),
        FileChoice::Usual => Some(Path::new(DEFAULT_FILE).to_owned()),
        FileChoice::Nothing => None,
    }
}

/// Keys whose change means nothing to a host that runs.
fn fixed(old: &Config, new: &Config) -> Vec<String> {
    let of_plugins = |keys: &[String]| {
        matches!(
            keys.first().map(String::as_str),
            Some("plugins" | "defaults")
        )
    };
    let (old, new) = (old.shown(), new.shown());
    let changed = new.into_iter().filter(|entry| {
        let before = old.iter().find(|before| before.keys == entry.keys);
        !of_plugins(&entry.keys) && before.is_none_or(|before| before.value != entry.value)
    });
    changed.map(|entry| entry.keys.join(".")).collect()
}
