//! One connection, as the owner sees it: reads requests, has them answered, and gives everything back at the end.
//!
//! What each request does is in [`calls`]; who may connect at all is in [`super::server`].

use std::collections::{HashMap, HashSet};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::budget::{Budget, Share};
use super::frame::{FrameWriter, Frames, Illegible, Written, frames};
use super::server::Owner;
use super::{GRACE, HELLO, MAX_FRAME, MAX_REQUESTS, VERSION, hello};
use crate::backend::{Delivery, QueueName, Token};

mod calls;
mod operate;
mod reply;

/// Answers that wait to be sent; whoever has another one waits as well.
const REPLIES: usize = 32;

/// What belongs to one connection and ends with it.
#[derive(Debug)]
struct Session {
    owner: Arc<Owner>,
    /// Cancelled when the connection ends, from whichever side.
    ending: CancellationToken,
    replies: mpsc::Sender<Written>,
    /// Deliveries that the client has. Dropping them gives them back.
    held: Mutex<HashMap<Token, Delivery>>,
    /// Waits for messages that the client may cancel, by the number of the request.
    waits: Mutex<HashMap<u64, CancellationToken>>,
    /// Queues to delete at the end.
    ephemeral: Mutex<HashSet<QueueName>>,
}

/// Serves a connection until one of the sides ends it.
pub(super) async fn run(stream: UnixStream, owner: Arc<Owner>, stop: CancellationToken) {
    let (reader, writer) = stream.into_split();
    let mut frames = frames(reader, hello::MAX_HELLO);
    let mut writer = FrameWriter::new(writer);
    tokio::select! {
        () = stop.cancelled() => return,
        met = timeout(HELLO, meet(&mut frames, &mut writer, &owner)) => match met {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return tracing::debug!(%error, "a local connection is refused"),
            Err(_) => return tracing::debug!("a local connection said nothing and is ended"),
        },
    }
    frames.decoder_mut().set_max_frame_length(MAX_FRAME);
    let (replies, waiting) = mpsc::channel(REPLIES);
    let writing = AbortOnDropHandle::new(tokio::spawn(write(writer, waiting, stop.clone())));
    let session = Arc::new(Session {
        owner,
        ending: stop,
        replies,
        held: Mutex::default(),
        waits: Mutex::default(),
        ephemeral: Mutex::default(),
    });
    let calls = TaskTracker::new();
    session.listen(&mut frames, &calls).await;
    session.end(&calls).await;
    drop(session);
    // Answers that are still on their way; the client may not be there to read them.
    drop(timeout(GRACE, writing).await);
}

/// Exchanges the first frames. A client of another version learns ours before it is sent away.
async fn meet(
    frames: &mut Frames<OwnedReadHalf>,
    writer: &mut FrameWriter<OwnedWriteHalf>,
    owner: &Owner,
) -> Result<(), Illegible> {
    let lost = |error: std::io::Error| Illegible(error.to_string());
    let first = frames
        .next()
        .await
        .ok_or_else(|| Illegible("it ended at once".to_owned()))?;
    let (version, _) = hello::read(&first.map_err(lost)?)?;
    let welcome = hello::Welcome::new(owner.backend.capabilities());
    let written = hello::welcome(&welcome).map_err(|error| Illegible(error.to_string()))?;
    writer.send(&mut vec![written]).await.map_err(lost)?;
    if version == VERSION {
        return Ok(());
    }
    Err(Illegible(format!(
        "it speaks version {version} and this host version {VERSION}"
    )))
}

/// Sends answers until nobody has one any more. Without it the connection is of no use.
async fn write(
    mut writer: FrameWriter<OwnedWriteHalf>,
    mut waiting: mpsc::Receiver<Written>,
    ending: CancellationToken,
) {
    let _ending = ending.drop_guard();
    let mut batch = Vec::with_capacity(REPLIES);
    while waiting.recv_many(&mut batch, REPLIES).await > 0 {
        if let Err(error) = writer.send(&mut batch).await {
            return tracing::debug!(%error, "a local client went away before its answer");
        }
    }
    writer.shutdown().await;
}

impl Session {
    async fn listen(self: &Arc<Self>, frames: &mut Frames<OwnedReadHalf>, calls: &TaskTracker) {
        let budget = Budget::new(MAX_REQUESTS);
        loop {
            let next = async {
                let frame = frames.next().await?;
                let frame = frame
                    .inspect_err(|error| tracing::debug!(%error, "a local connection is cut off"))
                    .ok()?
                    .freeze();
                let share = budget.share(frame.len()).await?;
                Some((frame, share))
            };
            let (frame, share) = tokio::select! {
                () = self.ending.cancelled() => return,
                next = next => match next {
                    Some(next) => next,
                    None => return,
                },
            };
            let mut call = Box::pin(self.clone().handle(frame, share));
            // Begun here, in the order of the requests: settlements take theirs when they begin.
            let begun = poll_fn(|context| Poll::Ready(call.as_mut().poll(context))).await;
            if begun.is_pending() {
                calls.spawn(call);
            }
        }
    }

    async fn handle(self: Arc<Self>, frame: Bytes, _share: Share) {
        // Ends the connection, also when the call panics: nobody shall wait for an answer that never comes.
        let unanswered = self.ending.clone().drop_guard();
        match self.answer(&frame).await {
            Ok(()) => drop(unanswered.disarm()),
            Err(error) => tracing::debug!(%error, "a local connection sent what isn't understood"),
        }
    }

    /// Gives everything back. A client that still reads gets the answers to what it asked before.
    async fn end(&self, calls: &TaskTracker) {
        self.ending.cancel();
        drop(self.held_by(std::mem::take));
        calls.close();
        if timeout(GRACE, calls.wait()).await.is_err() {
            tracing::warn!("requests of a local connection take longer than the connection lasts");
        }
        // What was delivered in between.
        drop(self.held_by(std::mem::take));
        let queues = std::mem::take(&mut *lock(&self.ephemeral));
        let deleting = queues
            .iter()
            .map(|queue| self.owner.backend.delete_queue(queue));
        match timeout(GRACE, futures_util::future::join_all(deleting)).await {
            Ok(deleted) => {
                for error in deleted.into_iter().filter_map(Result::err) {
                    tracing::debug!(%error, "a queue outlives its connection");
                }
            }
            Err(_) => tracing::warn!("queues outlive their connection; the broker doesn't answer"),
        }
    }

    fn held_by<T>(&self, f: impl FnOnce(&mut HashMap<Token, Delivery>) -> T) -> T {
        f(&mut lock(&self.held))
    }
}

/// Nothing panics while one of these is locked.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
