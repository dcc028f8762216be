//! A dead letter handled once more by some version of its plugin, to see what would happen: nothing is published, stored
//! or settled.
//!
//! It goes the way of any message, through the same limits and grants, up to the commit, which is left out. Either the very
//! attempt that failed is run again, with the time, the randomness, the state and the answers that it had; or the message
//! is handled as if it came now. State is not written, and no request is sent, since it would act.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tracing::instrument::WithSubscriber as _;
use tracing_subscriber::layer::SubscriberExt as _;

use crate::backend::{Effects, Verdict};
use crate::call::{Access, Call, Replay};
use crate::clock;
use crate::dispatch::{Circumstances, Conclusion, Kind, Outcome, Route, conclude, guarded};
use crate::message::{Message, Payload};
use crate::plugin::{Plugin, Secrets};
use crate::retry::RetryPolicy;
use crate::store::{
    DeadLetter, Journal, KeptLetter, Reason, Recorded, Step, Store, StoreError, Versioned,
};
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
    /// What it asked and did, in order.
    pub steps: Vec<Step>,
}

/// What a handler finds when it is tried.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Run {
    /// What the attempt that failed found, as its journal says; what it did not ask for is as it is now. Without a journal
    /// the same as [`Self::Now`].
    #[default]
    Again,
    /// Everything as it is now, in a first attempt.
    Now,
}

/// The journal of the attempt that made a letter of its message, if it has one.
#[must_use]
pub fn journal(kept: &KeptLetter) -> Option<&Journal> {
    kept.history.report.as_ref()?.journal.as_ref()
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
    run: Run,
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
    let journal = journal(kept).filter(|_| run == Run::Again);
    let access = Arc::new(Access {
        plugin: plugin.name.clone(),
        grants: plugin.grants.clone(),
        limits: plugin.limits.clone(),
        hits: Arc::default(),
        store: match journal {
            Some(journal) => Arc::new(Recorded::new(journal, Arc::new(Untouched(store)))),
            None => Arc::new(Untouched(store)),
        },
        client: None,
        http: None,
    });
    let mut trials = Vec::with_capacity(routes.len());
    for route in routes {
        let call = call(&access, &message, route, journal);
        trials.push(one(call, route, &kept.letter).await);
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

fn call(
    access: &Arc<Access>,
    message: &Arc<Message>,
    route: &Route,
    journal: Option<&Journal>,
) -> Call {
    let (attempt, began_ms) = match journal {
        Some(journal) => (journal.attempt, journal.began_ms),
        None => (1, clock::now_ms()),
    };
    let call = Call::new(
        access.clone(),
        message.clone(),
        attempt,
        route.index,
        began_ms,
    );
    match journal {
        Some(journal) => call.again(Replay::of(journal)),
        None => call,
    }
}

async fn one(call: Call, route: &Route, letter: &DeadLetter) -> Trial {
    let lines = log::Lines::default();
    let subscriber = tracing_subscriber::registry().with(lines.clone());
    let handled = guarded(call, &*route.action).with_subscriber(subscriber);
    let (call, outcome) = handled.await;
    let steps = call.as_ref().map(|call| call.journal().bounded().steps);
    let secrets = call
        .as_ref()
        .map(|call| call.access().grants.secrets.clone());
    let (mut ended, mut effects) = conclusion(call, outcome, route, letter);
    if let Some(secrets) = secrets.filter(|secrets| !secrets.is_empty()) {
        hide(&secrets, &mut ended, &mut effects);
    }
    Trial {
        route: route.topic.to_string(),
        ended,
        effects,
        log: lines.take(),
        steps: steps.unwrap_or_default(),
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

/// What is shown of a trial shows no secret.
fn hide(secrets: &Secrets, ended: &mut Ended, effects: &mut Effects) {
    let hide = |bytes: &mut Bytes| {
        let mut shown = bytes.to_vec();
        secrets.redact_bytes(&mut shown);
        *bytes = shown.into();
    };
    if let Ended::Done(Some(reply)) = ended {
        hide(&mut reply.content);
    }
    for outgoing in &mut effects.publishes {
        hide(&mut outgoing.message.payload.content);
    }
    if let Some(state) = &mut effects.state {
        for (_, value) in &mut state.writes {
            value.iter_mut().for_each(hide);
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

    async fn state_size(&self, plugin: &str) -> Result<Option<u64>, StoreError> {
        self.0.state_size(plugin).await
    }

    async fn dead_letters(&self, limit: usize) -> Result<Vec<DeadLetter>, StoreError> {
        self.0.dead_letters(limit).await
    }
}
