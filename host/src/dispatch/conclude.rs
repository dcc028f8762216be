//! What an outcome means: the reply, the verdict, and whether anything that the handler did counts.
//!
//! Pure: rules only, recorded from the seed (`tests/` runs its cases) with the changes that ARCHITECTURE.md lists.

use std::time::Duration;

use super::{Action, Kind, Outcome};
use crate::backend::{Effects, Outgoing, Verdict};
use crate::call::Call;
use crate::message::{Headers, Message, Payload, Status};
use crate::retry::RetryPolicy;
use crate::store::{DeadLetter, FailedAttempt, Reason, Report};
use crate::wire::Packet;

/// The end of a message's journey, to be committed.
#[derive(Debug)]
pub struct Conclusion {
    /// How its delivery ends.
    pub verdict: Verdict,
    /// What becomes visible with it.
    pub effects: Effects,
}

/// What is known beside the call itself.
#[derive(Debug)]
pub struct Circumstances<'a> {
    /// Who handled it. Asked when something is to be remembered.
    pub action: &'a dyn Action,
    /// The kind of the route.
    pub kind: Kind,
    /// When failures are tried again.
    pub policy: &'a RetryPolicy,
    /// Draws from 0..1, uniformly.
    pub chance: fn() -> f64,
    /// The time, milliseconds since 1970-01-01 UTC. Asked when something is to be remembered.
    pub clock: fn() -> i64,
    /// The queue that it waited in.
    pub queue: &'a str,
}

/// Concludes a call.
#[must_use]
pub fn conclude(mut call: Call, outcome: Outcome, at: &Circumstances<'_>) -> Conclusion {
    let message = call.message.clone();
    let attempts = call.attempt;
    let wants_reply = message.should_reply() && at.kind != Kind::Event;
    let dead = |reason: Reason, error: String, report: Option<Box<Report>>| {
        let identity = at.action.identity();
        Verdict::DeadLetter(Box::new(DeadLetter {
            packet: Packet::Message(message.clone()),
            reason,
            error,
            plugin: identity.plugin.as_ref().map(ToString::to_string),
            digest: identity.digest.as_ref().map(ToString::to_string),
            queue: at.queue.to_owned(),
            attempts,
            at_ms: (at.clock)(),
            report,
        }))
    };
    let again = |after: Duration, reason: Reason, error: &str| Verdict::Retry {
        after,
        failed: Box::new(FailedAttempt::new(attempts, (at.clock)(), reason, error)),
    };
    let replied = |status: Status, text: &str| Effects {
        publishes: if wants_reply {
            error_reply(&message, status, text)
        } else {
            Vec::new()
        },
        state: None,
    };
    let (verdict, effects) = match outcome {
        Outcome::Done(payload) => match reply_payload(&mut call, payload) {
            Ok(payload) => {
                let mut effects = call.into_effects();
                if wants_reply {
                    effects.publishes.extend(reply(&message, payload));
                }
                (Verdict::Ack, effects)
            }
            Err((reason, error)) => {
                let text = format!("the reply was refused: {error}");
                (
                    dead(reason, text.clone(), call.report()),
                    replied(Status::SystemError, &text),
                )
            }
        },
        // Who asked has the answer; only a rejection that nobody would see is kept.
        Outcome::Rejected(text) if wants_reply => (Verdict::Ack, replied(Status::Error, &text)),
        Outcome::Rejected(text) => (
            dead(Reason::Rejected, text, call.report()),
            Effects::default(),
        ),
        Outcome::Failed(text) => {
            let effects = replied(Status::SystemError, &text);
            let (reason, text) = blamed(&call, Reason::Failed, text);
            (dead(reason, text, call.report()), effects)
        }
        Outcome::Retry { reason, after } => match next(at, attempts, after) {
            Some(delay) => (again(delay, Reason::Retry, &reason), Effects::default()),
            None => {
                let text = format!("not handled after {attempts} attempts");
                let effects = replied(Status::SystemError, &text);
                let (reason, text) = blamed(&call, Reason::Attempts, reason);
                (dead(reason, text, call.report()), effects)
            }
        },
        // A pipeline gives such a message back before it gets here; elsewhere there is one version only.
        Outcome::Superseded => (
            again(Duration::ZERO, Reason::Retry, "another version handles it"),
            Effects::default(),
        ),
        Outcome::Crashed { reason, error } => match next(at, attempts, None) {
            Some(delay) => (again(delay, reason, &error), Effects::default()),
            None => {
                let effects = replied(Status::SystemError, plain(reason));
                (dead(reason, error, call.report()), effects)
            }
        },
    };
    Conclusion { verdict, effects }
}

