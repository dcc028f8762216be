//! The components that were read for a start, so that a file is read once by all who need it: who decides which version is
//! served, who loads it, and who remembers it.
//!
//! A file that has changed since is read again. Files of one content are in memory once.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::loader::{self, LoadError, PluginSpec};
use crate::guest::Binary;
use crate::watch::Stamp;

/// What was read so far. Clones are one and the same; the last one takes the bytes with it.
#[derive(Debug, Clone, Default)]
pub struct Components(Arc<Mutex<HashMap<PathBuf, Read>>>);

#[derive(Debug)]
struct Read {
    stamp: Stamp,
    binary: Binary,
}

impl Components {
    /// The component of a plugin, if it is not too large.
    ///
    /// # Errors
    /// [`LoadError`] with the file and what is wrong with it.
    pub(crate) fn read(&self, spec: &PluginSpec) -> Result<Binary, LoadError> {
        let stamp = Stamp::of(&spec.file);
        let fits = |read: &&Read| {
            let size = u64::try_from(read.binary.bytes().len()).unwrap_or(u64::MAX);
            Some(read.stamp) == stamp && size <= spec.limits.file
        };
        if let Some(read) = self.files().get(&spec.file).filter(fits) {
            return Ok(read.binary.clone());
        }
        let mut binary = loader::read(spec)?;
        let mut files = self.files();
        let same = |read: &&Read| read.binary.digest() == binary.digest();
        if let Some(same) = files.values().find(same) {
            binary = same.binary.clone();
        }
        match stamp {
            // Otherwise it changed while it was read.
            Some(stamp) if Stamp::of(&spec.file) == Some(stamp) => {
                let read = Read {
                    stamp,
                    binary: binary.clone(),
                };
                files.insert(spec.file.clone(), read);
            }
            _ => {}
        }
        Ok(binary)
    }

    /// The digest of a file that is kept, if there is one.
    pub(crate) fn digest(&self, file: &Path) -> Option<Arc<str>> {
        let mut spec = PluginSpec::from_file(file);
        spec.limits.file = u64::MAX;
        Some(self.read(&spec).ok()?.digest().clone())
    }

    fn files(&self) -> MutexGuard<'_, HashMap<PathBuf, Read>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same(a: &Binary, b: &Binary) -> bool {
        std::ptr::eq(a.bytes(), b.bytes())
    }

    #[test]
    fn a_file_is_read_once_until_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two] = ["one", "two"].map(|name| PluginSpec::from_file(&dir.path().join(name)));
        std::fs::write(&one.file, "component").unwrap();
        std::fs::write(&two.file, "component").unwrap();
        let components = Components::default();
        let first = components.read(&one).unwrap();
        assert!(same(&first, &components.read(&one).unwrap()));
        // Another file of the same content takes no other memory.
        assert!(same(&first, &components.read(&two).unwrap()));
        assert_eq!(components.digest(&two.file).as_ref(), Some(first.digest()));
        std::fs::write(&one.file, "component 2").unwrap();
        let second = components.read(&one).unwrap();
        assert_ne!(first.digest(), second.digest());
        assert_eq!(second.bytes(), b"component 2");
        assert!(same(&first, &components.read(&two).unwrap()));
        // The limit of whoever asks counts, not of who asked first.
        let mut little = two.clone();
        little.limits.file = 3;
        components.read(&little).unwrap_err();
        std::fs::remove_file(&two.file).unwrap();
        components.read(&two).unwrap_err();
        assert_eq!(components.digest(&two.file), None);
    }
}
