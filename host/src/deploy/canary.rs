//! Versions that are tried on a share of the messages: begun by an operator, judged while they run, promoted or withdrawn,
//! and remembered meanwhile.
//!
//! What speaks for a version and what against it is decided in [`crate::rollout`].

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;

use super::said::{Outcome, Version};
use super::{Answer, CanaryStatus, Shared, State, keep};
use crate::clock;
use crate::pipeline::Beside;
use crate::registry::{Chosen, History, Verdict};
use crate::rollout::{Judgement, Policy};

/// How often a version is judged, whatever happens.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is while calls fail. It takes microseconds, and a fast host fails many messages in a moment.
const PAUSE: Duration = Duration::from_millis(2);

impl Shared {
    /// Has a version tried.
    pub(super) async fn try_version(
        &self,
        name: &str,
        file: &Path,
        pinned: &str,
        who: &str,
        policy: Policy,
    ) -> Result<Answer, String> {
        let registry = self.registry()?;
        let mut state = self.state.lock().await;
        let served = state.config.served_as(name, file);
        let served = served.map_err(|error| error.to_string())?;
        let Some((live, _)) = self.host.plugin(name) else {
            return Err(format!(
                "{}; what is served first is deployed without `--canary`",
                self.unknown(name)
            ));
        };
        let binary = self.read_apart(&served).await?;
        if **binary.digest() != *pinned {
            return Err(format!(
                "{} has changed since it was named; deploy it again when it is finished",
                file.display()
            ));
        }
        keep(registry, file, &binary).map_err(|error| error.to_string())?;
        let tried = self.host.try_version(served, binary, policy.share).await;
        let refused = tried.as_ref().err().map(ToString::to_string);
        let written = self.write(name, |history| match &refused {
            None => history.begin_trial(pinned, &live.digest, policy, clock::now_ms(), who),
            Some(reason) => {
                let failed = Verdict::Failed(reason.clone());
                history.add(pinned, clock::now_ms(), who, failed)
            }
        });
        let number = written.unwrap_or_else(|error| {
            tracing::error!(plugin = %name, "what is tried now will be forgotten: {error}");
            None
        });
        let beside = match (tried, refused) {
            (Ok(beside), _) => beside,
            (Err(_), reason) => return Err(reason.unwrap_or_default()),
        };
        self.judge(&mut state, name, beside, policy);
        let share = policy.share;
        tracing::info!(plugin = %name, digest = %pinned, %share, "trying a version on a share of the messages");
        Ok(Answer::Tried {
            share,
            version: version(name, number, pinned),
        })
    }

    /// Promotes the version that is tried, because an operator wants it.
    pub(super) async fn promote(&self, name: &str, who: &str) -> Result<Answer, String> {
        let state = self.state.lock().await;
        if self.host.plugin(name).is_none() {
            return Err(self.unknown(name));
        }
        let beside = self.host.beside(name).ok_or_else(|| {
            format!("no version of `{name}` is tried; `sandbar plugins deploy {name} FILE --canary 10%` tries one")
        })?;
        let reason = format!("promoted by {who}");
        self.take_over(&state, name, &beside, Some(who), &reason)
            .await
    }

    /// The version that is tried is live from now on.
    async fn take_over(
        &self,
        state: &State,
        name: &str,
        beside: &Arc<Beside>,
        who: Option<&str>,
        reason: &str,
    ) -> Result<Answer, String> {
        let chosen = |digest: &str| Chosen {
            digest: Some(digest.to_owned()),
            instead_of: self.file_digest(&state.config, name),
        };
        let promoted = self.host.promote(name, beside).await;
        let plugin = promoted.map_err(|error| error.to_string())?.ok_or_else(|| {
            format!("the version of `{name}` was withdrawn meanwhile; `sandbar plugins history {name}` says why")
        })?;
        let written = self.write_by(name, who, |history| {
            history.chosen = Some(chosen(&plugin.digest));
            history.before = self.host.before(name);
            history.promote(clock::now_ms(), who)
        });
        let number = written.unwrap_or_else(|error| {
            tracing::error!(plugin = %name, "what is served now will be forgotten: {error}");
            None
        });
        let digest = &plugin.digest;
        tracing::info!(plugin = %name, %digest, "the canary is live: {reason}");
        Ok(Answer::Served {
            outcome: Outcome::Swapped,
            version: version(name, number.flatten(), digest),
        })
    }

