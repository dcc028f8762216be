//! A connection that is made again whenever it ends, with a back-off and jitter, until it is closed.
//!
//! What runs over it is rebuilt by its users, who see each new connection as a new [`Session`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::connect::{Server, Session};
use super::failure::Failure;

const FIRST_BACKOFF: Duration = Duration::from_millis(100);
const LAST_BACKOFF: Duration = Duration::from_secs(3);

/// Numbers connections over the whole process, so that a number never means two of them.
static EPOCH: AtomicU64 = AtomicU64::new(1);

/// A number that no connection and no consumer of this process had before.
pub(super) fn next_epoch() -> u64 {
    EPOCH.fetch_add(1, Ordering::Relaxed)
}

/// A supervised connection. Closed when it is dropped.
#[derive(Debug)]
pub(super) struct Link {
    state: watch::Receiver<State>,
    stop: CancellationToken,
}

#[derive(Debug, Clone)]
enum State {
    /// Not yet, or not at the moment, and why.
    Down(Option<Failure>),
    Up(Arc<Session>),
    Closed,
}

/// Grows with every failure in a row, up to a limit; half of it is chance, so that many who failed together don't come
/// back together.
#[derive(Debug)]
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) fn new() -> Self {
        Self(FIRST_BACKOFF)
    }

    pub(super) fn next(&mut self) -> Duration {
        let most = self.0;
        self.0 = (most * 2).min(LAST_BACKOFF);
        most.mul_f64(0.5 + rand::random::<f64>() / 2.0)
    }
}

impl Link {
    /// Connects for as long as it takes; says so in the log once for each reason.
    pub(super) fn start(server: Server, purpose: &'static str) -> Self {
        let (sender, state) = watch::channel(State::Down(None));
        let stop = CancellationToken::new();
        tokio::spawn(supervise(server, purpose, sender, stop.clone()));
        Self { state, stop }
    }

    /// The connection, as soon as there is one.
    ///
    /// # Errors
    /// Why there is none, after `patience`; `None` when the link is closed.
    pub(super) async fn session(
        &self,
        patience: Duration,
    ) -> Result<Arc<Session>, Option<Failure>> {
        let mut state = self.state.clone();
        let settled = state.wait_for(|state| match state {
            State::Down(_) => false,
            State::Up(session) => session.is_up(),
            State::Closed => true,
        });
        let settled = match tokio::time::timeout(patience, settled).await {
            Ok(Ok(state)) => state.clone(),
            Ok(Err(_)) => State::Closed,
            Err(_) => self.state.borrow().clone(),
        };
        match settled {
            State::Up(session) => Ok(session),
            State::Down(reason) => {
                Err(Some(reason.unwrap_or_else(|| {
                    Failure::new("RabbitMQ is not connected yet")
                })))
            }
            State::Closed => Err(None),
        }
    }

    /// Ends the connection, and makes no other.
    pub(super) async fn close(&self) {
        self.stop.cancel();
        let mut state = self.state.clone();
        // An error says that the supervisor has ended as well.
        drop(state.wait_for(|state| matches!(state, State::Closed)).await);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn supervise(
    server: Server,
    purpose: &'static str,
    state: watch::Sender<State>,
    stop: CancellationToken,
) {
    let mut backoff = Backoff::new();
    let mut said: Option<Failure> = None;
    while let Some(opened) = stop
        .run_until_cancelled(Session::open(&server, purpose, next_epoch()))
        .await
    {
        let failure = match opened {
            Ok(session) => {
                let session = Arc::new(session);
                state.send_replace(State::Up(session.clone()));
                if said.take().is_some() {
                    tracing::info!(purpose, "connected to RabbitMQ");
                }
                let began = Instant::now();
                let Some(failure) = stop.run_until_cancelled(session.ended()).await else {
                    session.close().await;
                    break;
                };
                session.give_up();
                if began.elapsed() > LAST_BACKOFF {
                    backoff = Backoff::new();
                }
                failure
            }
            Err(failure) => failure,
        };
        if said.as_ref() != Some(&failure) {
            tracing::warn!(purpose, "{failure}; trying again");
            said = Some(failure.clone());
        }
        state.send_replace(State::Down(Some(failure)));
        if stop
            .run_until_cancelled(tokio::time::sleep(backoff.next()))
            .await
            .is_none()
        {
            break;
        }
    }
    state.send_replace(State::Closed);
}
