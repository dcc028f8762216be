//! From a file to a plugin: read, check, compile, start once, ask for routes, check them.
//!
//! Nothing is loaded halfway: either there is a [`Plugin`], or an error that names the file and says what to do.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::JoinError;
use tokio::time::Instant;

use super::{
    Components, Grants, Hits, Limit, Limits, Plugin, PluginRoute, Pool, TrustedKey, trust,
};
use crate::dispatch::{Conflict, Kind};
use crate::guest::{Binary, DeclaredRoute, Engine, Guest, GuestError, LoadCounts, beside};
use crate::periodic::Schedule;
use crate::topic::Pattern;

/// What a plugin is made of.
#[derive(Debug, Clone, PartialEq)]
pub struct PluginSpec {
    /// Its name: letters, digits, `-` and `_`.
    pub name: String,
    /// Its component.
    pub file: PathBuf,
    /// The digest that the component must have, if it is pinned.
    pub digest: Option<String>,
    /// Whose signature it must bear; anybody's and nobody's if there is none.
    pub trusted: Arc<[TrustedKey]>,
    /// What it may do.
    pub grants: Grants,
    /// How much of it.
    pub limits: Limits,
}

impl PluginSpec {
    /// A plugin named after its file, with default limits and no grants.
    #[must_use]
    pub fn from_file(file: &Path) -> Self {
        let stem = file.file_stem().unwrap_or(file.as_os_str());
        Self {
            name: stem.to_string_lossy().into_owned(),
            file: file.to_owned(),
            digest: None,
            trusted: Arc::default(),
            grants: Grants::default(),
            limits: Limits::default(),
        }
    }
}

/// Why a file did not become a plugin.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("plugin file {}: {error}", file.display())]
    File {
        /// Which file.
        file: PathBuf,
        /// What the system says.
        error: std::io::Error,
    },
    /// The file is not what it should be.
    #[error("plugin file {}: {error}", file.display())]
    Guest {
        /// Which file.
        file: PathBuf,
        /// What is wrong.
        error: GuestError,
    },
    /// Anything else, in words.
    #[error("plugin file {}: {error}", file.display())]
    Refused {
        /// Which file.
        file: PathBuf,
        /// What is wrong and what to do.
        error: String,
    },
    /// It declares the same command or query twice.
    #[error("plugin file {}: {error}", file.display())]
    Conflict {
        /// Which file.
        file: PathBuf,
        /// Which routes.
        error: Conflict,
    },
}

impl LoadError {
    /// The limit that was hit, if it was that.
    #[must_use]
    pub fn limit(&self) -> Option<Limit> {
        match self {
            Self::Guest { error, .. } => error.limit(),
            _ => None,
        }
    }
}

/// Loads plugins with one engine.
#[derive(Debug, Clone)]
pub struct Loader {
    engine: Engine,
    /// By the name of the plugin, for all its versions.
    hits: Arc<Mutex<HashMap<String, Arc<Hits>>>>,
}

impl Loader {
    /// A loader.
    #[must_use]
    pub fn new(engine: Engine) -> Self {
        Self {
            engine,
            hits: Arc::default(),
        }
    }

    /// How components were loaded so far.
    #[must_use]
    pub fn counts(&self) -> LoadCounts {
        self.engine.counts()
    }

    /// Reads the file and makes a plugin of it.
    ///
    /// # Errors
    /// [`LoadError`] with the file and what is wrong with it.
    pub async fn load(&self, spec: PluginSpec) -> Result<Arc<Plugin>, LoadError> {
        self.load_of(&Components::default(), spec).await
    }

