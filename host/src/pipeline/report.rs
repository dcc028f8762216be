//! What the path says of itself in the log: which plugin, which message, and why.
//!
//! Only words; nothing here decides anything.

use super::{Call, Delivery, Message, Queue, Reason, SourceEvent};
use crate::backend::{PublishError, SettleError, Verdict};
use crate::dispatch::{Action, Outcome};
use crate::plugin::Limits;
use crate::throttle::Change;

pub(super) fn no_handler(message: &Message) -> (Reason, String) {
    (
        Reason::NoHandler,
        format!("no handler for topic `{}`", message.topic),
    )
}

pub(super) fn unpublishable(error: &PublishError) -> Outcome {
    Outcome::Failed(format!(
        "a message that the handler published cannot be sent: {error}"
    ))
}

pub(super) fn condition(queue: &Queue, event: &SourceEvent) {
    match event {
        SourceEvent::Stalled(error) => {
            tracing::warn!(queue = %queue.name, %error, "nothing can be received; trying again");
        }
        SourceEvent::Reconnected => tracing::info!(queue = %queue.name, "receiving again"),
        SourceEvent::Delivered(_) | SourceEvent::Fatal(_) => {}
    }
}

pub(super) fn outcome(action: &dyn Action, call: &Call, outcome: &Outcome) {
    if matches!(outcome, Outcome::Done(_)) {
        return;
    }
    let identity = action.identity();
    let plugin = identity.plugin.as_deref().unwrap_or("native");
    let (message, topic, attempt) = (&call.message.identifier, &call.message.topic, call.attempt);
    match outcome {
        Outcome::Done(_) | Outcome::Superseded => {}
        Outcome::Rejected(why) => {
            tracing::info!(plugin, message_id = %message, %topic, attempt, "rejected: {why}");
        }
        Outcome::Failed(why) => {
            tracing::warn!(plugin, message_id = %message, %topic, attempt, "failed: {why}");
        }
        Outcome::Retry { reason, .. } => {
            tracing::warn!(plugin, message_id = %message, %topic, attempt, "asks to be tried again: {reason}");
        }
        Outcome::Crashed { reason, error } => {
            tracing::error!(plugin, message_id = %message, %topic, attempt, %reason, "{error}");
        }
    }
}

pub(super) fn verdict(queue: &Queue, delivery: &Delivery, verdict: &Verdict) {
    match verdict {
        Verdict::Ack => {}
        Verdict::Retry { after: delay, .. } => {
            tracing::debug!(queue = %queue.name, attempt = delivery.attempt, ?delay, "will be tried again");
        }
        Verdict::DeadLetter(letter) => {
            tracing::warn!(
                queue = %queue.name,
                plugin = letter.plugin.as_deref().unwrap_or("none"),
                attempts = letter.attempts,
                reason = %letter.reason,
                "kept as a dead letter: {}",
                letter.error
            );
        }
    }
}

pub(super) fn changed(queue: &Queue, change: Change, limits: &Limits) {
    match change {
        Change::Paused => {
            let pause = limits.breaker.map(|breaker| breaker.pause);
            tracing::error!(queue = %queue.name, ?pause, "it keeps failing and is paused; its messages wait, one is tried after the pause");
        }
        Change::Resumed => tracing::info!(queue = %queue.name, "it works again"),
    }
}

pub(super) fn settled(queue: &Queue, results: Vec<Result<(), SettleError>>) {
    for error in results.into_iter().filter_map(Result::err) {
        match error {
            SettleError::Conflict => tracing::debug!(queue = %queue.name, "{error}"),
            _ => {
                tracing::warn!(queue = %queue.name, %error, "not committed; the message comes again")
            }
        }
    }
}
