//! The tasks that write: each takes whatever waits into one transaction, again and again, on a connection of its own.
//!
//! None waits for company: one call alone is written at once, and while it is being flushed the next ones gather. What
//! has to do with state is written by the first one alone, in the order of the calls. A lost connection costs nothing: a
//! transaction that was not committed is done again on the next one, and one whose commit was in doubt is looked up.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::group::Call;
use super::outcome::Done;
use super::plan::{Plan, What};
use super::shared::{Backoff, Shared, Trouble};
use crate::backend::Token;
use crate::store::postgres::{CommitError, Doubt, Failure, Fate, First, Kind, Session, Tx};

/// How long callers wait for a server that is gone.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long they wait when nobody knows whether their transaction was committed.
const DOUBT: Duration = Duration::from_secs(30);
/// How often other transactions may be in the way.
const COLLISIONS: u32 = 20;

/// The owner of a connection that writes.
#[derive(Debug)]
pub(super) struct Writer {
    shared: Arc<Shared>,
    session: Session,
    /// It writes what has to do with state.
    ordered: bool,
    trouble: Trouble,
}

/// Why an attempt to write did not succeed.
enum Attempt {
    Failed(Failure),
    /// These deliveries were too late, and others depended on them.
    Late(Vec<Token>),
    InDoubt(Doubt, Box<Done>),
}

impl From<Failure> for Attempt {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, ordered: bool) -> Self {
        let session = Session::recorded(shared.place.clone(), &shared.host);
        Self {
            shared,
            session,
            ordered,
            trouble: Trouble::new("write"),
        }
    }

    /// Works until the broker is closed and everything that was accepted is written.
    pub(super) async fn run(mut self) {
        loop {
            // Before looking, so that what comes meanwhile wakes it.
            let woken = self.woken();
            let mut calls = Vec::new();
            let closed = {
                let mut inner = self.shared.lock();
                if self.ordered {
                    inner.ordered.take(&mut calls);
                }
                inner.free.take(&mut calls);
                inner.closed
            };
            if calls.is_empty() {
                if closed {
                    break;
                }
                woken.await;
                continue;
            }
            self.shared.room.notify_waiters();
            self.write(calls).await;
        }
        self.session.close().await;
    }

    fn woken(&self) -> impl Future<Output = ()> + use<> {
        let (shared, ordered) = (self.shared.clone(), self.ordered);
        async move {
            if ordered {
                tokio::select! {
                    () = shared.ordered.notified() => {}
                    () = shared.writing.notified() => {}
                    () = shared.ended.cancelled() => {}
                }
            } else {
                tokio::select! {
                    () = shared.writing.notified() => {}
                    () = shared.ended.cancelled() => {}
                }
            }
        }
    }

    /// Writes calls; if the database refuses their values, each half on its own, so that only those fail that have to.
    async fn write(&mut self, calls: Vec<Call>) {
        let mut parts = vec![calls];
        while let Some(mut calls) = parts.pop() {
            match self.persist(&calls).await {
                Ok(done) => {
                    self.trouble.ends();
                    self.shared.wrote(None);
                    self.shared.committed(calls, done);
                }
                Err(Failure::Invalid(_)) if calls.len() > 1 => {
                    let second = calls.split_off(calls.len() / 2);
                    parts.push(second);
                    parts.push(calls);
                }
                Err(failure) => {
                    self.trouble.begins(&failure);
                    self.shared.wrote(Some(&failure));
                    self.shared.failed(calls, &failure);
                }
            }
        }
    }

    /// Writes calls in one transaction, however often that has to be tried.
    async fn persist(&mut self, calls: &[Call]) -> Result<Done, Failure> {
        let until = Instant::now() + PATIENCE;
        let (mut backoff, mut collisions) = (Backoff::new(), 0);
        let mut stale = HashSet::new();
        loop {
            let failure = match self.attempt(calls, &stale).await {
                Ok(done) => return Ok(done),
                Err(Attempt::Late(tokens)) => {
                    stale.extend(tokens);
                    continue;
                }
                Err(Attempt::InDoubt(doubt, done)) => match self.fate(&doubt).await? {
                    Fate::Committed => return Ok(*done),
                    _ => continue,
                },
                Err(Attempt::Failed(failure)) => failure,
            };
            match failure {
                Failure::Again(_) if collisions < COLLISIONS => collisions += 1,
                Failure::Lost(_) if Instant::now() < until && !self.shared.ended.is_cancelled() => {
                    self.trouble.begins(&failure);
                }
                failure => return Err(failure),
            }
            backoff.wait().await;
        }
    }

    async fn attempt(&mut self, calls: &[Call], stale: &HashSet<Token>) -> Result<Done, Attempt> {
        let mut tx = self.session.begin(Kind::Write).await?;
        let done = match carry_out(&self.shared, &mut tx, calls, stale).await {
            Ok(done) => done,
            Err(attempt) => {
                if !matches!(attempt, Attempt::Failed(Failure::Lost(_))) {
                    // Before anybody gives back what is locked.
                    tx.end().await;
                }
                return Err(attempt);
            }
        };
        match tx.commit().await {
            Ok(()) => Ok(done),
            Err(CommitError::Failed(failure)) => Err(failure.into()),
            Err(CommitError::InDoubt(doubt)) => Err(Attempt::InDoubt(doubt, Box::new(done))),
        }
    }

    /// Finds out whether a transaction was committed.
    async fn fate(&mut self, doubt: &Doubt) -> Result<Fate, Failure> {
        let until = Instant::now() + DOUBT;
        let mut backoff = Backoff::new();
        loop {
            match self.session.fate(doubt).await {
                Ok(Fate::Open) | Err(_) if Instant::now() < until => backoff.wait().await,
                Ok(Fate::Open | Fate::Forgotten) => return Err(unknown()),
                found => return found,
            }
        }
    }
}

