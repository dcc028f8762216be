//! Makes commits durable, on a thread of its own, so that the thread that writes never waits for the disk.
//!
//! In the write-ahead log a commit is an append. The connection commits without flushing; whoever waits for the commit is
//! told after a flush that began later, and one flush serves every commit before it. After a power cut the log ends
//! somewhere behind the last flush, always between two transactions. When another commit is about to follow, it may be
//! waited for, so that one flush serves both (`patience`). What a commit means is the caller's business.

use std::fs::File;
use std::path::PathBuf;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Failure;
use patience::Patience;

mod patience;

/// Tells somebody whether what was committed is on disk.
pub(crate) type Confirmation = Box<dyn FnOnce(&Result<(), Failure>) + Send>;

/// The thread that flushes.
#[derive(Debug)]
pub(crate) struct Flusher {
    commits: mpsc::Sender<Commit>,
    /// Ends with the thread.
    ended: oneshot::Receiver<()>,
}

/// Room for one commit.
#[derive(Debug)]
pub(crate) struct Room(mpsc::OwnedPermit<Commit>);

/// What was committed together.
struct Commit {
    confirmations: Vec<Confirmation>,
    /// Whether another commit is likely to come of it.
    leads: bool,
    at: Instant,
}

impl Flusher {
    /// `flush` is called on a thread of its own. Once it has failed it is never called again, and nothing is confirmed
    /// any more: after a failed flush the system may drop what it could not write and call the next one a success.
    pub(super) fn start(
        flush: impl FnMut() -> Result<(), Failure> + Send + 'static,
    ) -> std::io::Result<Self> {
        Self::patient(Patience::default(), flush)
    }

