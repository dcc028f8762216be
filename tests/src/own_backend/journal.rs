//! The file that survives: a line of JSON for everything that happened together, appended and flushed.
//!
//! A line that was cut off by a crash was never confirmed and is passed over. It doesn't know what the changes mean.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{BufRead, BufReader, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use sandbar::backend::BackendError;

use super::change::Change;
use super::unavailable;

/// The open journal of a folder, which nobody else can open meanwhile.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    path: PathBuf,
    /// Bytes that are known to be good.
    len: u64,
    /// Held as long as this lives; rewriting replaces the journal, so the lock is on a file of its own.
    _lock: File,
}

impl Journal {
    /// Opens or creates it, and reads what is in it.
    pub(super) fn open(folder: &Path) -> Result<(Self, Vec<Change>), BackendError> {
        let lock = File::create(folder.join("lock")).map_err(unavailable)?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => BackendError::Invalid(format!(
                "{} is in use by another process; stop it, or use another folder",
                folder.display()
            )),
            TryLockError::Error(error) => unavailable(error),
        })?;
        let path = folder.join("journal.jsonl");
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&path).map_err(unavailable)?;
        let (changes, len) = read(&file, &path)?;
        let journal = Self {
            file,
            path,
            len,
            _lock: lock,
        };
        Ok((journal, changes))
    }

    /// Writes changes as one line, all or none of them, and returns when they are on disk.
    pub(super) fn append(
        &mut self,
        changes: impl Iterator<Item = Change>,
    ) -> Result<(), BackendError> {
        let changes: Vec<Change> = changes.collect();
        if changes.is_empty() {
            return Ok(());
        }
        let mut line = line(&changes)?;
        line.push(b'\n');
        let write = |file: &mut File, len: u64| {
            // Whatever a failed attempt left behind is overwritten.
            file.set_len(len)?;
            file.seek(SeekFrom::Start(len))?;
            file.write_all(&line)?;
            file.sync_data()
        };
        write(&mut self.file, self.len).map_err(unavailable)?;
        self.len += u64::try_from(line.len()).unwrap_or(0);
        Ok(())
    }

    /// Replaces everything that was written by these changes, which amount to the same.
    pub(super) fn rewrite(
        &mut self,
        changes: impl Iterator<Item = Change>,
    ) -> Result<(), BackendError> {
        let next = self.path.with_extension("next");
        let file = File::create(&next).map_err(unavailable)?;
        let mut writer = BufWriter::new(file);
        for change in changes {
            let mut line = line(&[change])?;
            line.push(b'\n');
            writer.write_all(&line).map_err(unavailable)?;
        }
        let mut replace = || -> std::io::Result<File> {
            writer.flush()?;
            writer.get_ref().sync_all()?;
            std::fs::rename(&next, &self.path)?;
            if let Some(folder) = self.path.parent() {
                File::open(folder)?.sync_all()?;
            }
            OpenOptions::new().read(true).write(true).open(&self.path)
        };
        self.file = replace().map_err(unavailable)?;
        self.len = self.file.metadata().map_err(unavailable)?.len();
        Ok(())
    }
}

fn line(changes: &[Change]) -> Result<Vec<u8>, BackendError> {
    serde_json::to_vec(changes).map_err(|error| BackendError::Invalid(error.to_string()))
}

/// The changes, and how many bytes of the file they take.
fn read(file: &File, path: &Path) -> Result<(Vec<Change>, u64), BackendError> {
    let (mut changes, mut len) = (Vec::new(), 0);
    let mut reader = BufReader::new(file);
    loop {
        let mut line = Vec::new();
        let read = reader.read_until(b'\n', &mut line).map_err(unavailable)?;
        if line.last() != Some(&b'\n') {
            return Ok((changes, len));
        }
        let together: Vec<Change> = serde_json::from_slice(&line).map_err(|error| {
            let path = path.display();
            BackendError::Invalid(format!(
                "{path} is damaged after {len} bytes: {error}; restore it, or move it away"
            ))
        })?;
        changes.extend(together);
        len += u64::try_from(read).unwrap_or(0);
    }
}
