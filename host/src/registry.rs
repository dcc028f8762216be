//! What is remembered of plugins in the data folder: their last versions with the components themselves, which of them an
//! operator chose, who is paused or removed.
//!
//! `plugins/audit.jsonl` has a line for everything that ever happened to them, and is only appended to.
//!
//! `plugins/NAME.json` and `plugins/sha256-….wasm`, each written under another name, flushed and renamed: whatever happens,
//! there is the old file or the new one, whole. A component is there before anything refers to it. Nothing is loaded and
//! nothing is served here, and what the entries mean is in `registry/history.rs`.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use crate::clock;

mod audit;
mod history;

pub use audit::{AuditEntry, Event};
pub use history::{Choice, Chosen, History, Record, Trial, Verdict};

/// The folder within the data folder.
const FOLDER: &str = "plugins";
/// What the name of a signature ends with, after that of its component.
const SIGNATURE: &str = ".minisig";
/// The audit log.
const AUDIT: &str = "audit.jsonl";
/// How many versions of a plugin are kept when nothing else is said; as many failed ones are remembered.
pub const DEFAULT_KEEP: usize = 10;

/// The registry of a data folder. One process has it at a time.
#[derive(Debug)]
pub struct Registry {
    dir: PathBuf,
    keep: usize,
    _lock: File,
}

/// Why the registry cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// Another host has it.
    #[error("another host keeps its plugins in {}; give this one a folder of its own with `--data`", .0.display())]
    Busy(PathBuf),
    /// A file cannot be read or written.
    #[error("{}: {error}; see to the folder, its permissions and its disk", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file is not what was written.
    #[error("{} cannot be read: {reason}; move it away to begin anew with what is in the folder of plugins", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Registry {
    /// Opens the registry of a data folder, and makes one if there is none.
    ///
    /// # Errors
    /// [`RegistryError`], with what to do about it.
    pub fn open(data: &Path, keep: usize) -> Result<Self, RegistryError> {
        let dir = data.join(FOLDER);
        let failed = |error| at(&dir, error);
        fs::create_dir_all(&dir).map_err(failed)?;
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(false);
        let lock = options.open(dir.join("lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RegistryError::Busy(dir)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let keep = keep.max(1);
        Ok(Self {
            dir,
            keep,
            _lock: lock,
        })
    }

    /// The names of all plugins that something is remembered of.
    ///
    /// # Errors
    /// [`RegistryError`], with what to do about it.
    pub fn names(&self) -> Result<Vec<String>, RegistryError> {
        names(&self.dir)
    }

    /// What is remembered of a plugin; of an unknown one nothing.
    ///
    /// # Errors
    /// [`RegistryError`], with what to do about it.
    pub fn read(&self, name: &str) -> Result<History, RegistryError> {
        read(&self.dir, name)
    }

    /// Remembers this of a plugin, and forgets components that nothing refers to any more.
    ///
    /// # Errors
    /// [`RegistryError`], with what to do about it; what was remembered before still is.
    pub fn write(&self, name: &str, history: &mut History) -> Result<(), RegistryError> {
        self.write_by(name, history, None)
    }

    /// The same, with who wished it where the history does not say.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn write_by(
        &self,
        name: &str,
        history: &mut History,
        who: Option<&str>,
    ) -> Result<(), RegistryError> {
        self.add_by(name, history, who)?;
        self.forget();
        Ok(())
    }

    /// Remembers this of a plugin. For many of them: [`Self::forget`] reads what is remembered of all.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub fn add(&self, name: &str, history: &mut History) -> Result<(), RegistryError> {
        self.add_by(name, history, None)
    }

    fn add_by(
        &self,
        name: &str,
        history: &mut History,
        who: Option<&str>,
    ) -> Result<(), RegistryError> {
        let before = self.read(name)?;
        // Before it is so: what happened is in the log, and after a crash between the two it is there twice.
        self.audit(&audit::news(name, &before, history, clock::now_ms(), who))?;
        history.prune(self.keep);
        let text = serde_json::to_vec_pretty(&*history).map_err(io::Error::from);
        let text = text.map_err(|error| at(&self.dir, error))?;
        self.put(&format!("{name}.json"), &text)
    }

    /// Appends to the audit log.
    fn audit(&self, entries: &[AuditEntry]) -> Result<(), RegistryError> {
        if entries.is_empty() {
            return Ok(());
        }
        let path = self.dir.join(AUDIT);
        let append = || {
            let mut options = OpenOptions::new();
            let mut file = options.read(true).append(true).create(true).open(&path)?;
            let mut text = Vec::new();
            if !ends_with_a_line(&mut file)? {
                text.push(b'\n');
            }
            for entry in entries {
                serde_json::to_writer(&mut text, entry)?;
                text.push(b'\n');
            }
            // In one piece, so that whoever reads meanwhile sees whole lines.
            file.write_all(&text)?;
            file.sync_data()
        };
        append().map_err(|error| at(&path, error))
    }

    /// Keeps a component, from when on it can be referred to.
    ///
    /// # Errors
    /// [`RegistryError`], with what to do about it.
    pub fn keep(&self, digest: &str, bytes: &[u8]) -> Result<PathBuf, RegistryError> {
        let path = self.component(digest);
        // It has its name only when it is whole.
        if !path.is_file() {
            self.put(&file_of(digest), bytes)?;
        }
        Ok(path)
    }

    /// Keeps the signature of a component that is kept.
    ///
    /// # Errors
    /// [`RegistryError`], with what to do about it.
    pub fn keep_signature(&self, digest: &str, text: &str) -> Result<(), RegistryError> {
        let name = format!("{}{SIGNATURE}", file_of(digest));
        match fs::read_to_string(self.dir.join(&name)) {
            Ok(kept) if kept == text => Ok(()),
            _ => self.put(&name, text.as_bytes()),
        }
    }

    /// Where the component of a digest is, if it is kept.
    #[must_use]
    pub fn component(&self, digest: &str) -> PathBuf {
        self.dir.join(file_of(digest))
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), RegistryError> {
        let (path, unfinished) = (self.dir.join(name), self.dir.join(format!("{name}.new")));
        let written = || {
            let mut file = File::create(&unfinished)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&unfinished, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        written().map_err(|error| at(&path, error))
    }

    /// Removes components that nothing refers to, and what a crash left unfinished. One that stays behind is no harm.
    pub fn forget(&self) {
        let Ok(names) = self.names() else { return };
        let mut needed = BTreeSet::new();
        for name in names {
            // Who cannot be read may need any of them.
            let Ok(history) = self.read(&name) else {
                return;
            };
            needed.extend(history.digests().map(file_of));
        }
        let files = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        for file in files {
            let name = file.file_name().to_string_lossy().into_owned();
            let of = name.strip_suffix(SIGNATURE).unwrap_or(&name);
            let component = of.ends_with(".wasm") && !needed.contains(of);
            if (component || name.ends_with(".new"))
                && let Err(error) = fs::remove_file(file.path())
            {
                tracing::debug!(%error, name, "an old component stays");
            }
        }
    }
}

