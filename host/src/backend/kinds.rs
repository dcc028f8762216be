//! The table of kinds: which brokers there are, and how one is opened by its name.
//!
//! It holds no options of a kind beyond the data folder; those are the kind's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Backend, EmbeddedBackend, EmbeddedOptions, MemoryBackend};
use crate::store::Store;

/// The names that [`open`] knows, the default first.
pub const KINDS: [&str; 2] = ["embedded", "memory"];

/// A backend with the store that commits with it.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The broker.
    pub backend: Arc<dyn Backend>,
    /// Its store.
    pub store: Arc<dyn Store>,
}

impl Opened {
    fn of<B: Backend + Store + 'static>(both: B) -> Self {
        let both = Arc::new(both);
        Self {
            backend: both.clone(),
            store: both,
        }
    }
}

/// Opens a backend by the name of its kind. `data` is the folder of those that keep their messages on this machine.
///
/// # Errors
/// [`OpenError`], with what to do about it.
pub async fn open(kind: &str, data: &Path) -> Result<Opened, OpenError> {
    match kind {
        "embedded" => {
            let embedded = EmbeddedBackend::open(data, EmbeddedOptions::default()).await?;
            Ok(Opened::of(embedded))
        }
        "memory" => Ok(Opened::of(MemoryBackend::new())),
        unknown => Err(OpenError::UnknownKind(unknown.to_owned())),
    }
}

/// Why a backend could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No such kind.
    #[error("there is no broker of kind `{0}`; use one of {known}", known = KINDS.join(", "))]
    UnknownKind(String),
    /// Another process owns the data folder.
    #[error(
        "{} is in use by process {owner}; stop that host, or use another --data", folder.display()
    )]
    Busy {
        /// The data folder.
        folder: PathBuf,
        /// The identifier of the process, or what is known of it.
        owner: String,
    },
    /// Something else is where the data folder should be.
    #[error("{} is not a folder; use another --data", .0.display())]
    NotAFolder(PathBuf),
    /// The folder or a file in it cannot be written.
    #[error("{} is read-only for this user; change its permissions, or use another --data", .0.display())]
    ReadOnly(PathBuf),
    /// The file in its place is no database.
    #[error("{} is not a SQLite database; move it away, or use another --data", .0.display())]
    NotADatabase(PathBuf),
    /// It was written by a newer release.
    #[error(
        "{} has schema version {found} and this release knows {known}; use a newer release, or another --data",
        file.display()
    )]
    Newer {
        /// The database.
        file: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version that is known here.
        known: i64,
    },
    /// Anything else.
    #[error("{} cannot be opened: {reason}", path.display())]
    Other {
        /// The folder or file.
        path: PathBuf,
        /// What the system or the database says.
        reason: String,
    },
}
