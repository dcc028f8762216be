//! Gives the write-ahead log its size before it is needed, so that a flush has data to write and nothing else.
//!
//! A file that grows makes the file system commit its size with each flush, which takes about as long as the data. `SQLite`
//! doesn't mind what comes after its last frame: that is not valid, as after every restart of the log. It says in the
//! log's index how far it is (<https://sqlite.org/walformat.html>). What cannot be read there, or not be written here,
//! costs speed and nothing else. Only the owner of the connection that writes may call this, between two transactions.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const HEADER: u64 = 32;
const FRAME_HEADER: u64 = 24;
/// The version of the format of the index.
const INDEX_VERSION: u32 = 3_007_000;
/// How much is added: as much as there is, within these bounds, so that a short life costs little.
const LEAST: u64 = 256 * 1024;
const MOST: u64 = 4 * 1024 * 1024;
/// The log starts again at its beginning before it is as long as this.
const ENOUGH: u64 = 40 * 1024 * 1024;

/// The log of a database.
#[derive(Debug)]
pub(super) struct Ahead {
    log: PathBuf,
    index: PathBuf,
    state: State,
}

#[derive(Debug)]
enum State {
    Closed,
    Open {
        log: File,
        index: File,
    },
    /// It did not work, and the flushes are slower.
    GivenUp,
}

impl Ahead {
    pub(super) fn new(database: &Path) -> Self {
        let beside = |suffix: &str| {
            let mut name = database.as_os_str().to_owned();
            name.push(suffix);
            PathBuf::from(name)
        };
        Self {
            log: beside("-wal"),
            index: beside("-shm"),
            state: State::Closed,
        }
    }

    /// The connection was made anew: its files may be others.
    pub(super) fn reconnected(&mut self) {
        self.state = State::Closed;
    }

    /// Makes the log longer if its end is near.
    pub(super) async fn keep(&mut self) {
        match self.lack() {
            Ok(None) => {}
            Ok(Some((log, length, more))) => {
                let extended = tokio::task::spawn_blocking(move || extend(&log, length, more));
                match extended.await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => self.give_up(&error.to_string()),
                    Err(error) => self.give_up(&error.to_string()),
                }
            }
            Err(error) => self.give_up(&error.to_string()),
        }
    }

    fn give_up(&mut self, reason: &str) {
        tracing::debug!(
            reason,
            "{} grows as it is written; flushes take longer",
            self.log.display()
        );
        self.state = State::GivenUp;
    }

    /// The log with its length and what it lacks.
    fn lack(&mut self) -> io::Result<Option<(File, u64, u64)>> {
        if matches!(self.state, State::Closed) {
            self.state = State::Open {
                log: File::options().write(true).open(&self.log)?,
                index: File::open(&self.index)?,
            };
        }
        let State::Open { log, index } = &self.state else {
            return Ok(None);
        };
        let mut head = [0; 20];
        index.read_exact_at(&mut head, 0)?;
        let position = position(&head)
            .ok_or_else(|| io::Error::other("the index of the log has another format"))?;
        let length = log.metadata()?.len();
        match lack(position, length) {
            None => Ok(None),
            Some(more) => Ok(Some((log.try_clone()?, length, more))),
        }
    }
}