    /// The same of a file that may have been read already.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) async fn load_of(
        &self,
        components: &Components,
        spec: PluginSpec,
    ) -> Result<Arc<Plugin>, LoadError> {
        let components = components.clone();
        let (file, reading) = (spec.file.clone(), spec.clone());
        match tokio::task::spawn_blocking(move || components.read(&reading)).await {
            Ok(Ok(binary)) => self.load_read(spec, binary).await,
            Ok(Err(error)) => Err(self.counted(&spec.name, error)),
            Err(error) => Err(LoadError::Refused {
                file,
                error: format!("it cannot be read: {error}"),
            }),
        }
    }

    /// The same of a file that was read already, within its limit.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub(crate) async fn load_read(
        &self,
        spec: PluginSpec,
        binary: Binary,
    ) -> Result<Arc<Plugin>, LoadError> {
        let file = spec.file.clone();
        let refused = |error: String| LoadError::Refused {
            file: file.clone(),
            error,
        };
        let found = binary.digest();
        if spec
            .digest
            .as_ref()
            .is_some_and(|pinned| **pinned != **found)
        {
            return Err(refused(format!(
                "its digest is {found} and [plugins.{}] pins another; deploy the pinned file or change `digest`",
                spec.name
            )));
        }
        trust::check(&spec.trusted, &spec.file, binary.bytes()).map_err(refused)?;
        let name = spec.name.clone();
        let made = self.make(spec, binary).await;
        made.map_err(|error| self.counted(&name, error))
    }

    /// Every limit by name with how often a plugin hit it, whatever became of that.
    #[must_use]
    pub fn limits_hit(&self, plugin: &str) -> Vec<(&'static str, u64)> {
        let all = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(plugin) {
            Some(hits) => hits.all().collect(),
            None => Hits::default().all().collect(),
        }
    }

    fn hits(&self, plugin: &str) -> Arc<Hits> {
        let mut all = self.hits.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get(plugin) {
            Some(hits) => hits.clone(),
            None => all.entry(plugin.to_owned()).or_default().clone(),
        }
    }

    /// Counts the limit that kept a plugin from being loaded.
    pub(crate) fn counted(&self, plugin: &str, error: LoadError) -> LoadError {
        if let Some(limit) = error.limit() {
            self.hits(plugin).count(limit);
        }
        error
    }

    async fn make(&self, spec: PluginSpec, binary: Binary) -> Result<Arc<Plugin>, LoadError> {
        let PluginSpec {
            name,
            file,
            grants,
            limits,
            ..
        } = spec;
        let refused = |error: String| LoadError::Refused {
            file: file.clone(),
            error,
        };
        let failed = |error: GuestError| LoadError::Guest {
            file: file.clone(),
            error,
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if name.is_empty() || name.len() > 100 || !name.chars().all(legal) {
            return Err(refused(format!(
                "{name:?} cannot be the name of a plugin; use letters, digits, `-` and `_`"
            )));
        }
        let name: Arc<str> = name.into();
        if let Some(import) = binary.http_import().filter(|_| grants.http.is_none()) {
            return Err(refused(format!(
                "it imports {import}, which is not granted; add `http = [\"https://HOST/*\"]` under [plugins.{name}] with the addresses that it may send requests to, or `http = []` if it needs none"
            )));
        }
        let digest = binary.digest().clone();
        let guest = match self.compile(&name, binary, &limits).await {
            Ok(guest) => guest.map_err(failed)?,
            Err(error) => return Err(refused(format!("the compiler failed: {error}"))),
        };
        let config = Arc::new(grants.readable());
        let mut probe = guest
            .instantiate(&name, &config, &limits)
            .await
            .map_err(failed)?;
        let declared = probe.routes().await.map_err(failed)?;
        drop(probe);
        let count = declared.len();
        if count > MOST_ROUTES {
            let text = format!("it declares {count} routes and at most {MOST_ROUTES} are allowed");
            return Err(failed(GuestError::Limit(Limit::Routes, text)));
        }
        let routes = check_routes(&name, declared, &grants).map_err(refused)?;
        let imports = guest.imports().to_vec();
        let hits = self.hits(&name);
        let pool = Pool::new(name.clone(), guest, config, limits.clone(), hits.clone());
        let plugin = Plugin {
            name,
            file: file.clone(),
            digest,
            routes,
            grants,
            limits,
            hits,
            imports,
            pool,
        };
        let plugin = Arc::new(plugin);
        match plugin.dispatcher() {
            Ok(_) => Ok(plugin),
            Err(error) => Err(LoadError::Conflict { file, error }),
        }
    }

    /// Compiles it, or finds it compiled, on a thread of its own; says so when that takes long.
    async fn compile(
        &self,
        name: &str,
        binary: Binary,
        limits: &Limits,
    ) -> Result<Result<Guest, GuestError>, JoinError> {
        let (engine, began) = (self.engine.clone(), Instant::now());
        let (most, compilation) = (
            limits.compile_time,
            engine.compilation(limits.compile_memory),
        );
        let mine = compilation.clone();
        let load = move || beside(|| engine.load_binary(&binary, &mine));
        let mut compiling = tokio::task::spawn_blocking(load);
        if let Ok(compiled) = tokio::time::timeout(LONG.min(most), &mut compiling).await {
            return compiled;
        }
        tracing::info!(plugin = %name, "its component is being compiled");
        let compiled = tokio::time::timeout_at(began + most, compiling).await;
        let Ok(compiled) = compiled else {
            compilation.give_up();
            tracing::warn!(plugin = %name, "its compilation is given up; it goes on until it ends by itself, and no other begins before that");
            let text = format!(
                "to compile it takes longer than {most:?} (`limits.compile_time`), or another compilation that was given up has not ended"
            );
            return Ok(Err(GuestError::Limit(Limit::CompileTime, text)));
        };
        let took = began.elapsed().as_secs_f64();
        tracing::info!(plugin = %name, "its component was compiled in {took:.1} s");
        compiled
    }
}

