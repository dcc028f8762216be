//! The broker that a verb talks to: over the network, or that of the process that owns the data folder, through its
//! socket, or the folder itself when nobody owns it.
//!
//! Who owns what is decided in [`sandbar::backend`]; this keeps what a verb needs until it ends.

use std::path::Path;
use std::sync::Arc;

use sandbar::backend::local::{Server, Steward, serve_host};
use sandbar::backend::{
    self, Backend, BackendError, BrokerOptions, LocalBackend, OpenDataError, OpenError, Opened,
    OpenedData, Reach,
};
use sandbar::config::Config;
use sandbar::store::Store;

/// A broker, wherever it runs.
#[derive(Debug)]
pub(super) struct Broker {
    opened: Opened,
    owner: bool,
    server: Option<Server>,
}

/// Opens the broker of a host.
pub(super) async fn own(options: &BrokerOptions, data: &Path) -> Result<Broker, OpenError> {
    Ok(Broker {
        opened: options.open(data).await?,
        owner: options.reach() != Reach::Network,
        server: None,
    })
}

/// Finds the broker that a verb talks to.
pub(super) async fn find(config: &Config) -> Result<Broker, OpenDataError> {
    let OpenedData {
        backend,
        store,
        owner,
    } = backend::find(&config.broker, &config.data.value).await?;
    Ok(Broker {
        opened: Opened { backend, store },
        owner,
        server: None,
    })
}

/// Finds the broker that there is; makes no data for somebody who only wants to look.
pub(super) async fn look(config: &Config) -> anyhow::Result<Broker> {
    // Its store is in the folder of the host, which has it open.
    let data = &config.data.value;
    if config.broker.kind.as_str() == "rabbitmq"
        && let Ok(host) = LocalBackend::connect(data).await
    {
        let host = Arc::new(host);
        let opened = Opened {
            backend: host.clone(),
            store: host,
        };
        return Ok(Broker {
            opened,
            owner: false,
            server: None,
        });
    }
    if has_data(config) {
        return Ok(find(config).await?);
    }
    anyhow::bail!(
        "there is no data in {}; name the folder of the host with `--data`",
        config.data.value.display()
    )
}

/// Whether there is something to look at: a folder that nobody has used yet has no data.
pub(super) fn has_data(config: &Config) -> bool {
    config.broker.reach() != Reach::Folder || config.data.value.join("sandbar.db").exists()
}

impl Broker {
    pub(super) fn backend(&self) -> Arc<dyn Backend> {
        self.opened.backend.clone()
    }

    pub(super) fn store(&self) -> Arc<dyn Store> {
        self.opened.store.clone()
    }

    pub(super) fn opened(&self) -> &Opened {
        &self.opened
    }

    /// Whether other processes can use it.
    pub(super) fn shared(&self) -> bool {
        !self.owner
    }

    /// Lets other processes use it, if it is ours to share, and ask the host.
    pub(super) fn share(
        &mut self,
        data: &Path,
        steward: Option<Arc<dyn Steward>>,
    ) -> Result<(), BackendError> {
        if self.owner || steward.is_some() {
            let server = serve_host(data, self.backend(), self.store(), steward)?;
            self.server = Some(server);
        }
        Ok(())
    }

    pub(super) async fn close(&mut self) {
        if let Some(server) = self.server.take() {
            server.close().await;
        }
        self.opened.backend.close().await;
    }
}
