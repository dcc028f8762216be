//! A version in the shadow of the live one: it gets copies of messages that the live version has handled, and what it makes
//! of them is compared and thrown away.
//!
//! Copies are handled one after the other on a task of its own. The path never waits for it: what it has no time for is
//! counted and left out. Nothing is published, stored, requested or logged by it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::mpsc::{self, Permit};
use tokio_util::task::AbortOnDropHandle;
use tracing::instrument::WithSubscriber as _;
use tracing::subscriber::NoSubscriber;
use uuid::Uuid;

use super::Version;
use crate::backend::Delivery;
use crate::call::{Access, Call, Replay};
use crate::clock;
use crate::dispatch::{Circumstances, Conclusion, Kind, Outcome, Route, conclude, guarded};
use crate::message::Message;
use crate::rollout::{Choice, Difference, Ends, Share, compare};
use crate::store::{BodyEnd, Fetched, Journal, Recorded, Step};

/// How many copies wait at most.
const WAITING: usize = 64;
/// How many messages that differ are kept.
const KEPT: usize = 100;

/// A version that is only compared.
#[derive(Debug)]
pub struct Shadow {
    wish: Wish,
    choice: Option<Choice>,
    copies: mpsc::Sender<Copied>,
    /// How many copies it still gets.
    left: AtomicU64,
    counts: Arc<Counts>,
    _handling: AbortOnDropHandle<()>,
}

/// What was wished for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wish {
    /// The digest of its component.
    pub digest: String,
    /// Of how much it gets copies; `None`: of everything.
    pub share: Option<Share>,
    /// How many copies it gets; `None`: as many as there are.
    pub messages: Option<u64>,
    /// Since when, milliseconds since 1970-01-01 UTC.
    pub since_ms: i64,
    /// Who wished it.
    pub who: String,
}

/// What came of the copies.
#[derive(Debug, Default)]
struct Counts {
    same: AtomicU64,
    different: AtomicU64,
    skipped: AtomicU64,
    incomparable: AtomicU64,
    first: Mutex<Vec<Differing>>,
}

/// What came of the copies so far.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// Messages of which both made the same.
    pub same: u64,
    /// Messages of which they did not.
    pub different: u64,
    /// Messages that there was no time for.
    pub skipped: u64,
    /// Messages for which it sent a request that the live version did not send.
    pub incomparable: u64,
    /// The first messages that differ.
    pub first: Vec<Differing>,
}

/// A message that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differing {
    /// The message.
    pub identifier: Uuid,
    /// Its topic.
    pub topic: String,
    /// What differs.
    pub differences: Vec<Difference>,
}

/// A message that the live version has handled.
#[derive(Debug)]
struct Copied {
    message: Arc<Message>,
    route: Route,
    journal: Journal,
    live: Ends,
}

/// A copy that is about to be given.
#[derive(Debug)]
pub(super) struct Copying<'a> {
    place: Permit<'a, Copied>,
    message: Arc<Message>,
    route: Route,
    journal: Journal,
}

impl Shadow {
    /// A version that gets copies from now on.
    pub(crate) fn new(version: Arc<Version>, wish: Wish) -> Self {
        let (copies, waiting) = mpsc::channel(WAITING);
        let counts = Arc::new(Counts::default());
        let handling = tokio::spawn(handle(version, waiting, counts.clone()));
        Self {
            choice: wish.share.map(|share| Choice::new(&wish.digest, share)),
            copies,
            left: AtomicU64::new(wish.messages.unwrap_or(u64::MAX)),
            wish,
            counts,
            _handling: AbortOnDropHandle::new(handling),
        }
    }

    /// Begins a copy, unless it is not wanted or there is no time for it.
    pub(super) fn copies(
        &self,
        delivery: &Delivery,
        route: &Route,
        call: &Call,
    ) -> Option<Copying<'_>> {
        let of_key = delivery.key.as_deref().map(str::as_bytes);
        let key = of_key.unwrap_or(call.message.identifier.as_bytes());
        if self
            .choice
            .as_ref()
            .is_some_and(|choice| !choice.takes(key))
        {
            return None;
        }
        if self.left.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let Ok(place) = self.copies.try_reserve() else {
            self.counts.skipped.fetch_add(1, Ordering::Relaxed);
            return None;
        };
        let less = |left: u64| left.checked_sub(1);
        self.left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less)
            .ok()?;
        Some(Copying {
            place,
            message: call.message.clone(),
            route: route.clone(),
            journal: call.journal(),
        })
    }

    /// What was wished for.
    #[must_use]
    pub fn wish(&self) -> &Wish {
        &self.wish
    }

    /// Whether it has had as many copies as it was to get.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.left.load(Ordering::Relaxed) == 0
    }

    /// What came of it so far.
    #[must_use]
    pub fn compared(&self) -> Compared {
        let counts = &*self.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let first = counts.first.lock().unwrap_or_else(PoisonError::into_inner);
        Compared {
            same: read(&counts.same),
            different: read(&counts.different),
            skipped: read(&counts.skipped),
            incomparable: read(&counts.incomparable),
            first: first.clone(),
        }
    }
}

