//! THE PATH of a message: permit → receive → admit → route → call → commit → settle.
//!
//! The only module that brings broker, dispatch and plugins together. A delivery is settled exactly once, and dropping
//! it unsettled means that it comes again; what a handler did becomes visible together with the acknowledgement of the
//! message that caused it, or not at all. How long anything takes is decided by what is called from here.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, BackendError, Delivery, Queue, Source, SourceEvent, Verdict};
use crate::call::Call;
use crate::clock;
use crate::dispatch::{Circumstances, Conclusion, Outcome, Route, conclude, guarded, refuse};
use crate::message::Message;
use crate::store::Reason;
use crate::wire;

mod beside;
mod crew;
mod fair;
mod gate;
mod inflight;
mod live;
mod report;
mod shadow;
mod split;
mod tally;

use beside::Ended;
use crew::{Crew, End, Waiting};
use fair::Share;
use gate::Gate;
use inflight::InFlight;
use live::{Found, Live, View};
use tally::{Ending, Timed};

pub use beside::Beside;
pub(crate) use fair::Shares;
pub(crate) use live::Serving;
pub use live::Version;
pub use shadow::{Compared, Differing, Shadow, Wish};
pub(crate) use tally::{BOUNDS, Ends, Tally};

/// One subscription with everything that its messages pass through.
#[derive(Debug)]
pub struct Pipeline {
    /// Where messages come from and where everything that they cause goes.
    pub backend: Arc<dyn Backend>,
    /// The queue of this subscription.
    pub queue: Queue,
    live: Live,
    gate: Arc<Gate>,
    share: Arc<Share>,
    tally: Tally,
}

impl Pipeline {
    /// A pipeline that uses this version until another one is switched to.
    #[must_use]
    pub fn new(backend: Arc<dyn Backend>, queue: Queue, version: Version) -> Self {
        let gate = Arc::new(Gate::new(&version.access));
        let share = Shares::default().join(version.access.limits.weight);
        let live = Live::new(version);
        Self {
            backend,
            queue,
            live,
            gate,
            share,
            tally: Tally::default(),
        }
    }

    /// Shares the host with these.
    pub(crate) fn sharing(mut self, shares: &Shares) -> Self {
        self.share = shares.join(self.serving().version.access.limits.weight);
        self
    }

    /// What it uses at this moment.
    pub(crate) fn serving(&self) -> Arc<Serving> {
        self.live.now()
    }

