//! A data folder that this process owns.
//!
//! Only the ownership; what is in the folder's database is the business of the rest of this module.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::backend::OpenError;

/// Owned until it is dropped, also by a crash: the lock is the system's.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    _lock: File,
}

/// How long a backend of this very process that was dropped a moment ago may take to end.
const OWN: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(10);

impl Folder {
    /// Creates the folder if there is none, and takes it.
    pub(crate) async fn take(path: &Path) -> Result<Self, OpenError> {
        std::fs::create_dir_all(path).map_err(|error| explain(path, &error))?;
        let lock_file = path.join("lock");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let mut lock = options
            .open(&lock_file)
            .map_err(|error| explain(path, &error))?;
        let mut waited = Duration::ZERO;
        loop {
            match lock.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(explain(&lock_file, &error)),
                Err(TryLockError::WouldBlock) => {}
            }
            let owner = owner(&mut lock);
            if owner != std::process::id().to_string() || waited >= OWN {
                let folder = path.to_owned();
                return Err(OpenError::Busy { folder, owner });
            }
            tokio::time::sleep(STEP).await;
            waited += STEP;
        }
        let folder = Self {
            path: path.to_owned(),
            _lock: sign(lock).map_err(|error| explain(&lock_file, &error))?,
        };
        let database = folder.database();
        match OpenOptions::new().write(true).open(&database) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(explain(&database, &error)),
            _ => Ok(folder),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn database(&self) -> PathBuf {
        database(&self.path)
    }
}

/// The database of a data folder.
pub(super) fn database(folder: &Path) -> PathBuf {
    folder.join("sandbar.db")
}

/// Writes who owns the folder into the file that is locked.
fn sign(mut lock: File) -> std::io::Result<File> {
    lock.set_len(0)?;
    lock.rewind()?;
    writeln!(lock, "{}", std::process::id())?;
    Ok(lock)
}

fn owner(lock: &mut File) -> String {
    let mut text = String::new();
    let read = lock
        .rewind()
        .and_then(|()| lock.take(32).read_to_string(&mut text));
    match (read, text.trim()) {
        (Ok(_), owner) if !owner.is_empty() => owner.to_owned(),
        _ => "(unknown)".to_owned(),
    }
}

fn explain(path: &Path, error: &std::io::Error) -> OpenError {
    let path = path.to_owned();
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => OpenError::ReadOnly(path),
        ErrorKind::AlreadyExists | ErrorKind::NotADirectory => OpenError::NotAFolder(path),
        _ => OpenError::Other {
            path,
            reason: error.to_string(),
        },
    }
}