impl Copying<'_> {
    /// The live version has made this of the message.
    pub(super) fn send(self, conclusion: &Conclusion) {
        self.place.send(Copied {
            message: self.message,
            route: self.route,
            journal: self.journal,
            live: Ends::of(conclusion),
        });
    }
}

/// Handles one copy after the other.
async fn handle(version: Arc<Version>, mut waiting: mpsc::Receiver<Copied>, counts: Arc<Counts>) {
    while let Some(copied) = waiting.recv().await {
        // What it logs was logged by the live version.
        let compared = one(&version, &copied).with_subscriber(NoSubscriber::new());
        let count = match compared.await {
            None => &counts.incomparable,
            Some(differences) if differences.is_empty() => &counts.same,
            Some(differences) => {
                let mut first = counts.first.lock().unwrap_or_else(PoisonError::into_inner);
                if first.len() < KEPT {
                    first.push(Differing {
                        identifier: copied.message.identifier,
                        topic: copied.message.topic.to_string(),
                        differences,
                    });
                }
                &counts.different
            }
        };
        count.fetch_add(1, Ordering::Relaxed);
        // Others of this thread want their turn, whoever it was that had no reason to wait.
        tokio::task::yield_now().await;
    }
}

/// What differs; `None` where that cannot be said.
async fn one(version: &Version, copied: &Copied) -> Option<Vec<Difference>> {
    let Copied {
        message,
        route: live,
        journal,
        ..
    } = copied;
    let same = |route: &&Route| route.kind == live.kind && route.topic == live.topic;
    let dispatcher = &version.dispatcher;
    let found = dispatcher.numbered(live.number);
    let found = found.or_else(|| dispatcher.routes().iter().find(same));
    let Some(route) = found.filter(|route| route.kind != Kind::Periodic) else {
        return Some(vec![Difference {
            what: "route".to_owned(),
            live: format!("{} {}", live.kind, live.topic),
            shadow: "-".to_owned(),
        }]);
    };
    let of = &version.access;
    let access = Arc::new(Access {
        plugin: of.plugin.clone(),
        grants: of.grants.clone(),
        limits: of.limits.clone(),
        // What a copy hits says nothing of the plugin that is served.
        hits: Arc::default(),
        store: Arc::new(Recorded::new(journal, of.store.clone())),
        client: None,
        http: None,
    });
    let began = || {
        let (access, message) = (access.clone(), message.clone());
        let (attempt, began_ms) = (journal.attempt, journal.began_ms);
        Call::new(access, message, attempt, route.index, began_ms).again(Replay::of(journal))
    };
    let (call, outcome) = guarded(began(), &*route.action).await;
    let call = call.unwrap_or_else(began);
    let made = call.journal();
    if outcome == Outcome::Superseded || !asked_the_same(journal, &made) {
        return None;
    }
    let unsent = unsent(journal, &made);
    let at = Circumstances {
        action: &*route.action,
        kind: route.kind,
        policy: &version.retry,
        chance: rand::random,
        clock: clock::now_ms,
        queue: "",
    };
    let ends = Ends::of(&conclude(call, outcome, &at));
    let reply = message.reply_topic.as_ref();
    let mut found = compare(&copied.live, &ends, reply, route.index == live.index);
    found.extend(unsent);
    Some(found)
}

/// Whether it asked others nothing that the live version did not ask: what that got is what it got.
fn asked_the_same(live: &Journal, shadow: &Journal) -> bool {
    let mut known = asked(live);
    let whole = |step: &Step| match step {
        // What the live version got is known in part only.
        Step::Fetched { answer, .. } => !matches!(
            answer,
            Fetched::Response {
                end: BodyEnd::Missing,
                ..
            }
        ),
        _ => true,
    };
    shadow.steps.iter().all(whole)
        && asked(shadow).iter().all(|asked| {
            let at = known.iter().position(|known| known == asked);
            at.map(|at| known.swap_remove(at)).is_some()
        })
}

/// What it asked others for, and how.
fn asked(journal: &Journal) -> Vec<(String, Vec<u8>)> {
    let steps = journal.steps.iter().filter_map(|step| match step {
        Step::Asked { topic, content, .. } => Some((topic.clone(), content.0.clone())),
        Step::Fetched {
            method,
            url,
            content,
            ..
        } => Some((format!("{method} {url}"), content.0.clone())),
        _ => None,
    });
    steps.collect()
}

/// Requests over HTTP that only the live version sent. They act where they arrive, so they are a difference.
fn unsent(live: &Journal, shadow: &Journal) -> Vec<Difference> {
    let mut sent = asked(shadow);
    let mut left = Vec::new();
    for step in &live.steps {
        let Step::Fetched {
            method,
            url,
            content,
            ..
        } = step
        else {
            continue;
        };
        let request = (format!("{method} {url}"), content.0.clone());
        match sent.iter().position(|sent| *sent == request) {
            Some(at) => {
                sent.swap_remove(at);
            }
            None => left.push(Difference {
                what: "request over HTTP".to_owned(),
                live: request.0,
                shadow: "-".to_owned(),
            }),
        }
    }
    left
}