/// Concludes a message that no handler has seen: with a reply if one is wanted, and a dead letter.
#[must_use]
pub fn refuse(
    message: Option<&Message>,
    packet: Packet,
    (reason, error): (Reason, String),
    attempts: u32,
    queue: &str,
    now_ms: i64,
) -> Conclusion {
    let status = if reason == Reason::NoHandler {
        Status::SystemError
    } else {
        Status::Error
    };
    let publishes = message.map_or_else(Vec::new, |message| error_reply(message, status, &error));
    Conclusion {
        verdict: Verdict::DeadLetter(Box::new(DeadLetter {
            packet,
            reason,
            error,
            plugin: None,
            digest: None,
            queue: queue.to_owned(),
            attempts,
            at_ms: now_ms,
            report: None,
        })),
        effects: Effects {
            publishes,
            state: None,
        },
    }
}

/// Whoever gave up after something was not granted to it, or was too much, failed for that, as far as the host can know,
/// and the operator needs the line to add or to change.
fn blamed(call: &Call, reason: Reason, text: String) -> (Reason, String) {
    let forbidden = call.first_refusal().map(|why| (Reason::Forbidden, why));
    match forbidden.or_else(|| call.first_excess().map(|why| (Reason::Limit, why))) {
        None => (reason, text),
        Some((reason, why)) if text.contains(why) => (reason, text),
        Some((reason, why)) => (reason, format!("{text}; {why}")),
    }
}

fn next(at: &Circumstances<'_>, attempts: u32, after: Option<Duration>) -> Option<Duration> {
    let policy = at.policy.after(attempts, (at.chance)())?;
    Some(after.unwrap_or(policy))
}

/// What the requester learns of a crash: never internals of the host or the guest.
fn plain(reason: Reason) -> &'static str {
    match reason {
        Reason::Timeout => "the handler took too long",
        Reason::Memory => "the handler needed too much memory",
        Reason::Limit => "the handler exceeded a limit",
        _ => "the handler crashed",
    }
}

/// The request's headers with the handler's changes on top.
fn reply_payload(call: &mut Call, payload: Option<Payload>) -> Result<Payload, (Reason, String)> {
    let mut headers = inherited(&call.message);
    let Some(payload) = payload else {
        return Ok(Payload {
            headers,
            ..Payload::default()
        });
    };
    headers
        .apply(payload.headers.iter())
        .map_err(|error| (Reason::Failed, error.to_string()))?;
    let payload = Payload { headers, ..payload };
    call.check_payload(&payload)
        .map_err(|error| (Reason::Limit, error.to_string()))?;
    Ok(payload)
}

/// The content type says what the *request's* content is, so it does not pass to the reply.
fn inherited(message: &Message) -> Headers {
    let mut headers = message.payload.headers.clone();
    headers.remove(crate::message::CONTENT_TYPE);
    headers
}

fn reply(message: &Message, payload: Payload) -> Option<Outgoing> {
    let topic = message.reply_topic.clone()?;
    let identifier = message.identifier;
    Some(Outgoing::new(Message::identified(
        identifier, topic, payload,
    )))
}

fn error_reply(message: &Message, status: Status, text: &str) -> Vec<Outgoing> {
    let mut payload = Payload::text(text).with_status(status);
    let mut headers = inherited(message);
    for (name, value) in payload.headers.iter() {
        headers.put(name, value);
    }
    payload.headers = headers;
    reply(message, payload).into_iter().collect()
}