/// Whether an operator deployed a plugin of this name to a data folder, whoever has it at the moment.
#[must_use]
pub fn is_deployed(data: &Path, name: &str) -> bool {
    let history = read(&data.join(FOLDER), name);
    history.is_ok_and(|history| matches!(history.choose(None), Choice::Kept(_)))
}

/// Everything that happened to the plugins of a data folder, the oldest first, whoever has it at the moment. What cannot be read
/// is left out and counted.
///
/// # Errors
/// [`RegistryError::File`] when the file cannot be read.
pub fn audit_log(data: &Path) -> Result<(Vec<AuditEntry>, usize), RegistryError> {
    let path = data.join(FOLDER).join(AUDIT);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok((Vec::new(), 0)),
        Err(error) => return Err(at(&path, error)),
    };
    let mut entries = Vec::new();
    let mut illegible = 0;
    for line in text.lines().filter(|line| !line.is_empty()) {
        match serde_json::from_str(line) {
            Ok(entry) => entries.push(entry),
            // The power was cut while it was written.
            Err(_) => illegible += 1,
        }
    }
    Ok((entries, illegible))
}

/// The component of a digest that is kept in a data folder, whoever has it at the moment.
#[must_use]
pub fn kept_component(data: &Path, digest: &str) -> Option<PathBuf> {
    let path = data.join(FOLDER).join(file_of(digest));
    path.is_file().then_some(path)
}

/// Whether what is appended begins a line; the last one may have been cut off by a crash.
fn ends_with_a_line(file: &mut File) -> io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    let mut last = [0];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

fn names(dir: &Path) -> Result<Vec<String>, RegistryError> {
    let failed = |error| at(dir, error);
    let mut names = Vec::new();
    for file in fs::read_dir(dir).map_err(failed)? {
        let name = file.map_err(failed)?.file_name();
        if let Some(name) = name.to_str().and_then(|name| name.strip_suffix(".json")) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn read(dir: &Path, name: &str) -> Result<History, RegistryError> {
    let path = dir.join(format!("{name}.json"));
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(History::default()),
        Err(error) => return Err(at(&path, error)),
    };
    serde_json::from_slice(&text).map_err(|error| {
        let reason = error.to_string();
        RegistryError::Corrupt { path, reason }
    })
}

fn file_of(digest: &str) -> String {
    format!("{}.wasm", digest.replace(':', "-"))
}

fn at(path: &Path, error: io::Error) -> RegistryError {
    let path = path.to_owned();
    RegistryError::File { path, error }
}
