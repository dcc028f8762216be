//! A broker wherever it is: that of a data folder is opened when nobody owns it, and reached through the owner's socket
//! otherwise; one that everybody can reach is opened.
//!
//! A host that wants the folder for itself opens it with [`BrokerOptions::open`] and serves it; this is for everybody else.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{
    Backend, BackendError, BrokerKind, BrokerOptions, LocalBackend, OpenError, Opened, Reach,
};
use crate::store::Store;

/// How long an owner may own the folder without a socket, because it is just starting or ending.
const PATIENCE: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(20);

/// A broker with its store. Close the backend at the end.
#[derive(Debug, Clone)]
pub struct OpenedData {
    /// The broker.
    pub backend: Arc<dyn Backend>,
    /// Its store.
    pub store: Arc<dyn Store>,
    /// Whether this process owns the folder. Then nobody else can reach it, unless it is [served](super::local::serve).
    pub owner: bool,
}

/// Opens the embedded broker of a data folder, or connects to the process that has it open.
///
/// # Errors
/// [`OpenDataError`], with what to do about it.
pub async fn open_data(dir: &Path) -> Result<OpenedData, OpenDataError> {
    find(&BrokerOptions::default(), dir).await
}

/// Gets to a broker wherever it is: opens it if that is possible, or connects to the process that has it open.
///
/// # Errors
/// [`OpenDataError`], with what to do about it.
pub async fn find(options: &BrokerOptions, dir: &Path) -> Result<OpenedData, OpenDataError> {
    let reach = options.reach();
    let until = Instant::now() + PATIENCE;
    loop {
        if reach != Reach::Network {
            match LocalBackend::connect(dir).await {
                Ok(local) => return Ok(OpenedData::of(Opened::of(local), false)),
                Err(BackendError::Unavailable(_)) if reach == Reach::Folder => {}
                Err(BackendError::Unavailable(_)) => {
                    let folder = dir.to_owned();
                    return Err(OpenDataError::Nobody {
                        kind: options.kind,
                        folder,
                    });
                }
                Err(error) => return Err(OpenDataError::Refused(error)),
            }
        }
        match options.open(dir).await {
            Ok(opened) => return Ok(OpenedData::of(opened, reach == Reach::Folder)),
            Err(OpenError::Busy { .. }) if Instant::now() < until => sleep(STEP).await,
            Err(OpenError::Busy { folder, owner }) => {
                return Err(OpenDataError::Silent { folder, owner });
            }
            Err(error) => return Err(OpenDataError::Open(error)),
        }
    }
}

impl OpenedData {
    fn of(opened: Opened, owner: bool) -> Self {
        let Opened { backend, store } = opened;
        Self {
            backend,
            store,
            owner,
        }
    }
}

/// Why the broker of a data folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenDataError {
    /// Nobody else owns the folder, and it cannot be opened.
    #[error(transparent)]
    Open(OpenError),
    /// Its owner cannot be talked to: another release, or another user.
    #[error(transparent)]
    Refused(BackendError),
    /// It lives in the process of a host, and none is running.
    #[error(
        "the broker of kind `{}` lives in the process of its host, and no host is running with data in {}; start one \
         with `sandbar run`, or choose another kind in [broker]",
        kind.as_str(), folder.display()
    )]
    Nobody {
        /// The kind.
        kind: BrokerKind,
        /// Where its socket would be.
        folder: PathBuf,
    },
    /// It has an owner, which has no socket or doesn't answer on it.
    #[error(
        "{} is in use by process {owner}, which doesn't answer on its socket; wait until it ends, restart it if it \
         hangs or is an older release, or use another --data",
        folder.display()
    )]
    Silent {
        /// The data folder.
        folder: PathBuf,
        /// The identifier of the process, or what is known of it.
        owner: String,
    },
}
