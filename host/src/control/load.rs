//! Loads what a start needs: the plugins, several at once, and the versions before them.
//!
//! What becomes of them is decided by its parent.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::time::Instant;

use super::{HostOptions, NATIVE, ServedPlugin, Shared, StartError};
use crate::pipeline::Version;
use crate::plugin::{Components, LoadError, Loader, Plugin, PluginSpec};

impl Shared {
    /// Earlier versions that messages may wait for. One that cannot be loaded any more is no reason not to start.
    pub(super) async fn older(
        &self,
        components: &Components,
        served: &ServedPlugin,
        files: &[PathBuf],
    ) -> Vec<Arc<Version>> {
        let mut older = Vec::with_capacity(files.len());
        for file in files {
            let mut spec = served.spec.clone();
            spec.file.clone_from(file);
            spec.digest = None;
            match self.loader.load_of(components, spec).await {
                Ok(plugin) => older.extend(self.version(&plugin, served).ok().map(Arc::new)),
                Err(error) => {
                    tracing::warn!(plugin = %served.spec.name, "what waits for an earlier version finds no handler: {error}");
                }
            }
        }
        older
    }
}

/// As many at once as there are cores; a large component keeps all of them busy by itself.
pub(super) async fn load(
    loader: &Loader,
    options: &HostOptions,
) -> Result<Vec<Arc<Plugin>>, StartError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut loading = Vec::with_capacity(options.plugins.len());
    for served in &options.plugins {
        let instead = options.instead.get(&served.spec.name).cloned();
        loading.push(load_one(
            loader,
            &options.components,
            served.spec.clone(),
            instead,
        ));
    }
    let mut loading = futures_util::stream::iter(loading).buffered(cores);
    let mut say = Instant::now() + Duration::from_secs(1);
    let mut names = HashSet::with_capacity(options.plugins.len());
    let mut plugins: Vec<Arc<Plugin>> = Vec::with_capacity(options.plugins.len());
    while let Some(plugin) = loading.next().await {
        let plugin = plugin?;
        if !names.insert(plugin.name.clone()) || *plugin.name == *NATIVE {
            return Err(StartError::SameName(plugin.name.clone()));
        }
        plugins.push(plugin);
        let all = options.plugins.len();
        if Instant::now() >= say && plugins.len() < all {
            tracing::info!("{} of {all} plugins are prepared", plugins.len());
            say = Instant::now() + STEP_OF_PROGRESS;
        }
    }
    Ok(plugins)
}

/// A start that takes longer than a second says how far it is, and then so often.
const STEP_OF_PROGRESS: Duration = Duration::from_secs(5);

async fn load_one(
    loader: &Loader,
    components: &Components,
    mut spec: PluginSpec,
    instead: Option<PathBuf>,
) -> Result<Arc<Plugin>, LoadError> {
    let loaded = loader.load_of(components, spec.clone()).await;
    if let Err(error) = &loaded
        && let Some(instead) = instead
    {
        tracing::error!(plugin = %spec.name, "{error}; the version that was served last is served instead");
        spec.file = instead;
        return loader.load_of(components, spec).await;
    }
    loaded
}