    fn patient(
        patience: Patience,
        flush: impl FnMut() -> Result<(), Failure> + Send + 'static,
    ) -> std::io::Result<Self> {
        // One commit waits while one is being flushed; what comes after that gathers into a larger one.
        let (commits, waiting) = mpsc::channel(1);
        let (running, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("sandbar-flush".to_owned())
            .spawn(move || {
                run(waiting, patience, flush);
                drop(running);
            })?;
        Ok(Self { commits, ended })
    }

    /// Waits until another commit may be made. `None`: the thread is gone.
    pub(crate) async fn room(&self) -> Option<Room> {
        self.commits.clone().reserve_owned().await.ok().map(Room)
    }

    /// Returns when everything that was handed over has been told.
    pub(crate) async fn end(self) {
        drop(self.commits);
        // Nothing is ever sent: it ends with the thread.
        drop(self.ended.await);
    }
}

impl Room {
    /// Has these told as soon as everything that is committed by now is on disk. If it `leads` to another commit at
    /// once, as a message does that is handled, that one may be waited for.
    pub(crate) fn hand_over(self, confirmations: Vec<Confirmation>, leads: bool) {
        if confirmations.is_empty() {
            return;
        }
        self.0.send(Commit {
            confirmations,
            leads,
            at: Instant::now(),
        });
    }
}

fn run(
    mut commits: mpsc::Receiver<Commit>,
    mut patience: Patience,
    mut flush: impl FnMut() -> Result<(), Failure>,
) {
    let mut result = Ok(());
    // What had to wait for the last flush has waited enough.
    let mut idle = true;
    // When there was a commit that another one is expected to follow.
    let mut leading: Option<Instant> = None;
    while let Some(first) = commits.blocking_recv() {
        let mut waiting = Vec::new();
        let mut take = |commit: Commit, patience: &mut Patience| {
            if let Some(led) = leading.take() {
                patience.followed(commit.at.saturating_duration_since(led));
            }
            leading = commit.leads.then_some(commit.at);
            waiting.extend(commit.confirmations);
        };
        let (at, leads) = (first.at, first.leads);
        take(first, &mut patience);
        if idle && leads && result.is_ok() {
            let until = patience.wait().map(|wait| at + wait);
            if let Some(next) = until.and_then(|until| next(&mut commits, until)) {
                take(next, &mut patience);
            }
        }
        while let Ok(more) = commits.try_recv() {
            take(more, &mut patience);
        }
        if result.is_ok() {
            let began = Instant::now();
            result = flush();
            patience.flushed(began.elapsed());
        }
        idle = commits.is_empty();
        for confirmation in waiting {
            confirmation(&result);
        }
    }
}

/// The commit that follows, if it does so soon. Sleeping and being woken would take as long as what is waited for.
fn next(commits: &mut mpsc::Receiver<Commit>, until: Instant) -> Option<Commit> {
    loop {
        match commits.try_recv() {
            Ok(commit) => return Some(commit),
            Err(mpsc::error::TryRecvError::Disconnected) => return None,
            Err(mpsc::error::TryRecvError::Empty) if Instant::now() >= until => return None,
            Err(mpsc::error::TryRecvError::Empty) => std::thread::yield_now(),
        }
    }
}

/// Flushes the write-ahead log of a database. It is opened each time, since a connection that is made anew may have a
/// new one.
pub(super) fn log(folder: PathBuf, database: PathBuf) -> impl FnMut() -> Result<(), Failure> {
    let mut log = database.into_os_string();
    log.push("-wal");
    let log = PathBuf::from(log);
    move || {
        let flushed = File::options()
            .write(true)
            .open(&log)
            .and_then(|file| file.sync_data());
        flushed.map_err(|error| {
            Failure(format!(
                "the disk of {} could not flush {}: {error}; what was confirmed before is safe, nothing can be \
                 confirmed any more: mend the disk and restart",
                folder.display(),
                log.display()
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::{Arc, Mutex};

    use super::*;

    fn tell(told: &Arc<Mutex<Vec<(u32, bool)>>>, number: u32) -> Confirmation {
        let told = told.clone();
        Box::new(move |result| told.lock().unwrap().push((number, result.is_ok())))
    }

    #[tokio::test]
    async fn one_flush_serves_all_commits_before_it_and_none_after_it() {
        let told = Arc::default();
        let (started, mut begun) = mpsc::channel(9);
        let (go, mut wait) = mpsc::channel::<()>(9);
        let flush = move || {
            started.blocking_send(()).unwrap();
            wait.blocking_recv();
            Ok(())
        };
        let flusher = Flusher::start(flush).unwrap();
        flusher
            .room()
            .await
            .unwrap()
            .hand_over(vec![tell(&told, 1)], false);
        begun.recv().await.unwrap();
        // The first flush has begun: this one is too late for it.
        flusher
            .room()
            .await
            .unwrap()
            .hand_over(vec![tell(&told, 2)], false);
        assert!(told.lock().unwrap().is_empty());
        let third = flusher.room();
        let mut third = Box::pin(third);
        assert!(
            futures_util::poll!(&mut third).is_pending(),
            "one waits, no more"
        );
        go.send(()).await.unwrap();
        third.await.unwrap().hand_over(vec![tell(&told, 3)], false);
        begun.recv().await.unwrap();
        assert_eq!(*told.lock().unwrap(), [(1, true)]);
        drop(go);
        flusher.end().await;
        assert_eq!(*told.lock().unwrap(), [(1, true), (2, true), (3, true)]);
    }

    /// A flush takes a minute, and what follows comes at once.
    fn patient() -> Patience {
        let mut patience = Patience::default();
        patience.flushed(std::time::Duration::from_secs(60));
        patience.followed(std::time::Duration::ZERO);
        patience
    }

    #[tokio::test]
    async fn a_commit_that_follows_at_once_shares_the_flush() {
        let (told, flushes) = (Arc::default(), Arc::new(AtomicU32::new(0)));
        let count = flushes.clone();
        let flush = move || {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(())
        };
        let flusher = Flusher::patient(patient(), flush).unwrap();
        let first = flusher.room().await.unwrap();
        first.hand_over(vec![tell(&told, 1)], true);
        let second = flusher.room().await.unwrap();
        second.hand_over(vec![tell(&told, 2)], true);
        flusher.end().await;
        assert_eq!(*told.lock().unwrap(), [(1, true), (2, true)]);
        assert_eq!(flushes.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn the_end_is_no_reason_to_wait() {
        let told = Arc::default();
        let flusher = Flusher::patient(patient(), || Ok(())).unwrap();
        let room = flusher.room().await.unwrap();
        room.hand_over(vec![tell(&told, 1)], true);
        flusher.end().await;
        assert_eq!(*told.lock().unwrap(), [(1, true)]);
    }

    #[tokio::test]
    async fn after_a_failed_flush_nothing_is_confirmed_any_more_and_it_is_not_tried_again() {
        let (told, flushes) = (Arc::default(), Arc::new(AtomicU32::new(0)));
        let count = flushes.clone();
        let flush = move || match count.fetch_add(1, Ordering::SeqCst) {
            1 => Err(Failure("no".to_owned())),
            _ => Ok(()),
        };
        let flusher = Flusher::start(flush).unwrap();
        for number in 0..4 {
            let room = flusher.room().await.unwrap();
            let (confirmed, done) = oneshot::channel();
            let wait: Confirmation = Box::new(move |_| confirmed.send(()).unwrap());
            room.hand_over(vec![tell(&told, number), wait], false);
            done.await.unwrap();
        }
        flusher.end().await;
        let told = told.lock().unwrap();
        assert_eq!(*told, [(0, true), (1, false), (2, false), (3, false)]);
        assert_eq!(flushes.load(Ordering::SeqCst), 2);
    }
}
