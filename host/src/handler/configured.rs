//! Dispatchers, handlers and ports of plugins that are named in the configuration.
//!
//! Reads no file but the component; the configuration was read before.

use std::sync::Arc;

use super::{Handler, HandlerError, Port};
use crate::backend::Opened;
use crate::call::Access;
use crate::config::Config;
use crate::control::ServedPlugin;
use crate::dispatch::Dispatcher;
use crate::guest::Engine;
use crate::http::Connector;
use crate::plugin::{Loader, Plugin};

impl Dispatcher {
    /// The table of a plugin of the configuration: the seed's `_from_config`.
    ///
    /// # Errors
    /// [`HandlerError`] when there is no such plugin or it cannot be loaded.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use sandbar::config::{Config, Options};
    /// use sandbar::dispatch::Dispatcher;
    ///
    /// let config = Config::load(Options::default())?;
    /// let error = Dispatcher::from_config(&config, "orders").await.unwrap_err();
    /// assert!(error.to_string().starts_with("no plugin is named `orders`"));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn from_config(config: &Config, plugin: &str) -> Result<Self, HandlerError> {
        let (plugin, _) = load(config, plugin).await?;
        Ok(plugin.dispatcher()?)
    }
}

impl Handler {
    /// The handler of a plugin of the configuration, with its grants, limits and retries, in the configured group: the
    /// seed's `_from_config`. Its concurrency is `limits.concurrency`.
    ///
    /// # Errors
    /// [`HandlerError`] when there is no such plugin or it cannot be loaded.
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use sandbar::config::{Config, Options};
    /// use sandbar::handler::Handler;
    ///
    /// let config = Config::load(Options::default())?;
    /// let broker = config.broker.open(&config.data.value).await?;
    /// Handler::from_config(&config, &broker, "orders").await?.run().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn from_config(
        config: &Config,
        broker: &Opened,
        plugin: &str,
    ) -> Result<Self, HandlerError> {
        let (plugin, served) = load(config, plugin).await?;
        let access = Access {
            plugin: plugin.name.clone(),
            grants: plugin.grants.clone(),
            limits: plugin.limits.clone(),
            hits: plugin.hits.clone(),
            store: broker.store.clone(),
            client: None,
            http: Some(Arc::new(Connector::new(config.http_ca.clone()))),
        };
        let mut handler = Self::of(broker, plugin.dispatcher()?, access);
        handler.group.clone_from(&config.group.value);
        handler.retry = served.retry;
        handler.form = served.form;
        handler.receiving = served.receiving;
        handler.dead_letter = served.dead_letter_queue;
        Ok(handler)
    }
}

impl Port {
    /// The handler of a plugin of the configuration, started: the seed's `_from_config` and `start`.
    ///
    /// # Errors
    /// As [`Handler::from_config`] and [`Port::serve`].
    ///
    /// ```no_run
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use sandbar::backend::open;
    /// use sandbar::config::{Config, Options};
    /// use sandbar::handler::Port;
    ///
    /// let config = Config::load(Options::default())?;
    /// let broker = open("embedded", &config.data.value).await?;
    /// let port = Port::from_config(&config, &broker, "orders").await?;
    /// tokio::signal::ctrl_c().await?;
    /// port.stop(Duration::from_secs(10)).await;
    /// broker.backend.close().await;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn from_config(
        config: &Config,
        broker: &Opened,
        plugin: &str,
    ) -> Result<Self, HandlerError> {
        Self::serve(Handler::from_config(config, broker, plugin).await?).await
    }
}

async fn load(config: &Config, name: &str) -> Result<(Arc<Plugin>, ServedPlugin), HandlerError> {
    let mut all = config.served(&[])?;
    let Some(position) = all.iter().position(|served| served.spec.name == name) else {
        let known: Vec<String> = all
            .iter()
            .map(|served| format!("`{}`", served.spec.name))
            .collect();
        let known = if known.is_empty() {
            "none".to_owned()
        } else {
            known.join(", ")
        };
        let name = name.to_owned();
        return Err(HandlerError::Unknown { name, known });
    };
    let served = all.swap_remove(position);
    let loader = Loader::new(Engine::with(config.engine())?);
    Ok((loader.load(served.spec.clone()).await?, served))
}
