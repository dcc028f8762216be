//! The broker of a data folder, whoever owns it: opened when nobody does, reached through the owner's socket otherwise.
//!
//! A host that wants the folder for itself opens [`EmbeddedBackend`] and serves it; this is for everybody else.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::{Backend, BackendError, EmbeddedBackend, EmbeddedOptions, LocalBackend, OpenError};
use crate::store::Store;

/// How long an owner may own the folder without a socket, because it is just starting or ending.
const PATIENCE: Duration = Duration::from_secs(2);
const STEP: Duration = Duration::from_millis(20);

/// The broker of a data folder with its store. Close the backend at the end.
#[derive(Debug, Clone)]
pub struct OpenedData {
    /// The broker.
    pub backend: Arc<dyn Backend>,
    /// Its store.
    pub store: Arc<dyn Store>,
    /// Whether this process owns the folder. Then nobody else can reach it, unless it is [served](super::local::serve).
    pub owner: bool,
}

/// Opens the broker of a data folder, or connects to the process that has it open.
///
/// # Errors
/// [`OpenDataError`], with what to do about it.
pub async fn open_data(dir: &Path) -> Result<OpenedData, OpenDataError> {
    let until = Instant::now() + PATIENCE;
    loop {
        match LocalBackend::connect(dir).await {
            Ok(local) => return Ok(OpenedData::of(local, false)),
            Err(BackendError::Unavailable(_)) => {}
            Err(error) => return Err(OpenDataError::Refused(error)),
        }
        match EmbeddedBackend::open(dir, EmbeddedOptions::default()).await {
            Ok(embedded) => return Ok(OpenedData::of(embedded, true)),
            Err(OpenError::Busy { .. }) if Instant::now() < until => sleep(STEP).await,
            Err(OpenError::Busy { folder, owner }) => {
                return Err(OpenDataError::Silent { folder, owner });
            }
            Err(error) => return Err(OpenDataError::Open(error)),
        }
    }
}

impl OpenedData {
    fn of<B: Backend + Store + 'static>(both: B, owner: bool) -> Self {
        let both = Arc::new(both);
        Self {
            backend: both.clone(),
            store: both,
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
