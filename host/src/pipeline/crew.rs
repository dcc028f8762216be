//! Who takes the messages of a batch along the path: one task for each core. A message that waits holds up no other, and
//! one that runs long makes way for those behind it.
//!
//! Ends are given to the broker together, but none later than a millisecond after it could have been. What happens on
//! the way is not decided here.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::task::JoinSet;

use super::gate::Allowed;
use super::inflight::{Permit, Permits};
use super::tally::{Ending, Sampler};
use super::{Delivery, Pipeline, report};
use crate::backend::Settlement;
use crate::kill_point::kill_point;
use crate::relief;

/// Ends that are given to the broker at once.
const TOGETHER: usize = 64;

/// A message with its room.
pub(super) type Waiting = (Delivery, Permit);

/// The end of a journey that the broker does not know yet.
#[derive(Debug)]
pub(super) struct End {
    pub(super) settlement: Settlement,
    pub(super) permit: Permit,
    /// When the handler began, milliseconds since 1970-01-01 UTC.
    pub(super) began_ms: i64,
    /// What it counts as once it is settled.
    pub(super) ending: Ending,
}

/// The tasks of one pipeline. Dropping it ends them; what was in flight comes again.
#[derive(Debug)]
pub(super) struct Crew {
    pipeline: Arc<Pipeline>,
    tasks: Arc<Tasks>,
}

#[derive(Debug, Default)]
struct Tasks(Mutex<JoinSet<()>>);

/// Messages that one task takes one after the other.
#[derive(Debug)]
struct Part {
    messages: Mutex<VecDeque<Waiting>>,
    /// How often the gate had been closed when they were taken.
    pauses: usize,
}

impl Tasks {
    fn lock(&self) -> MutexGuard<'_, JoinSet<()>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Part {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Waiting>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next one, and how many follow it.
    fn next(&self) -> Option<(Waiting, usize)> {
        let mut messages = self.lock();
        let next = messages.pop_front()?;
        Some((next, messages.len()))
    }

    fn take(&self) -> VecDeque<Waiting> {
        std::mem::take(&mut self.lock())
    }
}

impl Crew {
    pub(super) fn new(pipeline: Arc<Pipeline>) -> Self {
        Self {
            pipeline,
            tasks: Arc::default(),
        }
    }

    /// Starts the journeys of a batch.
    pub(super) fn take(&self, batch: Vec<Delivery>, permits: Permits, allowed: Allowed) {
        let Some(pauses) = self.pipeline.gate.took(batch.len(), allowed) else {
            return;
        };
        kill_point("received");
        for part in permits.spread(batch) {
            begin(&self.pipeline, &self.tasks, part, pauses);
        }
        while self.tasks.lock().try_join_next().is_some() {}
    }

    /// Waits until every journey has ended.
    pub(super) async fn finish(self) {
        let next = || poll_fn(|cx| self.tasks.lock().poll_join_next(cx));
        while next().await.is_some() {}
    }
}

fn begin(pipeline: &Arc<Pipeline>, tasks: &Arc<Tasks>, messages: VecDeque<Waiting>, pauses: usize) {
    let messages = Mutex::new(messages);
    let part = Arc::new(Part { messages, pauses });
    // Weak, since the tasks must not keep each other.
    let (behind, others) = (part.clone(), Arc::downgrade(tasks));
    let here = pipeline.clone();
    let make_way = move || move_on(&here, &others, &behind);
    let work = work(pipeline.clone(), part);
    let work = relief::scope(Arc::new(make_way), work);
    tasks.lock().spawn(pipeline.share.clone().paced(work));
}

/// What waits behind a call that runs long gets a task of its own.
fn move_on(pipeline: &Arc<Pipeline>, tasks: &Weak<Tasks>, part: &Part) {
    let rest = part.take();
    if let Some(tasks) = tasks.upgrade().filter(|_| !rest.is_empty()) {
        begin(pipeline, &tasks, rest, part.pauses);
    }
}

/// Takes the messages of a part along, one after the other as long as none waits.
async fn work(pipeline: Arc<Pipeline>, part: Arc<Part>) {
    let mut view = None;
    let mut sampler = Sampler::default();
    let mut journeys = FuturesUnordered::new();
    let mut settling = FuturesUnordered::new();
    let mut ends: Vec<End> = Vec::new();
    loop {
        if pipeline.gate.pauses() != part.pauses {
            drop(part.take());
        }
        let next = part.next();
        let more = next.is_some();
        if let Some((waiting, follow)) = next {
            let at = pipeline.live.view(view.take());
            let timed = sampler.next(follow == 0);
            let mut journey = Box::pin(pipeline.journey(at.clone(), waiting, timed));
            view = Some(at);
            match futures_util::poll!(journey.as_mut()) {
                Poll::Ready(end) => ends.extend(end),
                Poll::Pending => journeys.push(journey),
            }
        }
        if !journeys.is_empty()
            && let Poll::Ready(Some(end)) = futures_util::poll!(journeys.next())
        {
            ends.extend(end);
        }
        let long = took_long(&ends);
        if is_due(&ends, more) {
            settling.push(settle(&pipeline, std::mem::take(&mut ends)));
        }
        if more {
            // Nothing waits, but others of this thread want their turn.
            if long {
                tokio::task::yield_now().await;
            }
            continue;
        }
        view = None;
        tokio::select! {
            Some(end) = journeys.next(), if !journeys.is_empty() => ends.extend(end),
            Some(()) = settling.next(), if !settling.is_empty() => {}
            else => return,
        }
    }
}

/// Whether ends are given to the broker now: when there are many, when nothing follows at once, when the first one has
/// waited, or when one holds state that the next message may want to read.
fn is_due(ends: &[End], more: bool) -> bool {
    let Some(last) = ends.last() else {
        return false;
    };
    !more || ends.len() >= TOGETHER || took_long(ends) || last.settlement.effects.state.is_some()
}

/// Whether a millisecond has begun since the first of these did.
fn took_long(ends: &[End]) -> bool {
    let (first, last) = (ends.first(), ends.last());
    first
        .zip(last)
        .is_some_and(|(first, last)| last.began_ms > first.began_ms)
}

/// Settles together what has ended; the order is that of the calls of this function.
fn settle(pipeline: &Arc<Pipeline>, ends: Vec<End>) -> impl Future<Output = ()> + use<> {
    let verdicts = ends.iter().map(|end| &end.settlement.verdict);
    if let Some(change) = pipeline.gate.ended(verdicts) {
        let serving = pipeline.serving();
        report::changed(&pipeline.queue, change, &serving.version.access.limits);
    }
    let mut settlements = Vec::with_capacity(ends.len());
    let mut permits = Vec::with_capacity(ends.len());
    let mut endings = Vec::with_capacity(ends.len());
    for end in ends {
        settlements.push(end.settlement);
        permits.push(end.permit);
        endings.push(end.ending);
    }
    kill_point("handled");
    let settled = pipeline.backend.settle(settlements);
    kill_point("decided");
    let pipeline = pipeline.clone();
    async move {
        let settled = settled.await;
        pipeline.tally.settled(&endings, &settled);
        report::settled(&pipeline.queue, settled);
        Permit::give_back(permits);
    }
}
