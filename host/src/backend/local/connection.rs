//! The other side of the socket: many requests in flight on one connection, each with a number.
//!
//! It knows what a request and an answer are, and nothing of what they mean.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::GRACE;
use super::answer::Answer;
use super::frame::{self, TooLong};
use super::hello::Welcome;
use super::outbox::Outbox;
use super::protocol::{Call, Request};
use crate::backend::{Release, Token};

mod lost;
mod open;
mod task;

pub(super) use lost::Lost;

/// A connection to the owner. When it is dropped, what was asked is still sent, and the connection ends.
#[derive(Debug)]
pub(super) struct Connection {
    shared: Arc<Shared>,
    welcome: Welcome,
}

/// What outlives the connection's handle: its task and the deliveries refer to it.
#[derive(Debug)]
struct Shared {
    /// The data folder, for people.
    place: String,
    outbox: Outbox,
    waiting: Mutex<Waiting>,
    next: AtomicU64,
    /// Cancelled when nothing can arrive any more.
    over: CancellationToken,
}

#[derive(Debug, Default)]
struct Waiting {
    answers: HashMap<u64, Awaited>,
    /// Why there will be no more requests.
    lost: Option<Lost>,
}

/// An answer that somebody waits for.
#[derive(Debug)]
struct Awaited {
    to: oneshot::Sender<Answer>,
    /// The beginning of a list.
    begun: Option<Answer>,
    /// It waits for messages, so it ends when the connection is closed.
    receives: bool,
}

/// Why a request was not sent.
#[derive(Debug)]
pub(super) enum Unsent {
    Lost(Lost),
    TooLong(TooLong),
}

impl Connection {
    /// Connects to the owner of a data folder.
    pub(super) async fn open(dir: &Path) -> Result<Self, crate::backend::BackendError> {
        let (frames, writer, welcome) = open::open(dir).await?;
        let shared = Arc::new(Shared {
            place: dir.display().to_string(),
            outbox: Outbox::default(),
            waiting: Mutex::default(),
            next: AtomicU64::new(1),
            over: CancellationToken::new(),
        });
        // Ends with the connection, which tells it by finishing the outbox.
        tokio::spawn(task::run(shared.clone(), frames, writer));
        Ok(Self { shared, welcome })
    }

    /// What the owner said of itself.
    pub(super) fn welcome(&self) -> &Welcome {
        &self.welcome
    }

    /// The data folder, for people.
    pub(super) fn place(&self) -> &str {
        &self.shared.place
    }

    /// Why nothing can be asked any more, if so.
    pub(super) fn lost(&self) -> Option<Lost> {
        self.shared.lock().lost.clone()
    }

    /// Sends a request after all earlier ones, without waiting.
    pub(super) fn ask(&self, call: Call<'_>) -> Result<Ticket, Unsent> {
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let receives = matches!(call, Call::Receive { .. });
        let frame = frame::write(&Request { id, call }).map_err(Unsent::TooLong)?;
        let (to, answer) = oneshot::channel();
        let mut waiting = self.shared.lock();
        if let Some(lost) = &waiting.lost {
            return Err(Unsent::Lost(lost.clone()));
        }
        waiting.answers.insert(
            id,
            Awaited {
                to,
                begun: None,
                receives,
            },
        );
        drop(waiting);
        self.shared.outbox.push(frame);
        Ok(Ticket {
            shared: self.shared.clone(),
            id,
            answer,
        })
    }

    /// Gives a delivery back.
    pub(super) fn release(&self, token: Token) {
        self.shared.release(token);
    }

    /// Refuses further requests, ends waits for messages, and waits until everything else is answered and the owner has
    /// taken back what was not settled, for a bounded time.
    pub(super) async fn close(&self) {
        drop(self.shared.refuse(Lost::Closed, |awaited| awaited.receives));
        self.shared.outbox.finish();
        if timeout(3 * GRACE, self.shared.over.cancelled())
            .await
            .is_err()
        {
            tracing::warn!("the host of `{}` doesn't end the connection", self.place());
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.outbox.finish();
    }
}

/// A place in the line for an answer. Dropping it takes the request back, if that makes a difference.
#[derive(Debug)]
pub(super) struct Ticket {
    shared: Arc<Shared>,
    id: u64,
    answer: oneshot::Receiver<Answer>,
}

impl Ticket {
    pub(super) async fn wait(mut self) -> Result<Answer, Lost> {
        let answer = (&mut self.answer).await;
        answer.map_err(|_| self.shared.lock().lost.clone().unwrap_or(Lost::Closed))
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let given_up = self.shared.lock().answers.remove(&self.id);
        if given_up.is_some_and(|awaited| awaited.receives) {
            self.shared.tell(Call::Cancel(self.id));
        }
    }
}

impl Release for Shared {
    fn release(&self, token: Token) {
        self.tell(Call::Release(token.into()));
    }
}

impl Shared {
    /// Sends what has no answer.
    fn tell(&self, call: Call<'_>) {
        match frame::write(&Request { id: 0, call }) {
            Ok(frame) => self.outbox.push(frame),
            Err(error) => tracing::error!(%error, "a few numbers don't fit into a frame"),
        }
    }

    /// Hands an answer to whoever waits for it. Otherwise it is dropped, and deliveries in it go back.
    fn arrived(&self, id: u64, more: bool, answer: Answer) {
        let mut waiting = self.lock();
        let Some(mut awaited) = waiting.answers.remove(&id) else {
            drop(waiting);
            return drop(answer);
        };
        let answer = match awaited.begun.take() {
            Some(begun) => begun.append(answer),
            None => answer,
        };
        if more {
            awaited.begun = Some(answer);
            waiting.answers.insert(id, awaited);
            return;
        }
        drop(waiting);
        drop(awaited.to.send(answer));
    }

    /// Ends everything that waits.
    fn end(&self, lost: Lost) {
        drop(self.refuse(lost, |_| true));
        self.outbox.finish();
        self.over.cancel();
    }

    /// Refuses further requests, and takes out those whose wait ends as well.
    fn refuse(&self, lost: Lost, ends: impl Fn(&Awaited) -> bool) -> Vec<(u64, Awaited)> {
        let mut waiting = self.lock();
        waiting.lost.get_or_insert(lost);
        waiting
            .answers
            .extract_if(|_, awaited| ends(awaited))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
