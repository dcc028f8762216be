//! A loaded plugin: its component, its routes, what it may do, and the instances that handle its messages.
//!
//! How a file becomes a plugin is in `plugin/loader.rs`, how instances are shared in `plugin/pool.rs`. WebAssembly itself
//! is behind [`crate::guest`].

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;

use crate::call::Call;
use crate::dispatch::{Action, Conflict, Dispatcher, Identity, Kind, Outcome, Route};
use crate::periodic::Schedule;
use crate::topic::Pattern;

mod components;
mod grants;
mod hits;
mod limits;
mod loader;
mod pool;
mod secrets;
mod trust;
mod turns;

pub use components::Components;
pub use grants::{Grants, Readable};
pub use hits::{Grant, Hits, Limit};
pub use limits::{Isolation, Limits, MOST_TABLE_ELEMENTS, TooLarge};
pub(crate) use loader::read;
pub use loader::{LoadError, Loader, PluginSpec};
pub use secrets::Secrets;
pub use trust::TrustedKey;
pub(crate) use trust::{signature, signature_file};

use pool::Pool;

/// A plugin that can handle messages.
#[derive(Debug)]
pub struct Plugin {
    /// The name under which it is configured and keeps its state.
    pub name: Arc<str>,
    /// The file that it was loaded from.
    pub file: PathBuf,
    /// The digest of its component.
    pub digest: Arc<str>,
    /// What it handles.
    pub routes: Vec<PluginRoute>,
    /// What it may do.
    pub grants: Grants,
    /// How much of it.
    pub limits: Limits,
    /// How often it hit a limit, in all its versions.
    pub hits: Arc<Hits>,
    /// Interfaces that it imports.
    pub imports: Vec<String>,
    pool: Pool,
}

/// A checked route of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PluginRoute {
    /// Which topics; `periodic.PLUGIN` if it has a schedule.
    pub topic: Pattern,
    /// When it is due, if it is periodic.
    pub schedule: Option<Schedule>,
    /// What it promises.
    pub kind: Kind,
    /// One line for people.
    pub description: String,
    /// Its number among the routes that the guest declared.
    pub index: u32,
}

impl Plugin {
    /// The table of its routes.
    ///
    /// # Errors
    /// [`Conflict`] when it declares the same command or query twice.
    pub fn dispatcher(self: &Arc<Self>) -> Result<Dispatcher, Conflict> {
        let mut dispatcher = Dispatcher::default();
        for route in &self.routes {
            dispatcher.add(Route {
                topic: route.topic.clone(),
                kind: route.kind,
                schedule: route.schedule.clone(),
                description: route.description.clone(),
                place: format!("{}, route {}", self.file.display(), route.index + 1),
                index: route.index,
                number: 0,
                action: Arc::new(PluginAction(self.clone())),
            })?;
        }
        Ok(dispatcher)
    }

    /// What is counted of it since the host was started, of all its versions: limits that were hit, refusals, instances.
    #[must_use]
    pub fn counts(&self) -> &Hits {
        &self.hits
    }

    /// Grants that are missing for what it imports, as lines to add to the configuration.
    #[must_use]
    pub fn missing_grants(&self) -> Vec<String> {
        let imports = |name: &str| {
            self.imports
                .iter()
                .any(|import| import.starts_with(&format!("sandbar:messaging/{name}@")))
        };
        let mut missing = Vec::new();
        if imports("publisher") && self.grants.publish.is_empty() {
            missing.push("publish = [\"TOPIC\"]".to_owned());
        }
        if imports("client") && self.grants.request.is_empty() {
            missing.push("request = [\"TOPIC\"]".to_owned());
        }
        if imports("state") && !self.grants.state {
            missing.push("state = true".to_owned());
        }
        let sends = |import: &String| import.starts_with("wasi:http/outgoing-handler@");
        if self.imports.iter().any(sends) && self.grants.http.iter().flatten().next().is_none() {
            missing.push("http = [\"https://HOST/*\"]".to_owned());
        }
        missing
    }
}

/// Handles a message in one of the plugin's instances.
struct PluginAction(Arc<Plugin>);

impl fmt::Debug for PluginAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PluginAction({})", self.0.name)
    }
}

#[async_trait]
impl Action for PluginAction {
    async fn call(&self, mut call: Call) -> (Call, Outcome) {
        let plugin = &*self.0;
        let (instance, slot) = match plugin.pool.acquire().await {
            Ok(Some(acquired)) => acquired,
            Ok(None) => return (call, Outcome::Superseded),
            Err(error) => {
                if let Some(limit) = error.limit() {
                    call.hit(limit);
                }
                let outcome = Outcome::Retry {
                    reason: error.to_string(),
                    after: None,
                };
                return (call, outcome);
            }
        };
        let (call, outcome, instance) = instance.handle(call).await;
        slot.give_back(instance);
        (call, outcome)
    }

    fn identity(&self) -> Identity {
        Identity {
            plugin: Some(self.0.name.clone()),
            digest: Some(self.0.digest.clone()),
        }
    }

    fn supersede(&self, over: bool) {
        self.0.pool.supersede(over);
    }
}