    /// The version that is tried goes; what it handles comes to the live one.
    pub(super) async fn withdraw(
        &self,
        name: &str,
        beside: &Arc<Beside>,
        reason: &str,
    ) -> Result<Answer, String> {
        if !self.host.withdraw(name, beside).await {
            return Err(format!("no version of `{name}` is tried any more"));
        }
        let trial = self.history(name).and_then(|history| history.trial);
        let written = self.write(name, |history| history.withdraw(reason));
        if let Err(error) = written {
            tracing::error!(plugin = %name, "that it is not tried any more will be forgotten: {error}");
        }
        let (number, digest) = trial.map(|it| (it.number, it.digest)).unzip();
        let digest = digest.unwrap_or_default();
        tracing::warn!(plugin = %name, %digest, "the canary is rolled back: {reason}");
        Ok(Answer::Withdrawn(version(name, number, &digest)))
    }

    /// Goes on with what was tried when the host before ended; what could not be tried again is over.
    pub(super) async fn resume_trials(&self) {
        let mut state = self.state.lock().await;
        for plugin in self.host.plugins() {
            let name = &*plugin.name;
            let Some(trial) = self.history(name).and_then(|history| history.trial) else {
                continue;
            };
            if let Some(beside) = self.host.beside(name) {
                let share = trial.policy.share;
                tracing::info!(plugin = %name, digest = %trial.digest, %share, "trying a version as before, counting anew");
                self.judge(&mut state, name, beside, trial.policy);
                continue;
            }
            let over = |history: &mut History| {
                history.withdraw("it could not be tried any more when the host was started")
            };
            if let Err(error) = self.write(name, over) {
                tracing::error!(plugin = %name, "that nothing is tried will be forgotten: {error}");
            }
        }
    }

    /// Judges a version for as long as it is tried.
    fn judge(&self, state: &mut State, name: &str, beside: Arc<Beside>, policy: Policy) {
        let judging = judging(self.me.clone(), name.to_owned(), beside, policy);
        let task = AbortOnDropHandle::new(tokio::spawn(judging));
        state.judges.insert(name.to_owned(), task);
    }

    /// Acts on a judgement; returns whether that was the last one.
    async fn act(&self, name: &str, beside: &Arc<Beside>, judgement: Judgement) -> bool {
        let (done, reason) = match judgement {
            Judgement::Wait(_) => return false,
            Judgement::Promote(reason) => {
                let state = self.state.lock().await;
                let done = self.take_over(&state, name, beside, None, &reason).await;
                (done, reason)
            }
            Judgement::RollBack(reason) => {
                let _state = self.state.lock().await;
                (self.withdraw(name, beside, &reason).await, reason)
            }
        };
        if let Err(error) = done
            && self.host.is_tried(name, beside)
        {
            tracing::error!(plugin = %name, "{reason}, and yet it goes on as before: {error}");
            return false;
        }
        true
    }

    /// What is known of a version that is tried.
    pub(super) fn canary_status(&self, name: &str, history: &History) -> Option<CanaryStatus> {
        let beside = self.host.beside(name)?;
        let trial = history.trial.as_ref()?;
        let mut records = history.versions.iter();
        let record = records.find(|record| record.number == trial.number);
        let (live, canary) = beside.counted();
        Some(CanaryStatus {
            version: Some(trial.number),
            digest: trial.digest.clone(),
            since_ms: record.map(|record| record.at_ms),
            who: record.map(|record| record.who.clone()),
            share: beside.share(),
            live: (&live).into(),
            canary: (&canary).into(),
            verdict: match beside.judge(&trial.policy) {
                Judgement::Wait(text) => text,
                Judgement::Promote(text) => format!("is promoted: {text}"),
                Judgement::RollBack(text) => format!("is rolled back: {text}"),
            },
        })
    }
}

/// Looks at a version now and then, and when something goes wrong, until it is not tried any more.
async fn judging(shared: Weak<Shared>, name: String, beside: Arc<Beside>, policy: Policy) {
    loop {
        // Nothing may have gone wrong.
        tokio::time::timeout(LOOK, beside.news()).await.ok();
        let Some(shared) = shared.upgrade() else {
            return;
        };
        if !shared.host.is_tried(&name, &beside) {
            return;
        }
        let judgement = beside.judge(&policy);
        if shared.act(&name, &beside, judgement).await {
            return;
        }
        drop(shared);
        tokio::time::sleep(PAUSE).await;
    }
}

fn version(name: &str, number: Option<u64>, digest: &str) -> Version {
    Version {
        name: name.to_owned(),
        number,
        digest: digest.to_owned(),
    }
}
