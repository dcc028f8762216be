//! Changes of a running host: a plugin is added, another version takes its place, it is paused or removed.
//!
//! A version is prepared beside the one that is live, wholly, and only then switched to; whatever fails leaves the live one
//! as it was. Where versions come from, and what is remembered of them, is not known here.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Host, Member, NATIVE, ServedPlugin, StartError};
use crate::guest::Binary;
use crate::handler::{Change, Port};
use crate::pipeline::Version;
use crate::plugin::{LoadError, Plugin, read};

/// What became of a plugin that was to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReloadOutcome {
    /// It is what is served already.
    Unchanged,
    /// It is served from now on.
    Swapped,
    /// It is not served, and why; what was served before still is.
    RolledBack(String),
}

impl fmt::Display for ReloadOutcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unchanged => f.write_str("unchanged"),
            Self::Swapped => f.write_str("swapped"),
            Self::RolledBack(reason) => write!(f, "rolled back: {reason}"),
        }
    }
}

impl Host {
    /// Serves this plugin from now on: in the place of the one of its name, or beside the others. Messages that are being
    /// handled stay with the version that they began with, later ones go to the new one; what waits for a route that only
    /// the old version has is still handled by that.
    pub async fn reload(&self, served: ServedPlugin) -> ReloadOutcome {
        let (spec, name) = (served.spec.clone(), served.spec.name.clone());
        let read = tokio::task::spawn_blocking(move || read(&spec)).await;
        match read {
            Ok(Ok(binary)) => self.reload_read(served, binary).await,
            Ok(Err(error)) => {
                let error = self.counted(&name, error);
                ReloadOutcome::RolledBack(error.to_string())
            }
            Err(error) => ReloadOutcome::RolledBack(format!("its file cannot be read: {error}")),
        }
    }

    /// The same of a component that was read already.
    pub(crate) async fn reload_read(&self, served: ServedPlugin, binary: Binary) -> ReloadOutcome {
        let _changing = self.shared.changing.lock().await;
        match self.replace(served, binary).await {
            Ok(true) => ReloadOutcome::Swapped,
            Ok(false) => ReloadOutcome::Unchanged,
            Err(error) => ReloadOutcome::RolledBack(error.to_string()),
        }
    }

    async fn replace(&self, served: ServedPlugin, binary: Binary) -> Result<bool, StartError> {
        let shared = &*self.shared;
        let live = self.member(&served.spec.name);
        if live
            .as_ref()
            .is_some_and(|live| same(live, binary.digest(), &served))
        {
            return Ok(false);
        }
        let plugin = shared.loader.load_read(served.spec.clone(), binary).await?;
        if *plugin.name == *NATIVE {
            return Err(StartError::SameName(plugin.name.clone()));
        }
        let version = shared.version(&plugin, &served)?;
        for other in shared
            .members()
            .iter()
            .filter(|other| other.name != plugin.name)
        {
            let serving = other.port.pipeline().serving();
            serving
                .version
                .dispatcher
                .check_beside(&version.dispatcher)?;
        }
        match live {
            Some(live) => {
                self.switch(&live, Arc::new(version), plugin, served)
                    .await?;
            }
            None => {
                let member = shared
                    .serve(version, Vec::new(), Some((plugin, served)), None, false)
                    .await?;
                member.port.follow();
                shared.members().push(member);
            }
        }
        Ok(true)
    }

    pub(super) async fn switch(
        &self,
        live: &Member,
        version: Arc<Version>,
        plugin: Arc<Plugin>,
        served: ServedPlugin,
    ) -> Result<(), StartError> {
        let spec = self.shared.spec(&version, Some(&served))?;
        let drain = self.shared.drain;
        let change = Change {
            version,
            spec,
            drain,
        };
        live.port.switch(change).await?;
        let mut members = self.shared.members();
        if let Some(member) = members.iter_mut().find(|member| member.name == live.name) {
            member.plugin = Some(plugin);
            member.served = Some(served);
            member.tried = None;
        }
        Ok(())
    }

    /// Stops to serve a plugin, once what it has begun has ended or `grace` is over. Its queue stays and keeps what comes.
    /// Returns `None` if there is no such plugin, and otherwise whether everything had ended.
    pub async fn remove(&self, name: &str, grace: Duration) -> Option<bool> {
        let _changing = self.shared.changing.lock().await;
        let member = self.member(name)?;
        let ended = member.port.halt(grace).await;
        self.shared
            .members()
            .retain(|other| other.name != member.name);
        Some(ended)
    }

    /// Lets the messages of a plugin wait, or has them handled again. Returns whether there is such a plugin.
    pub fn pause(&self, name: &str, pause: bool) -> bool {
        let member = self.member(name);
        if let Some(member) = &member {
            member.port.pause(pause);
        }
        member.is_some()
    }

    /// The plugin of that name, as it is served.
    #[must_use]
    pub fn plugin(&self, name: &str) -> Option<(Arc<Plugin>, ServedPlugin)> {
        let member = self.member(name)?;
        member.plugin.zip(member.served)
    }

    /// Every limit by name with how often this plugin hit it since the host was started, in all its versions, those that could
    /// not be loaded as well.
    #[must_use]
    pub fn limits_hit(&self, plugin: &str) -> Vec<(&'static str, u64)> {
        self.shared.loader.limits_hit(plugin)
    }

    /// Counts the limit that kept a plugin from being loaded.
    pub(crate) fn counted(&self, plugin: &str, error: LoadError) -> LoadError {
        self.shared.loader.counted(plugin, error)
    }

    /// The digests of earlier versions of a plugin that still handle what only they have routes for, the newest first.
    #[must_use]
    pub fn before(&self, name: &str) -> Vec<String> {
        let Some(port) = self.port(name) else {
            return Vec::new();
        };
        let serving = port.pipeline().serving();
        let digest = |version: &Arc<Version>| {
            let route = version.dispatcher.routes().first()?;
            Some(route.action.identity().digest?.to_string())
        };
        serving.before.iter().filter_map(digest).collect()
    }

    /// The subscription of a plugin.
    #[must_use]
    pub fn port(&self, name: &str) -> Option<Arc<Port>> {
        Some(self.member(name)?.port)
    }

    pub(super) fn member(&self, name: &str) -> Option<Member> {
        let members = self.shared.members();
        let mut plugins = members.iter().filter(|member| member.plugin.is_some());
        plugins.find(|member| *member.name == *name).cloned()
    }
}

/// Whether a version would be what is live already. Where its file lies makes no difference.
fn same(live: &Member, digest: &str, served: &ServedPlugin) -> bool {
    let same_component = live
        .plugin
        .as_ref()
        .is_some_and(|live| *live.digest == *digest);
    let as_served = live.served.as_ref().is_some_and(|live| {
        let mut other = served.clone();
        other.spec.file.clone_from(&live.spec.file);
        other == *live
    });
    same_component && as_served
}
