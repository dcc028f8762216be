//! A dead letter handled once more by some version of its plugin, to see what would happen: nothing is published, stored
//! or settled.
//!
//! It goes the way of any message, through the same limits and grants, up to the commit, which is left out. State is read
//! as it is and not written; requests to other handlers are refused, since they would act.

use std::sync::Arc;

use async_trait::async_trait;
use tracing::instrument::WithSubscriber as _;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::backend::{Effects, Verdict};
use crate::call::{Access, Call};
use crate::clock;
use crate::dispatch::{Circumstances, Conclusion, Kind, Outcome, Route, conclude, guarded};
use crate::message::{Message, Payload};
use crate::plugin::Plugin;
use crate::retry::RetryPolicy;
use crate::store::{DeadLetter, KeptLetter, Reason, Store, StoreError, Versioned};
use crate::wire::{self, Form};

mod log;

pub use log::LogLine;

/// What one handler would do.
#[derive(Debug)]
pub struct Trial {
    /// The topic of its route.
    pub route: String,
    /// How it ended.
    pub ended: Ended,
    /// What it would have published and stored, the reply not included.
    pub effects: Effects,
    /// What it logged.
    pub log: Vec<LogLine>,
}

/// How a trial ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// It would be done, with this reply.
    Done(Option<Payload>),
    /// The handler would reject or fail, as before.
    Failed(Reason, String),
    /// The handler would ask for another attempt.
    Retry(String),
}

impl Ended {
    /// Whether the message would be done.
    #[must_use]
    pub fn done(&self) -> bool {
        matches!(self, Self::Done(_))
    }
}

/// Has a plugin handle a letter, once for each of its handlers that would get the message.
///
/// # Errors
/// When the message cannot be read, exceeds the limits, or has no handler in this plugin: what is wrong, and the reason
/// that it would become a dead letter for again.
pub async fn trial(
    plugin: &Arc<Plugin>,
    form: Form,
    kept: &KeptLetter,
    store: Arc<dyn Store>,
) -> Result<Vec<Trial>, (Reason, String)> {
    let message = admit(plugin, form, kept)?;
    let dispatcher = plugin
        .dispatcher()
        .map_err(|error| (Reason::NoHandler, error.to_string()))?;
    let routes: Vec<&Route> = match kept.route {
        Some(index) => dispatcher.numbered(index).into_iter().collect(),
        None => dispatcher.route(&message.topic),
    };
    if routes.is_empty() {
        let error = format!("no handler for topic `{}`", message.topic);
        return Err((Reason::NoHandler, error));
    }
    let access = Arc::new(Access {
        plugin: plugin.name.clone(),
        grants: plugin.grants.clone(),
        limits: plugin.limits.clone(),
        store: Arc::new(Untouched(store)),
        client: None,
    });
    let mut trials = Vec::with_capacity(routes.len());
    for route in routes {
        trials.push(one(access.clone(), message.clone(), route, &kept.letter).await);
    }
    Ok(trials)
}

/// As the pipeline does it.
fn admit(plugin: &Plugin, form: Form, kept: &KeptLetter) -> Result<Arc<Message>, (Reason, String)> {
    // Copies for one route were written by the host itself.
    let form = if kept.route.is_some() {
        Form::Native
    } else {
        form
    };
    let message = wire::decode(form, &kept.letter.packet)
        .map_err(|error| (Reason::Malformed, error.to_string()))?;
    plugin
        .limits
        .check_payload(&message.payload)
        .map_err(|error| (Reason::TooLarge, error.to_string()))?;
    message
        .user()
        .map_err(|error| (Reason::Malformed, error.to_string()))?;
    Ok(message)
}

async fn one(
    access: Arc<Access>,
    message: Arc<Message>,
    route: &Route,
    letter: &DeadLetter,
) -> Trial {
    let lines = log::Lines::default();
    let subscriber = tracing_subscriber::registry().with(lines.clone());
    let call = Call::new(access, message, 1, route.index, clock::now_ms());
    let handled = guarded(call, &*route.action).with_subscriber(subscriber);
    let (call, outcome) = handled.await;
    let (ended, effects) = conclusion(call, outcome, route, letter);
    Trial {
        route: route.topic.to_string(),
        ended,
        effects,
        log: lines.take(),
    }
}

/// What an outcome means. Only what is done has effects.
fn conclusion(
    call: Option<Call>,
    outcome: Outcome,
    route: &Route,
    letter: &DeadLetter,
) -> (Ended, Effects) {
    let ended = match &outcome {
        Outcome::Done(reply) => Ended::Done(reply.clone()),
        Outcome::Rejected(text) => Ended::Failed(Reason::Rejected, text.clone()),
        Outcome::Failed(text) => Ended::Failed(Reason::Failed, text.clone()),
        Outcome::Crashed { reason, error } => Ended::Failed(*reason, error.clone()),
        Outcome::Retry { reason, .. } => Ended::Retry(reason.clone()),
        Outcome::Superseded => Ended::Retry("another version handles it".to_owned()),
    };
    let Some(call) = call.filter(|_| ended.done()) else {
        return (ended, Effects::default());
    };
    let replies = call.message.should_reply() && route.kind != Kind::Event;
    let at = Circumstances {
        action: &*route.action,
        kind: route.kind,
        policy: &RetryPolicy::default(),
        chance: rand::random,
        clock: clock::now_ms,
        queue: &letter.queue,
    };
    let Conclusion {
        verdict,
        mut effects,
    } = conclude(call, outcome, &at);
    match verdict {
        // Its reply exceeds a limit.
        Verdict::DeadLetter(letter) => (
            Ended::Failed(letter.reason, letter.error),
            Effects::default(),
        ),
        Verdict::Ack | Verdict::Retry { .. } => {
            if replies {
                // The last one is the reply.
                effects.publishes.pop();
            }
            (ended, effects)
        }
    }
}

/// The state of plugins as it is, whatever is written.
#[derive(Debug)]
struct Untouched(Arc<dyn Store>);

#[async_trait]
impl Store for Untouched {
    async fn state_get(&self, plugin: &str, key: &str) -> Result<Versioned, StoreError> {
        self.0.state_get(plugin, key).await
    }

    async fn state_keys(
        &self,
        plugin: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        self.0.state_keys(plugin, prefix, after, limit).await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        self.0.dead_letters(limit).await
    }
}
