//! THE PATH of a message: permit → receive → admit → route → call → commit → settle.
//!
//! The only module that brings broker, dispatch and plugins together. A delivery is settled exactly once, and dropping
//! it unsettled means that it comes again; what a handler did becomes visible together with the acknowledgement of the
//! message that caused it, or not at all. How long anything takes is decided by what is called from here.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::backend::{Backend, BackendError, Delivery, Queue, Source, SourceEvent, Verdict};
use crate::call::{Access, Call};
use crate::clock;
use crate::dispatch::{Circumstances, Conclusion, Dispatcher, Route, conclude, guarded, refuse};
use crate::message::Message;
use crate::retry::RetryPolicy;
use crate::store::Reason;
use crate::wire::{self, Form};

mod crew;
mod gate;
mod inflight;
mod report;
mod split;

use crew::{Crew, End};
use gate::Gate;
use inflight::{InFlight, Permit};

/// One subscription with everything that its messages pass through.
#[derive(Debug)]
pub struct Pipeline {
    /// Where messages come from and where everything that they cause goes.
    pub backend: Arc<dyn Backend>,
    /// The queue of this subscription.
    pub queue: Queue,
    /// How messages in that queue are written.
    pub form: Form,
    /// Who handles what.
    pub dispatcher: Dispatcher,
    /// What the handlers may do.
    pub access: Arc<Access>,
    /// When failures are tried again.
    pub retry: RetryPolicy,
}

impl Pipeline {
    /// Runs until `stop`, then finishes what has begun. Dropping the future gives back what has not ended.
    ///
    /// # Errors
    /// What ended the source; what has not ended is given back then.
    pub async fn run(
        self: Arc<Self>,
        mut source: Box<dyn Source>,
        stop: CancellationToken,
    ) -> Result<(), BackendError> {
        let inflight = InFlight::new(self.backend.clone());
        let gate = Arc::new(Gate::new(&self.access.limits));
        let crew = Crew::new(self.clone(), gate.clone());
        loop {
            let step = async {
                let allowed = gate.room().await;
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
    /// backend makes verdict and effects durable together.
    async fn journey(&self, delivery: Delivery, permit: Permit) -> End {
        let began_ms = clock::now_ms();
        let conclusion = match self.admit(&delivery) {
            Err(refusal) => self.refuse(&delivery, None, refusal),
            Ok(message) => match self.route(&delivery, &message).as_slice() {
                [] => self.refuse(&delivery, Some(&message), report::no_handler(&message)),
                [route] => self.call(&delivery, message, route, began_ms).await,
                several => split::split(&delivery, &message, several, &self.queue),
            },
        };
        let Conclusion { verdict, effects } = conclusion;
        report::verdict(&self.queue, &delivery, &verdict);
        let settlement = delivery.settle(verdict, effects);
        End {
            settlement,
            permit,
            began_ms,
        }
    }

    fn admit(&self, delivery: &Delivery) -> Result<Arc<Message>, (Reason, String)> {
        let message = wire::decode(self.form(delivery), &delivery.packet)
            .map_err(|error| (Reason::Malformed, error.to_string()))?;
        let limits = &self.access.limits;
        limits
            .check_payload(&message.payload)
            .map_err(|e| (Reason::TooLarge, e.to_string()))?;
        message
            .user()
            .map_err(|error| (Reason::Malformed, error.to_string()))?;
        Ok(message)
    }

    /// Copies for one route were written by this host itself.
    fn form(&self, delivery: &Delivery) -> Form {
        if delivery.route.is_some() {
            Form::Native
        } else {
            self.form
        }
    }

    fn route(&self, delivery: &Delivery, message: &Message) -> Vec<&Route> {
        match delivery.route {
            Some(index) => self.dispatcher.by_index(index).into_iter().collect(),
            None => self.dispatcher.route(&message.topic),
        }
    }

    async fn call(
        &self,
        delivery: &Delivery,
        message: Arc<Message>,
        route: &Route,
        began: i64,
    ) -> Conclusion {
        let again = || {
            Call::new(
                self.access.clone(),
                message.clone(),
                delivery.attempt,
                route.index,
                began,
            )
        };
        let (call, outcome) = guarded(again(), &*route.action).await;
        let call = call.unwrap_or_else(again);
        report::outcome(&*route.action, &call, &outcome);
        let at = Circumstances {
            action: &*route.action,
            kind: route.kind,
            policy: &self.retry,
            chance: rand::random,
            clock: clock::now_ms,
            queue: self.queue.name.as_str(),
        };
        conclude(call, outcome, &at)
    }

    fn refuse(
        &self,
        delivery: &Delivery,
        message: Option<&Message>,
        refusal: (Reason, String),
    ) -> Conclusion {
        // A message that can be read gets its reply even when it is refused.
        let decoded = wire::decode(self.form(delivery), &delivery.packet).ok();
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
            letter.plugin = Some(self.access.plugin.to_string());
        }
        refused
    }
}
