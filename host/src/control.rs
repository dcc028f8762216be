//! Assembles a host and takes it apart again: load, check, declare, start; stop in the opposite order.
//!
//! Knows every part and does none of their work. What is configured is read in [`crate::config`].

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::backend::{Backend, BackendError, Mode, QueueName, QueueSpec};
use crate::call::Access;
use crate::client::Client;
use crate::config::DEFAULT_GRACE;
use crate::dispatch::{Conflict, Dispatcher};
use crate::guest::{CacheOptions, Engine, EngineOptions, GuestError, LoadCounts};
use crate::handler::{Port, begin_beside as begin, queue, stay_before};
use crate::http::Connector;
use crate::periodic::{self, Clock, WallClock};
use crate::pipeline::{Pipeline, Shares, Version};
use crate::plugin::{Components, Limits, LoadError, Loader, Plugin, PluginSpec};
use crate::retry::RetryPolicy;
use crate::store::Store;
use crate::wire::Form;

mod canary;
mod load;
mod reload;
mod shadow;

use canary::Prepared;
use load::load;

pub use canary::Tried;
pub use reload::ReloadOutcome;

/// What a host serves.
#[derive(Debug, Default)]
pub struct HostOptions {
    /// The group of its subscriptions; hosts of one group share the messages.
    pub group: Option<String>,
    /// The plugins to load.
    pub plugins: Vec<ServedPlugin>,
    /// Native actions, served beside the plugins under the name `native`.
    pub native: Option<Dispatcher>,
    /// How much the native actions may use, all together and each.
    pub native_limits: Limits,
    /// When failures of native actions are tried again.
    pub native_retry: RetryPolicy,
    /// Plugins that receive nothing until they are resumed.
    pub paused: Vec<String>,
    /// Components to serve, by the name of the plugin, where the one that is described cannot be loaded.
    pub instead: BTreeMap<String, PathBuf>,
    /// Components of earlier versions, by the name of the plugin, the newest first: messages may wait that only they handle.
    pub before: BTreeMap<String, Vec<PathBuf>>,
    /// Versions that are tried on a share of the messages, by the name of the plugin.
    pub beside: BTreeMap<String, Tried>,
    /// What was read already of the components.
    pub components: Components,
    /// Certificates that requests over HTTP trust beside those of the system.
    pub http_ca: Option<PathBuf>,
    /// Where compiled components are kept; nowhere if nothing is said.
    pub cache: Option<CacheOptions>,
    /// Stack of one call in bytes; [`crate::guest::DEFAULT_STACK`] if nothing is said. The threads of the runtime need a
    /// mebibyte more than that.
    pub stack: Option<usize>,
    /// How long a version that was replaced may go on with what it has begun; [`DEFAULT_GRACE`] if nothing is said.
    pub drain: Option<Duration>,
}

/// A plugin with how its messages arrive.
#[derive(Debug, Clone, PartialEq)]
pub struct ServedPlugin {
    /// What it is.
    pub spec: PluginSpec,
    /// When failures are tried again.
    pub retry: RetryPolicy,
    /// How the messages in its queue are written.
    pub form: Form,
    /// The way of its messages from a network broker.
    pub receiving: Option<Mode>,
    /// Where those that end as dead letters go as well.
    pub dead_letter_queue: Option<QueueName>,
}

impl ServedPlugin {
    /// With the default retry policy and native messages.
    #[must_use]
    pub fn new(spec: PluginSpec) -> Self {
        Self {
            spec,
            retry: RetryPolicy::default(),
            form: Form::Native,
            receiving: None,
            dead_letter_queue: None,
        }
    }
}

/// A host that runs. It is cheap to clone; dropping the last one ends it at once, and what was in flight comes again.
#[derive(Debug, Clone)]
pub struct Host {
    shared: Arc<Shared>,
}

/// What its changes need.
#[derive(Debug)]
struct Shared {
    members: Mutex<Vec<Member>>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
    loader: Loader,
    group: String,
    backend: Arc<dyn Backend>,
    store: Arc<dyn Store>,
    client: Arc<Client>,
    http: Arc<Connector>,
    clock: Arc<dyn Clock>,
    /// What its queues have of it.
    shares: Shares,
    drain: Duration,
}

