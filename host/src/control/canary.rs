//! Another version of a plugin, tried on a share of its messages: begun, promoted or withdrawn.
//!
//! It has to handle what the live one handles. When it is promoted or withdrawn is decided elsewhere.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Host, ServedPlugin, Shared, StartError};
use crate::dispatch::{Dispatcher, Kind, Route};
use crate::guest::Binary;
use crate::pipeline::{Beside, Version};
use crate::plugin::{Components, Plugin};
use crate::rollout::Share;

/// A version that is tried from the start of a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tried {
    /// Its component.
    pub file: PathBuf,
    /// How much it handles.
    pub share: Share,
}

/// A version that may be tried.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) plugin: Arc<Plugin>,
    pub(super) served: ServedPlugin,
    pub(super) beside: Arc<Beside>,
}

impl Shared {
    /// The version that is to be tried from the start on, unless it is no good.
    pub(super) async fn tried(
        &self,
        components: &Components,
        tried: Option<&Tried>,
        live: &Version,
        served: &ServedPlugin,
    ) -> Option<Prepared> {
        let tried = tried?;
        let mut served = served.clone();
        served.spec.file.clone_from(&tried.file);
        served.spec.digest = None;
        let loaded = self.loader.load_of(components, served.spec.clone()).await;
        let prepared = loaded
            .map_err(StartError::from)
            .and_then(|plugin| self.prepared(live, plugin, served, tried.share));
        prepared
            .inspect_err(|error| {
                tracing::error!(plugin = %live.access.plugin, "its canary is not tried any more: {error}");
            })
            .ok()
    }

    /// A version that handles the same as the live one.
    fn prepared(
        &self,
        live: &Version,
        plugin: Arc<Plugin>,
        served: ServedPlugin,
        share: Share,
    ) -> Result<Prepared, StartError> {
        let version = self.version(&plugin, &served)?;
        same_routes(&live.dispatcher, &version.dispatcher).map_err(StartError::Untried)?;
        let beside = Arc::new(Beside::new(Arc::new(version), &plugin.digest, share));
        Ok(Prepared {
            plugin,
            served,
            beside,
        })
    }
}

impl Host {
    /// Has a share of the messages of a plugin handled by another version from now on, instead of the one that was tried
    /// before.
    pub(crate) async fn try_version(
        &self,
        served: ServedPlugin,
        binary: Binary,
        share: Share,
    ) -> Result<Arc<Beside>, StartError> {
        let _changing = self.shared.changing.lock().await;
        let name = served.spec.name.clone();
        let refused = |why: &str| StartError::Untried(why.to_owned());
        let live = self.member(&name).ok_or_else(|| {
            refused("nothing is served under this name that it could be compared with; deploy it without `--canary`")
        })?;
        if live
            .plugin
            .as_ref()
            .is_some_and(|it| it.digest == *binary.digest())
        {
            return Err(refused("it is what is live already"));
        }
        let serving = live.port.pipeline().serving();
        let plugin = self
            .shared
            .loader
            .load_read(served.spec.clone(), binary)
            .await?;
        let prepared = self
            .shared
            .prepared(&serving.version, plugin, served, share)?;
        live.port.set_beside(Some(prepared.beside.clone())).await;
        self.remember_tried(&name, Some((prepared.plugin, prepared.served)));
        Ok(prepared.beside)
    }

    /// The version that is tried takes the place of the live one. Returns what it was, or `None` if this one is not tried any
    /// more.
    pub(crate) async fn promote(
        &self,
        name: &str,
        beside: &Arc<Beside>,
    ) -> Result<Option<Arc<Plugin>>, StartError> {
        let _changing = self.shared.changing.lock().await;
        let Some(live) = self.member(name).filter(|_| self.is_tried(name, beside)) else {
            return Ok(None);
        };
        let Some((plugin, served)) = live.tried.clone() else {
            return Ok(None);
        };
        self.switch(&live, beside.version.clone(), plugin.clone(), served)
            .await?;
        Ok(Some(plugin))
    }

    /// The version that is tried gets nothing any more, and what it handles comes to the live one. Returns whether this one
    /// was tried.
    pub(crate) async fn withdraw(&self, name: &str, beside: &Arc<Beside>) -> bool {
        let _changing = self.shared.changing.lock().await;
        let Some(live) = self.member(name).filter(|_| self.is_tried(name, beside)) else {
            return false;
        };
        live.port.set_beside(None).await;
        self.remember_tried(name, None);
        true
    }

    /// The version of a plugin that is tried on a share of its messages.
    #[must_use]
    pub fn beside(&self, name: &str) -> Option<Arc<Beside>> {
        self.port(name)?.pipeline().serving().beside.clone()
    }

    /// Whether it is this one.
    pub(crate) fn is_tried(&self, name: &str, beside: &Arc<Beside>) -> bool {
        let tried = self.beside(name);
        tried.is_some_and(|tried| Arc::ptr_eq(&tried, beside))
    }

    fn remember_tried(&self, name: &str, tried: Option<(Arc<Plugin>, ServedPlugin)>) {
        let mut members = self.shared.members();
        if let Some(member) = members.iter_mut().find(|member| *member.name == *name) {
            member.tried = tried;
        }
    }
}

/// Refuses a version that does not handle what the live one does, with the difference. What is periodic is not tried, and
/// may differ.
fn same_routes(live: &Dispatcher, new: &Dispatcher) -> Result<(), String> {
    // Copies of an event find their handler by its number.
    let shared = |of: &Dispatcher, route: &Route| {
        let mut others = of.routes().iter().filter(|it| it.number != route.number);
        route.kind == Kind::Event && others.any(|it| it.topic.overlaps(&route.topic))
    };
    let all = |of: &Dispatcher| -> BTreeSet<String> {
        let tried = of.routes().iter().filter(|it| it.kind != Kind::Periodic);
        let named = tried.map(|route| match shared(of, route) {
            true => format!("{} `{}` ({})", route.kind, route.topic, route.description),
            false => format!("{} `{}`", route.kind, route.topic),
        });
        named.collect()
    };
    let (live, new) = (all(live), all(new));
    let list = |some: Vec<&String>| {
        let names: Vec<&str> = some.into_iter().map(String::as_str).collect();
        names.join(", ")
    };
    let (missing, more) = (
        list(live.difference(&new).collect()),
        list(new.difference(&live).collect()),
    );
    let difference = match (missing.is_empty(), more.is_empty()) {
        (true, true) => return Ok(()),
        (false, true) => format!("{missing} is missing"),
        (true, false) => format!("{more} is new"),
        (false, false) => format!("{missing} is missing, and {more} is new"),
    };
    Err(format!(
        "it has other routes than the live version: {difference}; deploy it without `--canary`, or try it with the same routes"
    ))
}
