//! Makes commits durable, on a thread of its own, so that the thread that writes never waits for the disk.
//!
//! In the write-ahead log a commit is an append. The connection commits without flushing; whoever waits for the commit is
//! told after a flush that began later, and one flush serves every commit before it. After a power cut the log ends
//! somewhere behind the last flush, always between two transactions. What a commit means is the caller's business.

use std::fs::File;
use std::path::PathBuf;

use tokio::sync::{mpsc, oneshot};

use super::Failure;

/// Tells somebody whether what was committed is on disk.
pub(crate) type Confirmation = Box<dyn FnOnce(&Result<(), Failure>) + Send>;

/// The thread that flushes.
#[derive(Debug)]
pub(crate) struct Flusher {
    commits: mpsc::Sender<Vec<Confirmation>>,
    /// Ends with the thread.
    ended: oneshot::Receiver<()>,
}

/// Room for one commit.
#[derive(Debug)]
pub(crate) struct Room(mpsc::OwnedPermit<Vec<Confirmation>>);

impl Flusher {
    /// `flush` is called on a thread of its own. Once it has failed it is never called again, and nothing is confirmed
    /// any more: after a failed flush the system may drop what it could not write and call the next one a success.
    pub(super) fn start(
        flush: impl FnMut() -> Result<(), Failure> + Send + 'static,
    ) -> std::io::Result<Self> {
        // One commit waits while one is being flushed; what comes after that gathers into a larger one.
        let (commits, waiting) = mpsc::channel(1);
        let (running, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name("sandbar-flush".to_owned())
            .spawn(move || {
                run(waiting, flush);
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
    /// Has these told as soon as everything that is committed by now is on disk.
    pub(crate) fn hand_over(self, confirmations: Vec<Confirmation>) {
        if !confirmations.is_empty() {
            self.0.send(confirmations);
        }
    }
}

fn run(
    mut commits: mpsc::Receiver<Vec<Confirmation>>,
    mut flush: impl FnMut() -> Result<(), Failure>,
) {
    let mut result = Ok(());
    while let Some(mut waiting) = commits.blocking_recv() {
        while let Ok(more) = commits.try_recv() {
            waiting.extend(more);
        }
        if result.is_ok() {
            result = flush();
        }
        for confirmation in waiting {
            confirmation(&result);
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
            .hand_over(vec![tell(&told, 1)]);
        begun.recv().await.unwrap();
        // The first flush has begun: this one is too late for it.
        flusher
            .room()
            .await
            .unwrap()
            .hand_over(vec![tell(&told, 2)]);
        assert!(told.lock().unwrap().is_empty());
        let third = flusher.room();
        let mut third = Box::pin(third);
        assert!(
            futures_util::poll!(&mut third).is_pending(),
            "one waits, no more"
        );
        go.send(()).await.unwrap();
        third.await.unwrap().hand_over(vec![tell(&told, 3)]);
        begun.recv().await.unwrap();
        assert_eq!(*told.lock().unwrap(), [(1, true)]);
        drop(go);
        flusher.end().await;
        assert_eq!(*told.lock().unwrap(), [(1, true), (2, true), (3, true)]);
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
            room.hand_over(vec![tell(&told, number), wait]);
            done.await.unwrap();
        }
        flusher.end().await;
        let told = told.lock().unwrap();
        assert_eq!(*told, [(0, true), (1, false), (2, false), (3, false)]);
        assert_eq!(flushes.load(Ordering::SeqCst), 2);
    }
}