/// A plugin, or the native actions, with its port.
#[derive(Debug, Clone)]
struct Member {
    name: Arc<str>,
    /// `None` for native actions.
    plugin: Option<Arc<Plugin>>,
    served: Option<ServedPlugin>,
    /// Another version of it, which handles a share of its messages.
    tried: Option<(Arc<Plugin>, ServedPlugin)>,
    port: Arc<Port>,
}

/// Why a host did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The engine.
    #[error("the WebAssembly engine cannot be started: {0}")]
    Engine(#[from] GuestError),
    /// A plugin.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// Two plugins for one topic.
    #[error(transparent)]
    Conflict(#[from] Conflict),
    /// Two plugins of one name.
    #[error(
        "two plugins are named `{0}`; rename one of the files or give it another name in the configuration"
    )]
    SameName(Arc<str>),
    /// A version cannot be tried.
    #[error("{0}")]
    Untried(String),
    /// The broker.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// How often a broker that cannot be reached is asked again.
const STEP: Duration = Duration::from_millis(250);

/// The name of the native actions, which no plugin can have.
const NATIVE: &str = "native";

/// The group when none is configured.
pub const DEFAULT_GROUP: &str = "sandbar";

impl Host {
    /// Loads the plugins, checks them against each other, declares their queues and starts to serve.
    ///
    /// # Errors
    /// [`StartError`]; nothing is served then.
    pub async fn start(
        backend: Arc<dyn Backend>,
        store: Arc<dyn Store>,
        options: HostOptions,
    ) -> Result<Self, StartError> {
        Self::start_with_clock(backend, store, options, Arc::new(WallClock)).await
    }

    /// The same with a clock of its own for what is periodic.
    ///
    /// # Errors
    /// [`StartError`]; nothing is served then.
    pub async fn start_with_clock(
        backend: Arc<dyn Backend>,
        store: Arc<dyn Store>,
        options: HostOptions,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, StartError> {
        let loader = Loader::new(Engine::with(EngineOptions {
            cache: options.cache.clone(),
            stack: options.stack,
        })?);
        let plugins = load(&loader, &options).await?;
        available(&*backend).await?;
        let shared = Shared {
            members: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            loader,
            group: options.group.unwrap_or_else(|| DEFAULT_GROUP.to_owned()),
            client: Arc::new(Client::connect(backend.clone()).await?),
            http: Arc::new(Connector::new(options.http_ca)),
            backend,
            store,
            clock,
            shares: Shares::default(),
            drain: options.drain.unwrap_or(DEFAULT_GRACE),
        };
        let mut versions = Vec::new();
        for (plugin, served) in plugins.iter().zip(options.plugins.clone()) {
            let version = shared.version(plugin, &served)?;
            let tried = options.beside.get(&*plugin.name);
            let tried = shared.tried(&options.components, tried, &version, &served);
            let tried = tried.await;
            let files = options.before.get(&*plugin.name);
            let older = shared.older(
                &options.components,
                &served,
                files.map_or(&[][..], Vec::as_slice),
            );
            let older = older.await;
            versions.push((version, older, Some((plugin.clone(), served)), tried));
        }
        if let Some(native) = options.native {
            let access = Access {
                limits: options.native_limits,
                client: Some(shared.client.clone()),
                ..Access::native(shared.store.clone())
            };
            let native = periodic::coalesced(&native, &shared.clock)?;
            let retry = options.native_retry;
            let version = Version::new(Form::Native, native, Arc::new(access), retry);
            versions.push((version, Vec::new(), None, None));
        }
        for (position, (version, ..)) in versions.iter().enumerate() {
            for (other, ..) in versions.iter().skip(position + 1) {
                version.dispatcher.check_beside(&other.dispatcher)?;
            }
        }
        let mut members = Vec::with_capacity(versions.len());
        for (version, older, plugin, tried) in versions {
            let name = &*version.access.plugin;
            let paused = options.paused.iter().any(|paused| paused == name);
            members.push(shared.serve(version, older, plugin, tried, paused).await?);
        }
        // Last, when everything that they call is there.
        for member in &members {
            member.port.follow();
        }
        shared.members().extend(members);
        Ok(Self {
            shared: Arc::new(shared),
        })
    }

    /// The plugins that it serves.
    #[must_use]
    pub fn plugins(&self) -> Vec<Arc<Plugin>> {
        let members = self.shared.members();
        members
            .iter()
            .filter_map(|member| member.plugin.clone())
            .collect()
    }

    /// The subscriptions: one for each plugin, and one for native actions.
    #[must_use]
    pub fn ports(&self) -> Vec<Arc<Port>> {
        let members = self.shared.members();
        members.iter().map(|member| member.port.clone()).collect()
    }

    /// How components were loaded so far.
    #[must_use]
    pub fn loaded(&self) -> LoadCounts {
        self.shared.loader.counts()
    }

    /// A client of the same broker.
    #[must_use]
    pub fn client(&self) -> &Arc<Client> {
        &self.shared.client
    }

    /// Stops receiving, lets what runs end within `grace`, and gives the rest back. Returns whether everything had
    /// ended. The backend stays open.
    pub async fn stop(self, grace: Duration) -> bool {
        let _changing = self.shared.changing.lock().await;
        let members = std::mem::take(&mut *self.shared.members());
        let stopping = members.iter().map(|member| member.port.halt(grace));
        let ended = futures_util::future::join_all(stopping).await;
        self.shared.client.close().await;
        ended.into_iter().all(|ended| ended)
    }
}

impl Shared {
    fn members(&self) -> MutexGuard<'_, Vec<Member>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A plugin as a pipeline uses it.
    fn version(&self, plugin: &Arc<Plugin>, served: &ServedPlugin) -> Result<Version, Conflict> {
        let access = Access {
            plugin: plugin.name.clone(),
            grants: plugin.grants.clone(),
            limits: plugin.limits.clone(),
            hits: plugin.hits.clone(),
            store: self.store.clone(),
            client: Some(self.client.clone()),
            http: Some(self.http.clone()),
        };
        let dispatcher = periodic::coalesced(&plugin.dispatcher()?, &self.clock)?;
        let (form, retry) = (served.form, served.retry.clone());
        Ok(Version::new(form, dispatcher, Arc::new(access), retry))
    }

