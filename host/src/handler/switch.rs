//! Another version takes the place of the handlers of a running port, without a message lost, repeated or refused.
//!
//! New topics are bound first, then one pointer is switched, then topics that nobody handles any more are unbound. What
//! waits by then for a route that the new version doesn't have is handled by the version before, which stays until the
//! queue holds nothing any more that was published by then. Whether a version is any good was found out before.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::port::{Port, lock};
use super::subscription::Declared;
use crate::backend::{BackendError, QueueSpec, QueueStatus};
use crate::clock;
use crate::pipeline::{Beside, Pipeline, Serving, Shadow, Version};

/// What takes the place of what is there.
#[derive(Debug)]
pub(crate) struct Change {
    /// The handlers.
    pub(crate) version: Arc<Version>,
    /// What the queue should be.
    pub(crate) spec: QueueSpec,
    /// How long the old version may go on with what it has begun.
    pub(crate) drain: Duration,
}

/// How far the clock of a broker may be from ours.
const SLACK_MS: i64 = 10_000;
/// How often it is looked whether the version before is needed.
const LOOK: Duration = Duration::from_secs(1);
/// The same when it takes long.
const SLOW_LOOK: Duration = Duration::from_secs(30);

impl Port {
    /// Switches to another version.
    ///
    /// # Errors
    /// When the queue cannot be bound to its topics; the old version goes on then.
    pub(crate) async fn switch(&self, change: Change) -> Result<(), BackendError> {
        let Change {
            version,
            spec,
            drain,
        } = change;
        let _switching = self.switching.lock().await;
        lock(&self.keeper).take();
        let old = self.pipeline.serving();
        let known = self.spec.get();
        let both = together(known.as_ref(), &spec);
        if known.as_ref() != Some(&both) {
            // A message that arrives by a new topic before the switch is for the new version.
            let ahead = std::iter::once(&version).chain(&old.before);
            self.pipeline.switch(Serving {
                before: ahead.cloned().collect(),
                ..(*old).clone()
            });
            if let Err(error) = self.pipeline.backend.declare_queue(both.clone()).await {
                // Some may have arrived all the same.
                self.keep(drain, true);
                return Err(error);
            }
        }
        let older = std::iter::once(&old.version).chain(&old.before);
        let (before, over) = needed(&version, older.cloned());
        let stays = before.clone();
        let tried = old.beside.as_ref();
        let withdrawn = tried.filter(|tried| !Arc::ptr_eq(&tried.version, &version));
        self.pipeline.switch(Serving {
            version,
            before,
            beside: None,
            shadow: None,
        });
        if let Some(tried) = withdrawn {
            // It was compared with what is not live any more.
            tried.withdraw();
        }
        for older in &stays {
            // What waits there may be for a route that the new one has.
            older.supersede(false);
        }
        self.follow();
        for older in over {
            retire(older, drain);
        }
        self.spec.set(spec.clone());
        let mut bound = true;
        if both != spec
            && let Err(error) = self.pipeline.backend.declare_queue(spec).await
        {
            let queue = &self.pipeline.queue.name;
            tracing::warn!(%queue, %error, "topics that are no longer handled cannot be unbound yet; trying again");
            bound = false;
        }
        if !stays.is_empty() || !bound {
            self.keep(drain, !bound);
        }
        Ok(())
    }

    /// Has this version tried on a share of the messages, or none any more. What was tried before is withdrawn: what it
    /// handles comes to the live version.
    pub(crate) async fn set_beside(&self, beside: Option<Arc<Beside>>) {
        let _switching = self.switching.lock().await;
        let old = self.pipeline.serving();
        self.pipeline.switch(Serving {
            beside,
            ..(*old).clone()
        });
        if let Some(tried) = &old.beside {
            tried.withdraw();
        }
    }

    /// Has this version get copies of what the live one has handled, or none any more.
    pub(crate) async fn set_shadow(&self, shadow: Option<Arc<Shadow>>) {
        let _switching = self.switching.lock().await;
        let old = self.pipeline.serving();
        self.pipeline.switch(Serving {
            shadow,
            ..(*old).clone()
        });
    }

    /// Looks after the versions before, until they are not needed any more.
    pub(crate) fn keep(&self, drain: Duration, declare: bool) {
        let keeper = Keeper {
            pipeline: self.pipeline.clone(),
            spec: self.spec.clone(),
            switching: self.switching.clone(),
            drain,
        };
        let task = tokio::spawn(keeper.run(declare));
        *lock(&self.keeper) = Some(AbortOnDropHandle::new(task));
    }
}