    /// What was counted of it so far.
    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    /// How many of its messages are in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.share.in_flight()
    }

    /// Whether it is paused because its plugin keeps failing, and how often it was.
    pub(crate) fn breaker(&self) -> (bool, usize) {
        (self.gate.is_closed(), self.gate.pauses())
    }

    /// From now on it uses this; what has begun goes on with what was there before.
    pub(crate) fn switch(&self, serving: Serving) {
        let (old, limits) = (self.serving(), &serving.version.access.limits);
        if !Arc::ptr_eq(&old.version, &serving.version) {
            self.gate.renew(limits);
            self.share.weigh(limits.weight);
        }
        self.live.switch(serving);
    }

    /// Runs until `stop`, then finishes what has begun. Dropping the future gives back what has not ended.
    ///
    /// # Errors
    /// What ended the source; what has not ended is given back then.
    pub async fn run(
        self: Arc<Self>,
        mut source: Box<dyn Source>,
        stop: CancellationToken,
    ) -> Result<(), BackendError> {
        let mut inflight = InFlight::new(self.backend.clone(), self.share.clone());
        self.gate.renew(&self.serving().version.access.limits);
        let crew = Crew::new(self.clone());
        loop {
            let step = async {
                let allowed = self.gate.room().await;
                let permits = inflight.permits(allowed.most).await; // permit
                (source.next(permits.len()).await, permits, allowed) // receive
            };
            match stop.run_until_cancelled(step).await {
                Some((SourceEvent::Delivered(batch), permits, at)) => crew.take(batch, permits, at),
                Some((SourceEvent::Fatal(error), ..)) => return Err(error),
                Some((other, ..)) => report::condition(&self.queue, &other),
                None => break,
            }
        }
        crew.finish().await;
        Ok(())
    }

    /// One message from its delivery to its end. Commit and settle follow together with those of its neighbours: the
    /// backend makes verdict and effects durable together. Without an end the message goes back, and comes again to the
    /// version that is live by then.
    async fn journey(&self, at: Arc<View>, waiting: Waiting, timed: Timed) -> Option<End> {
        let (delivery, permit) = waiting;
        let began_ms = clock::now_ms();
        let (conclusion, ended) = match Self::admit(at.version(), &delivery) {
            Err(refusal) => (self.refuse(at.version(), &delivery, None, refusal), None),
            Ok(message) => {
                let found = at.route(&delivery, &message);
                match found.routes.as_slice() {
                    [] => (self.unrouted(found.version, &delivery, &message), None),
                    [route] => {
                        let call = self.call(&found, &delivery, message, route, began_ms, timed);
                        call.await?
                    }
                    several => (self.split(&delivery, &message, several), None),
                }
            }
        };
        let Conclusion { verdict, effects } = conclusion;
        let ending = Ending::of(ended, &verdict);
        report::verdict(&self.queue, &delivery, &verdict);
        let settlement = delivery.settle(verdict, effects);
        Some(End {
            settlement,
            permit,
            began_ms,
            ending,
        })
    }

    fn admit(version: &Version, delivery: &Delivery) -> Result<Arc<Message>, (Reason, String)> {
        let message = wire::decode(version.form(delivery), &delivery.packet)
            .map_err(|error| (Reason::Malformed, error.to_string()))?;
        let limits = &version.access.limits;
        limits.check_payload(&message.payload).map_err(|error| {
            version.access.hits.count(error.limit);
            (Reason::TooLarge, error.to_string())
        })?;
        message
            .user()
            .map_err(|error| (Reason::Malformed, error.to_string()))?;
        Ok(message)
    }

    async fn call(
        &self,
        found: &Found<'_>,
        delivery: &Delivery,
        message: Arc<Message>,
        route: &Route,
        began: i64,
        timed: Timed,
    ) -> Option<(Conclusion, Option<Ended>)> {
        let timer = self.tally.timer(timed);
        let (version, measured) = (found.version, found.measure());
        let again = || {
            Call::new(
                version.access.clone(),
                message.clone(),
                delivery.attempt,
                route.index,
                began,
            )
        };
        let ended = version.unless_cut(guarded(again(), &*route.action));
        let (call, outcome) = ended.await?;
        let withdrawn = measured.as_ref().is_some_and(|it| it.is_withdrawn());
        if outcome == Outcome::Superseded || withdrawn {
            return None;
        }
        drop(timer);
        let ended = Ended::from(&outcome);
        let call = call.unwrap_or_else(again);
        report::outcome(&*route.action, &call, &outcome);
        let at = Circumstances {
            action: &*route.action,
            kind: route.kind,
            policy: &version.retry,
            chance: rand::random,
            clock: clock::now_ms,
            queue: self.queue.name.as_str(),
        };
        let copying = found
            .shadow
            .and_then(|it| it.copies(delivery, route, &call));
        let conclusion = conclude(call, outcome, &at);
        let conclusion = match self.backend.check(&conclusion.effects.publishes) {
            Ok(()) => conclusion,
            Err(error) => conclude(again(), report::unpublishable(&error), &at),
        };
        if let Some(measured) = measured {
            measured.end(ended, &conclusion.verdict);
        }
        if let Some(copying) = copying {
            copying.send(&conclusion);
        }
        Some((conclusion, Some(ended)))
    }

    fn split(&self, delivery: &Delivery, message: &Message, routes: &[&Route]) -> Conclusion {
        split::split(delivery, message, routes, &self.queue)
    }

    fn unrouted(&self, version: &Version, delivery: &Delivery, message: &Message) -> Conclusion {
        self.refuse(
            version,
            delivery,
            Some(message),
            report::no_handler(message),
        )
    }

    fn refuse(
        &self,
        version: &Version,
        delivery: &Delivery,
        message: Option<&Message>,
        refusal: (Reason, String),
    ) -> Conclusion {
        // A message that can be read gets its reply even when it is refused.
        let decoded = wire::decode(version.form(delivery), &delivery.packet).ok();
        let message = message.or(decoded.as_deref());
        let (packet, queue) = (delivery.packet.clone(), self.queue.name.as_str());
        let mut refused = refuse(
            message,
            packet,
            refusal,
            delivery.attempt,
            queue,
            clock::now_ms(),
        );
        if let Verdict::DeadLetter(letter) = &mut refused.verdict {
            // No handler saw it, and yet it is known whose it is.
            letter.plugin = Some(version.access.plugin.to_string());
        }
        refused
    }
}
