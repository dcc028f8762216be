//! Which version of each plugin a host serves: what the files say, what an operator chose, and what is remembered of both.
//!
//! Files are looked at when they change (`deploy/look.rs`), operators ask through the host's socket (`deploy/verbs.rs`, in
//! the words of `deploy/said.rs`). Both end at [`Host::reload`], one after the other. What a version is and how it takes the
//! place of another is not known here.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::clock;
use crate::config::{self, Config};
use crate::control::{Host, ReloadOutcome, ServedPlugin};
use crate::guest::Binary;
use crate::plugin::{Components, read, signature, signature_file};
use crate::registry::{Choice, History, Registry, RegistryError, Verdict};
use crate::watch::{Rest, Stamp};

mod canary;
mod look;
mod plan;
mod refusals;
mod said;
mod shadow;
mod verbs;

pub use plan::{Plan, PlanError, plan};
pub use refusals::Refusals;
pub use said::{
    Answer, CanaryStatus, Outcome, PluginStatus, Question, ShadowStatus, SideStatus,
    State as PluginState, Version,
};

/// How a configuration is read again.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// What it is made of.
    pub options: config::Options,
    /// Plugins that were named beside it.
    pub files: Vec<PathBuf>,
}

/// The deployments of a host that runs. Dropping it ends the watching; the host goes on.
#[derive(Debug)]
pub struct Deployments {
    shared: Arc<Shared>,
    _watching: Option<AbortOnDropHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    host: Host,
    registry: Option<Registry>,
    origin: Origin,
    began: Instant,
    /// For tasks, which must not keep it.
    me: Weak<Self>,
    /// Those of the state, for whoever does not wait for a change.
    refusals: Refusals,
    /// One change at a time.
    state: tokio::sync::Mutex<State>,
}

#[derive(Debug)]
struct State {
    config: Config,
    config_stamp: Option<Stamp>,
    rest: Rest,
    /// What was made of the files, by the name of the plugin.
    applied: HashMap<String, Applied>,
    /// What was said already of something that stays wrong.
    refusals: Refusals,
    /// Who judges the versions that are tried, by the name of the plugin.
    judges: HashMap<String, AbortOnDropHandle<()>>,
}

/// A plugin as it is described, and the file as it was when that was acted on.
#[derive(Debug, Clone, PartialEq)]
struct Applied {
    served: ServedPlugin,
    stamp: Option<Stamp>,
    signature: Option<Stamp>,
    /// It was refused; another change may be what it needs.
    refused: bool,
}

impl Deployments {
    /// Remembers what a host serves, and follows the files if the configuration says so. What cannot be remembered is said,
    /// and the host goes on. `components` are those that were read for the start.
    pub async fn start(
        host: Host,
        registry: Option<Registry>,
        config: Config,
        origin: Origin,
        components: Components,
    ) -> Self {
        let watch = config.watch.value;
        let file = config.file.clone();
        let refusals = Refusals::default();
        let state = State {
            config,
            config_stamp: file.as_deref().and_then(Stamp::of),
            rest: Rest::default(),
            applied: HashMap::new(),
            refusals: refusals.clone(),
            judges: HashMap::new(),
        };
        let shared = Arc::new_cyclic(|me| Shared {
            host,
            registry,
            origin,
            began: Instant::now(),
            me: me.clone(),
            refusals,
            state: tokio::sync::Mutex::new(state),
        });
        if let Err(error) = shared.remember(&components) {
            tracing::error!("what is served will be forgotten: {error}");
        }
        shared.known(&components).await;
        shared.resume_trials().await;
        drop(components);
        let watching =
            watch.then(|| AbortOnDropHandle::new(tokio::spawn(look::follow(shared.clone()))));
        Self {
            shared,
            _watching: watching,
        }
    }

    /// Answers an operator.
    pub async fn ask(&self, question: Question) -> Answer {
        self.shared.ask(question).await
    }

    /// What is described and cannot be served as it is.
    #[must_use]
    pub fn refusals(&self) -> Refusals {
        self.shared.refusals.clone()
    }

    /// Who answers what is asked on the socket.
    #[must_use]
    pub fn steward(&self) -> Arc<dyn crate::backend::local::Steward> {
        self.shared.clone()
    }
}

impl Shared {
    /// Remembers what was started.
    fn remember(&self, components: &Components) -> Result<(), RegistryError> {
        let Some(registry) = &self.registry else {
            return Ok(());
        };
        let mut anything = false;
        for plugin in self.host.plugins() {
            let mut history = registry.read(&plugin.name)?;
            let before = self.host.before(&plugin.name);
            let mut changed = before != history.before;
            history.before = before;
            let live = history.live();
            if live.is_none_or(|live| *live.digest != *plugin.digest)
                && let Some((_, served)) = self.host.plugin(&plugin.name)
                // It may have changed since; the version comes again with the next look.
                && let Ok(binary) = components.read(&served.spec)
                && *binary.digest() == plugin.digest
            {
                keep(registry, &served.spec.file, &binary)?;
                history.withdraw("another version was live when the host was started");
                history.add(&plugin.digest, clock::now_ms(), "start", Verdict::Served);
                changed = true;
            }
            if changed {
                registry.add(&plugin.name, &mut history)?;
                anything = true;
            }
        }
        if anything {
            registry.forget();
        }
        Ok(())
    }