/// Routes of one component.
const MOST_ROUTES: usize = 1000;
/// After this time it is said that a component is being compiled.
const LONG: Duration = Duration::from_secs(1);

/// Reads the component with its digest, if it is not too large.
pub(crate) fn read(spec: &PluginSpec) -> Result<Binary, LoadError> {
    let failed = |error| LoadError::File {
        file: spec.file.clone(),
        error,
    };
    let size = std::fs::metadata(&spec.file).map_err(failed)?.len();
    if size > spec.limits.file {
        let most = spec.limits.file;
        let text = format!("it has {size} bytes and `limits.file` is {most}");
        return Err(LoadError::Guest {
            file: spec.file.clone(),
            error: GuestError::Limit(Limit::File, text),
        });
    }
    std::fs::read(&spec.file).map(Binary::new).map_err(failed)
}

fn check_routes(
    plugin: &str,
    declared: Vec<DeclaredRoute>,
    grants: &Grants,
) -> Result<Vec<PluginRoute>, String> {
    if declared.is_empty() {
        return Err(
            "it declares no route, so it would never be called; export at least one handler"
                .to_owned(),
        );
    }
    let mut routes = Vec::with_capacity(declared.len());
    for (index, route) in declared.into_iter().enumerate() {
        let malformed = |error: String| format!("its route {} is malformed: {error}", index + 1);
        // A periodic route has a schedule in the place of the topic, and is subscribed under a name of its own.
        let (topic, schedule) = match route.kind {
            Kind::Periodic => {
                let schedule = route.topic.parse::<Schedule>();
                (
                    format!("periodic.{plugin}"),
                    Some(schedule.map_err(|e| malformed(e.to_string()))?),
                )
            }
            Kind::Command | Kind::Query | Kind::Event => (route.topic, None),
        };
        let topic: Pattern = topic
            .parse()
            .map_err(|error| malformed(format!("{error}")))?;
        let granted = grants
            .subscribe
            .as_ref()
            .is_none_or(|granted| granted.iter().any(|pattern| pattern.covers(&topic)));
        if !granted {
            tracing::warn!(topic = %topic, "a route is not in `subscribe` and is not served");
            continue;
        }
        routes.push(PluginRoute {
            topic,
            schedule,
            kind: route.kind,
            description: route
                .description
                .chars()
                .filter(|c| !c.is_control())
                .take(200)
                .collect(),
            index: u32::try_from(index).unwrap_or(u32::MAX),
        });
    }
    if routes.is_empty() {
        return Err("none of its routes is in `subscribe`, so it would never be called".to_owned());
    }
    Ok(routes)
}
