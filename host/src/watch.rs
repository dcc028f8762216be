//! Wakes somebody when files may have changed; what has changed is looked up, never taken from the event.
//!
//! So it makes no difference how a file came: written in place, renamed over another one, or behind a link that now points
//! elsewhere. Folders that cannot be watched are looked at now and then. When a file is at rest is told by [`Rest`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::sync::Notify;

mod rest;

pub(crate) use rest::{QUIET, Rest};

/// Without a word from the system it is looked after this time: some file systems tell nothing.
const NOW_AND_THEN: Duration = Duration::from_secs(10);

/// What tells a file from what was there before. A link counts as what it points to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// `None`: there is no such file.
    pub(crate) fn of(file: &Path) -> Option<Self> {
        use std::os::unix::fs::MetadataExt as _;
        let found = std::fs::metadata(file).ok().filter(|it| it.is_file())?;
        Some(Self {
            device: found.dev(),
            inode: found.ino(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
            changed: (found.ctime(), found.ctime_nsec()),
        })
    }
}

/// Watches folders.
pub(crate) struct Watch {
    /// `None`: the system doesn't offer it.
    watcher: Option<RecommendedWatcher>,
    /// By name, with what told each from another folder of that name.
    folders: BTreeMap<PathBuf, Identity>,
    woken: Arc<Notify>,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Watch").field(&self.folders).finish()
    }
}

impl Watch {
    pub(crate) fn new() -> Self {
        let woken: Arc<Notify> = Arc::default();
        let wake = woken.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading is no change, and we read ourselves.
            if !event.is_ok_and(|event| event.kind.is_access() && !closed(&event)) {
                wake.notify_one();
            }
        });
        let watcher = watcher.inspect_err(|error| {
            tracing::warn!(%error, "the system tells no changes of files; they are looked at every {NOW_AND_THEN:?}");
        });
        Self {
            watcher: watcher.ok(),
            folders: BTreeMap::new(),
            woken,
        }
    }

    /// Watches the folders of these files, and of what links among them point to, and no others any more. Returns whether
    /// there are some among them that were not watched before: what changed there until now has not been told.
    pub(crate) fn follow<'a>(&mut self, files: impl Iterator<Item = &'a Path>) -> bool {
        let mut wanted = BTreeSet::new();
        for file in files {
            let real = file.canonicalize().ok();
            wanted.extend(real.as_deref().and_then(folder_of));
            wanted.extend(folder_of(file));
        }
        let Some(watcher) = &mut self.watcher else {
            return false;
        };
        let stays = |folder: &PathBuf, known: &mut Identity| {
            wanted.contains(folder) && identity(folder) == Some(*known)
        };
        for folder in self
            .folders
            .extract_if(.., |folder, known| !stays(folder, known))
        {
            // It may be gone.
            watcher.unwatch(&folder.0).ok();
        }
        let mut added = false;
        for folder in wanted {
            let Some(found) = identity(&folder) else {
                continue;
            };
            if self.folders.contains_key(&folder) {
                continue;
            }
            match watcher.watch(&folder, RecursiveMode::NonRecursive) {
                Ok(()) => {
                    self.folders.insert(folder, found);
                    added = true;
                }
                Err(error) => tracing::debug!(%error, folder = %folder.display(), "not watched"),
            }
        }
        added
    }

    /// Waits until something may have changed.
    pub(crate) async fn changed(&self) {
        // What is asked for and doesn't come costs nothing but a look.
        tokio::time::timeout(NOW_AND_THEN, self.woken.notified())
            .await
            .ok();
    }
}

fn closed(event: &notify::Event) -> bool {
    use notify::event::{AccessKind, AccessMode, EventKind};
    event.kind == EventKind::Access(AccessKind::Close(AccessMode::Write))
}

/// Device and number of a folder: one that was made anew is another one.
type Identity = (u64, u64);

fn identity(folder: &Path) -> Option<Identity> {
    use std::os::unix::fs::MetadataExt as _;
    let found = std::fs::metadata(folder).ok()?;
    Some((found.dev(), found.ino()))
}

fn folder_of(file: &Path) -> Option<PathBuf> {
    let folder = file.parent()?;
    Some(match folder.as_os_str().is_empty() {
        true => PathBuf::from("."),
        false => folder.to_owned(),
    })
}