/// Earlier versions that a host starts with: those that have routes of their own stay before the one that is live. Returns
/// whether there are any; they have to be [looked after](Port::keep) then.
pub(crate) fn stay_before(pipeline: &Pipeline, older: Vec<Arc<Version>>) -> bool {
    let version = pipeline.serving().version.clone();
    let (before, _) = needed(&version, older.into_iter());
    let any = !before.is_empty();
    if any {
        pipeline.switch(Serving {
            before,
            ..(*pipeline.serving()).clone()
        });
    }
    any
}

/// A version that is tried by a host from its start.
pub(crate) fn begin_beside(pipeline: &Pipeline, beside: Arc<Beside>) {
    let serving = pipeline.serving();
    pipeline.switch(Serving {
        beside: Some(beside),
        ..(*serving).clone()
    });
}

/// Those that have routes that no newer one has, and the others.
fn needed(
    version: &Arc<Version>,
    older: impl Iterator<Item = Arc<Version>>,
) -> (Vec<Arc<Version>>, Vec<Arc<Version>>) {
    let (mut newer, mut over) = (vec![version.clone()], Vec::new());
    for older in older {
        match older.has_more_than(&newer) {
            true => newer.push(older),
            false => over.push(older),
        }
    }
    (newer.split_off(1), over)
}

/// What the queue should be while both versions are there.
fn together(known: Option<&QueueSpec>, new: &QueueSpec) -> QueueSpec {
    let mut both = new.clone();
    both.topics
        .extend(known.iter().flat_map(|known| known.topics.clone()));
    both.topics.sort();
    both.topics.dedup();
    both
}

/// Ends a version that nothing new is handled by.
pub(super) fn retire(version: Arc<Version>, drain: Duration) {
    version.supersede(true);
    let (gone, cut) = (version.gone(), version.cut());
    let plugin = version.access.plugin.clone();
    drop(version);
    // Bounded, and of no use to anybody once the host has ended.
    tokio::spawn(async move {
        if tokio::time::timeout(drain, gone.cancelled()).await.is_err() {
            tracing::warn!(%plugin, ?drain, "the version before still has calls that run; they are broken off, and their messages come again");
            cut.cancel();
        }
    });
}

/// Looks after the versions before.
struct Keeper {
    pipeline: Arc<Pipeline>,
    spec: Declared,
    switching: Arc<tokio::sync::Mutex<()>>,
    drain: Duration,
}

impl Keeper {
    async fn run(self, declare: bool) {
        let mut look = LOOK;
        while declare && let Some(spec) = self.spec.get() {
            match self.pipeline.backend.declare_queue(spec).await {
                Ok(_) => break,
                Err(_) => tokio::time::sleep(look).await,
            }
        }
        // Twice: events that were split before the first time was over are copies with a time of their own.
        for _ in 0..2 {
            let began_ms = clock::now_ms();
            loop {
                tokio::time::sleep(look).await;
                match self.oldest().await {
                    Waits::Nothing => return self.release().await,
                    Waits::Since(oldest_ms) if oldest_ms > began_ms + SLACK_MS => break,
                    Waits::Since(_) => {}
                    // It is asked again at the next change, and costs memory only.
                    Waits::Unknown => return,
                }
                look = (look * 2).min(SLOW_LOOK);
            }
        }
        self.release().await;
    }

    async fn oldest(&self) -> Waits {
        let overview = match self.pipeline.backend.overview().await {
            Ok(overview) => overview,
            Err(BackendError::Invalid(_) | BackendError::Closed) => return Waits::Unknown,
            Err(_) => return Waits::Since(i64::MIN),
        };
        if overview.beyond.is_some() {
            return Waits::Unknown;
        }
        let own = |status: &&QueueStatus| status.spec.name == self.pipeline.queue.name;
        match overview.queues.iter().find(own) {
            Some(status) if status.depth() > 0 => {
                Waits::Since(status.oldest_ms.unwrap_or(i64::MIN))
            }
            _ => Waits::Nothing,
        }
    }

    async fn release(&self) {
        let _switching = self.switching.lock().await;
        let serving = self.pipeline.serving();
        self.pipeline.switch(Serving {
            before: Vec::new(),
            ..(*serving).clone()
        });
        let plugin = &serving.version.access.plugin;
        tracing::info!(%plugin, "nothing waits for the version before any more");
        for older in &serving.before {
            retire(older.clone(), self.drain);
        }
    }
}

/// What a queue holds.
enum Waits {
    Nothing,
    /// Nothing that was published before then.
    Since(i64),
    /// The broker doesn't tell.
    Unknown,
}