    /// Takes files as they are for what is served, where that is so.
    async fn known(&self, components: &Components) {
        let mut state = self.state.lock().await;
        let (described, _) = state.config.served_now(&self.origin.files);
        for served in described {
            // A file that was changed since is another one than what was loaded.
            let stamp = Stamp::of(&served.spec.file);
            state.rest.known(&served.spec.file, stamp);
            let name = served.spec.name.clone();
            let live = self
                .host
                .plugin(&name)
                .map(|(plugin, _)| plugin.digest.clone());
            let same = components.read(&served.spec).is_ok_and(|binary| {
                let found = binary.digest();
                let chosen = self
                    .history(&name)
                    .map(|history| history.choose(Some(found)));
                live.as_ref() == Some(found) || !matches!(chosen, None | Some(Choice::File))
            });
            if same {
                let refused = false;
                let signature = Stamp::of(&signature_file(&served.spec.file));
                let applied = Applied {
                    served,
                    stamp,
                    signature,
                    refused,
                };
                state.applied.insert(name, applied);
            }
        }
    }

    /// What is remembered of a plugin, if anything can be.
    fn history(&self, name: &str) -> Option<History> {
        self.registry.as_ref()?.read(name).ok()
    }

    /// Reads a component off the threads that serve messages.
    async fn read_apart(&self, served: &ServedPlugin) -> Result<Binary, String> {
        let spec = served.spec.clone();
        match tokio::task::spawn_blocking(move || read(&spec)).await {
            Ok(Ok(binary)) => Ok(binary),
            Ok(Err(error)) => Err(self.host.counted(&served.spec.name, error).to_string()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Serves a component as described, and remembers what became of it. `change` is for what follows from it when it is
    /// served.
    async fn serve(
        &self,
        served: ServedPlugin,
        binary: Binary,
        by: By<'_>,
        change: impl FnOnce(&mut History),
    ) -> Served {
        let (name, found) = (served.spec.name.clone(), binary.digest().to_string());
        let kept = match &self.registry {
            Some(registry) => keep(registry, &served.spec.file, &binary),
            None => Ok(()),
        };
        let outcome = match kept {
            Ok(()) => self.host.reload_read(served, binary).await,
            Err(error) => ReloadOutcome::RolledBack(error.to_string()),
        };
        let verdict = match &outcome {
            ReloadOutcome::RolledBack(reason) => Verdict::Failed(reason.clone()),
            ReloadOutcome::Unchanged | ReloadOutcome::Swapped => Verdict::Served,
        };
        if by.patient && matches!(outcome, ReloadOutcome::RolledBack(_)) {
            return Served {
                outcome,
                digest: found,
                number: None,
            };
        }
        let unchanged = outcome == ReloadOutcome::Unchanged;
        let written = self.write(&name, |history| {
            let number = match unchanged {
                true => history.live().map(|live| live.number),
                false => None,
            };
            // What was tried again is not another failure.
            let again = history.versions.last().filter(|last| {
                last.verdict == verdict && verdict != Verdict::Served && last.digest == found
            });
            let number = number.or(again.map(|last| last.number));
            let number = number
                .unwrap_or_else(|| history.add(&found, clock::now_ms(), by.who, verdict.clone()));
            if verdict == Verdict::Served {
                if !unchanged {
                    history.withdraw("another version was served");
                }
                change(history);
                history.before = self.host.before(&name);
            }
            number
        });
        let number = written.unwrap_or_else(|error| {
            tracing::error!(plugin = %name, "what is served now will be forgotten: {error}");
            None
        });
        Served {
            outcome,
            digest: found,
            number,
        }
    }

    /// Changes what is remembered of a plugin.
    fn write<T>(
        &self,
        name: &str,
        change: impl FnOnce(&mut History) -> T,
    ) -> Result<Option<T>, RegistryError> {
        self.write_by(name, None, change)
    }

    /// The same, with who wished it where the history does not say.
    fn write_by<T>(
        &self,
        name: &str,
        who: Option<&str>,
        change: impl FnOnce(&mut History) -> T,
    ) -> Result<Option<T>, RegistryError> {
        let Some(registry) = &self.registry else {
            return Ok(None);
        };
        let mut history = registry.read(name)?;
        let changed = change(&mut history);
        registry.write_by(name, &mut history, who)?;
        Ok(Some(changed))
    }
}

/// Who wants a component served.
#[derive(Debug, Clone, Copy)]
struct By<'a> {
    who: &'a str,
    /// A refusal is not remembered: it may be over in a moment.
    patient: bool,
}

/// What became of a component.
#[derive(Debug)]
struct Served {
    outcome: ReloadOutcome,
    digest: String,
    /// The number of the version, if it is remembered.
    number: Option<u64>,
}

/// The digest of a file, if there is one.
fn digest_of(file: &Path) -> Option<String> {
    std::fs::read(file)
        .ok()
        .map(|bytes| crate::guest::digest(&bytes))
}

/// Keeps a component with the signature beside the file that it was read from. One that cannot be read is not needed, or
/// the component is refused for it.
fn keep(registry: &Registry, file: &Path, binary: &Binary) -> Result<(), RegistryError> {
    let digest = binary.digest();
    registry.keep(digest, binary.bytes())?;
    match signature(file) {
        Ok(Some(text)) => registry.keep_signature(digest, &text),
        Ok(None) | Err(_) => Ok(()),
    }
}
