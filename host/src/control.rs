//! Assembles a host and takes it apart again: load, check, declare, start; stop in the opposite order.
//!
//! Knows every part and does none of their work. What is configured is read in [`crate::config`].

use std::sync::Arc;
use std::time::Duration;

use crate::backend::{Backend, BackendError, QueueName};
use crate::call::Access;
use crate::client::Client;
use crate::dispatch::{Conflict, Dispatcher};
use crate::guest::{Engine, GuestError};
use crate::handler::{Port, queue};
use crate::periodic::{self, Clock, Periodic, WallClock};
use crate::pipeline::Pipeline;
use crate::plugin::{Limits, LoadError, Loader, Plugin, PluginSpec};
use crate::retry::RetryPolicy;
use crate::store::Store;
use crate::wire::Form;

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
            dead_letter_queue: None,
        }
    }
}

/// A host that runs. Dropping it ends it at once; what was in flight comes again.
#[derive(Debug)]
pub struct Host {
    /// Before the ports, so that it ends first.
    periodic: Vec<Periodic>,
    ports: Vec<Port>,
    client: Arc<Client>,
    plugins: Vec<Arc<Plugin>>,
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
    /// The broker.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// How often a broker that cannot be reached is asked again.
const STEP: Duration = Duration::from_millis(250);

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
        let plugins = load(&options.plugins).await?;
        available(&*backend).await?;
        let client = Arc::new(Client::connect(backend.clone()).await?);
        let group = options.group.as_deref().unwrap_or(DEFAULT_GROUP);
        let mut pipelines = Vec::new();
        for (plugin, served) in plugins.iter().zip(&options.plugins) {
            let access = Access {
                plugin: plugin.name.clone(),
                grants: plugin.grants.clone(),
                limits: plugin.limits.clone(),
                store: store.clone(),
                client: Some(client.clone()),
            };
            let dispatcher = periodic::coalesced(&plugin.dispatcher()?, &clock)?;
            let dead_letter = served.dead_letter_queue.clone();
            pipelines.push((
                dispatcher,
                access,
                served.retry.clone(),
                served.form,
                dead_letter,
            ));
        }
        if let Some(native) = options.native {
            let access = Access {
                limits: options.native_limits,
                client: Some(client.clone()),
                ..Access::native(store.clone())
            };
            let native = periodic::coalesced(&native, &clock)?;
            pipelines.push((native, access, options.native_retry, Form::Native, None));
        }
        for (position, (dispatcher, ..)) in pipelines.iter().enumerate() {
            for (other, ..) in pipelines.iter().skip(position + 1) {
                dispatcher.check_beside(other)?;
            }
        }
        let mut ports = Vec::with_capacity(pipelines.len());
        let mut timed = Vec::with_capacity(pipelines.len());
        for (dispatcher, access, retry, form, dead_letter) in pipelines {
            let spec = queue(group, &access.plugin, &dispatcher, dead_letter)?;
            let queue = backend.declare_queue(spec.clone()).await?.queue;
            let routes = dispatcher.routes().to_vec();
            timed.push((access.plugin.clone(), routes, queue.name.clone()));
            let backend = backend.clone();
            let access = Arc::new(access);
            let pipeline = Pipeline {
                backend,
                queue,
                form,
                dispatcher,
                access,
                retry,
            };
            ports.push(Port::subscribe(Arc::new(pipeline), Some(spec)).await?);
        }
        // Last, when everything that they call is there.
        let periodic = timed.iter().filter_map(|(plugin, routes, queue)| {
            Periodic::start(plugin, routes, queue, backend.clone(), clock.clone())
        });
        Ok(Self {
            periodic: periodic.collect(),
            ports,
            client,
            plugins,
        })
    }

    /// The plugins that it serves.
    #[must_use]
    pub fn plugins(&self) -> &[Arc<Plugin>] {
        &self.plugins
    }

    /// The subscriptions: one for each plugin, and one for native actions.
    #[must_use]
    pub fn ports(&self) -> &[Port] {
        &self.ports
    }

    /// A client of the same broker.
    #[must_use]
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Stops receiving, lets what runs end within `grace`, and gives the rest back. Returns whether everything had
    /// ended. The backend stays open.
    pub async fn stop(self, grace: Duration) -> bool {
        drop(self.periodic);
        let stopping = self.ports.into_iter().map(|port| port.stop(grace));
        let ended = futures_util::future::join_all(stopping).await;
        self.client.close().await;
        ended.into_iter().all(|ended| ended)
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

async fn load(served: &[ServedPlugin]) -> Result<Vec<Arc<Plugin>>, StartError> {
    let loader = Loader::new(Engine::new()?);
    let mut plugins: Vec<Arc<Plugin>> = Vec::with_capacity(served.len());
    for served in served {
        let plugin = loader.load(served.spec.clone()).await?;
        if plugins.iter().any(|known| known.name == plugin.name) || *plugin.name == *"native" {
            return Err(StartError::SameName(plugin.name.clone()));
        }
        plugins.push(plugin);
    }
    Ok(plugins)
}