/// Whoever called may do it once more; what was handled comes again if it was not committed.
fn unknown() -> Failure {
    Failure::Lost("the connection was lost in the middle of a commit, and the server does not say what became of it".to_owned())
}

/// Writes calls in a transaction, up to its commit.
async fn carry_out(
    shared: &Shared,
    tx: &mut Tx<'_>,
    calls: &[Call],
    stale: &HashSet<Token>,
) -> Result<Done, Attempt> {
    if tx.topology() != shared.lock().topology {
        let topology = tx.topology_now().await?;
        shared.install(topology);
    }
    let kept = shared.options.kept;
    let mut plan = Plan::new(&mut shared.lock(), kept, calls, stale);

    let plugins = plan.plugins();
    if !plugins.is_empty() {
        tx.lock_state(&plugins).await?;
        let reads = plan.reads();
        let versions = tx.versions(&reads).await?;
        plan.check(reads, versions);
    }
    let keys = plan.keys();
    if !keys.is_empty() {
        tx.lock_keys(&keys).await?;
    }

    let letters = plan.undead();
    if !letters.is_empty() {
        plan.unburied(&tx.unbury(&letters).await?);
    }

    let mut ended = HashSet::new();
    let finished = plan.finished();
    if !finished.is_empty() {
        ended.extend(tx.finish(&finished).await?);
    }
    let retries = plan.retries();
    if !retries.is_empty() {
        ended.extend(tx.retry(&retries).await?);
    }
    let late = plan.ended(&ended);
    if !late.is_empty() {
        return Err(Attempt::Late(late));
    }

    let mut ready = Vec::new();
    let rows = plan.rows(What::Ready);
    if !rows.is_empty() {
        ready = tx.insert(&rows).await?;
    }
    let rows = plan.rows(What::Keyed);
    if !rows.is_empty() {
        tx.park(&rows).await?;
    }
    if !keys.is_empty() {
        ready.extend(tx.promote(&keys).await?);
    }
    let later = plan.rows(What::Later);
    if !later.is_empty() {
        tx.delay(&later).await?;
    }
    let kept = plan.rows(What::Kept);
    if !kept.is_empty() {
        tx.keep(&kept).await?;
    }
    let letters = plan.letters();
    if !letters.is_empty() {
        tx.bury(&letters).await?;
    }
    let (new, others) = plan.state();
    if !new.is_empty() {
        tx.add_state(&new).await?;
    }
    if !others.is_empty() {
        tx.write_state(&others).await?;
    }

    let delays = later.iter().map(|row| row.delay_ms);
    let waits = retries.iter().map(|row| row.after_ms);
    let due_ms = delays.chain(waits.filter(|wait| *wait > 0)).min();
    let again = retries.iter().filter(|row| row.after_ms == 0);
    ready.extend(again.map(|row| First::from(row.hold)));
    let kept = kept.len();
    Ok(Done {
        ready,
        due: due_ms.map(|ms| Duration::from_millis(ms.unsigned_abs())),
        kept: u64::try_from(kept).unwrap_or(u64::MAX),
        buried: letters.len(),
        results: plan.results(calls),
    })
}