/// Where the log ends, by the first bytes of its index; they are in the byte order of the machine.
fn position(head: &[u8; 20]) -> Option<u64> {
    let word = |at: usize| {
        let bytes = head.get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    let half = u16::from_ne_bytes(head.get(14..16)?.try_into().ok()?);
    // The one size that doesn't fit is written as 1.
    let page = if half == 1 { 65_536 } else { u64::from(half) };
    let known = word(0)? == INDEX_VERSION && page >= 512;
    known.then_some(HEADER + u64::from(word(16)?) * (FRAME_HEADER + page))
}

/// How much is to be added to a log of that length.
fn lack(position: u64, length: u64) -> Option<u64> {
    let near = length.saturating_sub(position) < LEAST / 2;
    (near && length < ENOUGH).then(|| position.clamp(LEAST, MOST))
}

/// Adds zeros behind `length`. Room that is only reserved would cost the flushes as much as growing does.
fn extend(log: &File, length: u64, more: u64) -> io::Result<()> {
    const CHUNK: usize = 64 * 1024;
    let zeros = vec![0; CHUNK];
    let end = length + more;
    let mut at = length;
    while at < end {
        let size = (end - at).min(CHUNK as u64);
        let chunk = zeros.get(..usize::try_from(size).unwrap_or(CHUNK));
        if let Err(error) = log.write_all_at(chunk.unwrap_or(&zeros), at) {
            // A full disk has better uses for it.
            log.set_len(length)?;
            return Err(error);
        }
        at += size;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Message, Payload};
    use crate::store::sqlite::{Batch, Columns, Database, Folder, NewRow};

    fn head(version: u32, page: u16, frames: u32) -> [u8; 20] {
        let mut head = [0; 20];
        head[0..4].copy_from_slice(&version.to_ne_bytes());
        head[14..16].copy_from_slice(&page.to_ne_bytes());
        head[16..20].copy_from_slice(&frames.to_ne_bytes());
        head
    }

    #[test]
    fn the_index_says_where_the_log_ends() {
        assert_eq!(position(&head(INDEX_VERSION, 4096, 0)), Some(32));
        assert_eq!(position(&head(INDEX_VERSION, 4096, 2)), Some(32 + 2 * 4120));
        assert_eq!(position(&head(INDEX_VERSION, 1, 1)), Some(32 + 65_560));
        assert_eq!(position(&head(INDEX_VERSION + 1, 4096, 2)), None);
        assert_eq!(position(&[0; 20]), None);
    }

    #[test]
    fn it_grows_as_it_is_used_and_not_for_ever() {
        assert_eq!(lack(32, 32), Some(LEAST));
        assert_eq!(lack(32, LEAST + 32), None);
        assert_eq!(lack(LEAST, LEAST + 32), Some(LEAST));
        assert_eq!(lack(3 * LEAST, 3 * LEAST + 9), Some(3 * LEAST));
        assert_eq!(lack(9 * MOST, 9 * MOST), Some(MOST));
        assert_eq!(lack(ENOUGH, ENOUGH), None);
        assert_eq!(lack(ENOUGH + 9, ENOUGH), None);
    }

    /// Against the real thing: the position is the end of a log that was not extended, and what is written into an
    /// extended one is there when the database is opened after a crash.
    #[tokio::test]
    async fn sqlite_writes_into_what_was_added_and_finds_it_again() {
        let (folder, crashed) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let owned = Folder::take(folder.path()).await.unwrap();
        let mut database = Database::open(owned).await.unwrap();
        let log = folder.path().join("sandbar.db-wal");
        let length = || std::fs::metadata(&log).unwrap().len();
        let row = |id: u64| NewRow {
            id,
            queue: 0,
            due: 0,
            at_ms: 0,
            columns: {
                let payload = Payload::new(vec![7; 3_000]);
                let message = Message::new("t".parse().unwrap(), payload);
                std::sync::Arc::new(Columns::new(&message, None, None))
            },
        };
        for id in 1..=500 {
            let before = length();
            let batch = Batch {
                inserts: vec![row(id)],
                ..Batch::default()
            };
            database.apply(&batch).await.unwrap();
            if id == 1 {
                let mut head = [0; 20];
                let index = File::open(folder.path().join("sandbar.db-shm")).unwrap();
                index.read_exact_at(&mut head, 0).unwrap();
                assert_eq!(position(&head), Some(length()));
            } else {
                assert_eq!(length(), before, "the log grew by itself at {id}");
            }
            database.ahead.keep().await;
        }
        assert!(matches!(database.ahead.state, State::Open { .. }));
        for file in ["sandbar.db", "sandbar.db-wal"] {
            std::fs::copy(folder.path().join(file), crashed.path().join(file)).unwrap();
        }
        let owned = Folder::take(crashed.path()).await.unwrap();
        let mut again = Database::open(owned).await.unwrap();
        assert_eq!(again.counts().await.unwrap(), (500, 500));
    }
}