    fn spec(
        &self,
        version: &Version,
        served: Option<&ServedPlugin>,
    ) -> Result<QueueSpec, BackendError> {
        let dead_letter = served.and_then(|served| served.dead_letter_queue.clone());
        let spec = queue(
            &self.group,
            &version.access.plugin,
            &version.dispatcher,
            dead_letter,
        )?;
        Ok(QueueSpec {
            receiving: served.and_then(|served| served.receiving),
            ..spec
        })
    }

    /// Declares the queue and subscribes; what is periodic is not followed yet.
    async fn serve(
        &self,
        version: Version,
        older: Vec<Arc<Version>>,
        plugin: Option<(Arc<Plugin>, ServedPlugin)>,
        tried: Option<Prepared>,
        paused: bool,
    ) -> Result<Member, BackendError> {
        let (plugin, served) = plugin.unzip();
        let spec = self.spec(&version, served.as_ref())?;
        let queue = self.backend.declare_queue(spec.clone()).await?.queue;
        let name = version.access.plugin.clone();
        let pipeline = Pipeline::new(self.backend.clone(), queue, version).sharing(&self.shares);
        let stay = stay_before(&pipeline, older);
        let tried = tried.map(|tried| {
            begin(&pipeline, tried.beside);
            (tried.plugin, tried.served)
        });
        let port = Port::subscribe(Arc::new(pipeline), Some(spec), paused).await?;
        if stay {
            port.keep(self.drain, false);
        }
        Ok(Member {
            name,
            plugin,
            served,
            tried,
            port: Arc::new(port.with_clock(self.clock.clone())),
        })
    }
}

/// Waits for a broker that cannot be reached yet, however long it takes.
async fn available(backend: &dyn Backend) -> Result<(), BackendError> {
    let mut said = None;
    loop {
        match backend.health().await {
            Ok(_) => return Ok(()),
            Err(BackendError::Unavailable(reason)) => {
                if said.as_ref() != Some(&reason) {
                    tracing::warn!("waiting for the broker: {reason}");
                    said = Some(reason);
                }
            }
            Err(error) => return Err(error),
        }
        tokio::time::sleep(STEP).await;
    }
}
