//! What an operator asks for, done: by the host, and remembered in the registry.

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;

use super::said::{Outcome, State};
use super::{Answer, By, PluginStatus, Question, Served, Shared, Version, digest_of};
use crate::backend::local::Steward;
use crate::clock;
use crate::pipeline::Wish;
use crate::plugin::Plugin;
use crate::registry::{Chosen, History, Registry, Verdict};

#[async_trait]
impl Steward for Shared {
    async fn ask(&self, question: &str) -> String {
        let answer = match serde_json::from_str(question) {
            Ok(question) => self.ask(question).await,
            Err(error) => Answer::Refused(format!(
                "the question is not understood: {error}; use the command line of the release that runs as the host"
            )),
        };
        // Text can be made of every answer.
        serde_json::to_string(&answer).unwrap_or_default()
    }
}

impl Shared {
    pub(super) async fn ask(&self, question: Question) -> Answer {
        let answer = match question {
            Question::List => self.list(),
            Question::Show { name } => self.show(&name),
            Question::Deploy {
                name,
                file,
                digest,
                who,
                canary,
            } => {
                let (file, digest) = (&*file, &*digest);
                match canary {
                    None => self.deploy(&name, file, digest, &who).await,
                    Some(policy) => self.try_version(&name, file, digest, &who, policy).await,
                }
            }
            Question::Shadow {
                name,
                file,
                digest,
                who,
                share,
                messages,
            } => {
                let since_ms = clock::now_ms();
                let wish = Wish {
                    digest,
                    share,
                    messages,
                    since_ms,
                    who,
                };
                self.shadow(&name, &file, wish).await
            }
            Question::Compared { name } => self.compared(&name),
            Question::Unshadow { name } => self.unshadow(&name).await,
            Question::Promote { name, who } => self.promote(&name, &who).await,
            Question::Rollback { name, to, who } => self.rollback(&name, to, &who).await,
            Question::Pause { name, who } => self.pause(&name, true, &who).await,
            Question::Resume { name, who } => self.pause(&name, false, &who).await,
            Question::Remove { name, who } => self.remove(&name, &who).await,
            Question::History { name } => self.versions(&name),
        };
        answer.unwrap_or_else(Answer::Refused)
    }

    fn list(&self) -> Result<Answer, String> {
        let mut all: Vec<PluginStatus> = Vec::new();
        for plugin in self.host.plugins() {
            all.extend(self.status(&plugin));
        }
        for name in self.names() {
            if !all.iter().any(|it| it.name == name) {
                all.extend(self.removed(&name));
            }
        }
        all.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(Answer::Plugins(all))
    }

    fn show(&self, name: &str) -> Result<Answer, String> {
        let live = self.host.plugin(name);
        let status = match live {
            Some((plugin, _)) => self.status(&plugin),
            None => self.removed(name),
        };
        let status = status.ok_or_else(|| self.unknown(name))?;
        Ok(Answer::Plugin(Box::new(status)))
    }

    fn status(&self, plugin: &Arc<Plugin>) -> Option<PluginStatus> {
        let port = self.host.port(&plugin.name)?;
        let history = self.history(&plugin.name).unwrap_or_default();
        let live = history.live().filter(|live| *live.digest == *plugin.digest);
        let state = match port.trouble() {
            _ if port.paused() => State::Paused,
            Some(_) => State::Troubled,
            None => State::Serving,
        };
        let routes = plugin.routes.iter().map(|route| {
            let what = route.schedule.as_ref().map(ToString::to_string);
            (
                route.kind.to_string(),
                what.unwrap_or_else(|| route.topic.to_string()),
                route.description.clone(),
            )
        });
        Some(PluginStatus {
            name: plugin.name.to_string(),
            state,
            trouble: port.trouble(),
            version: live.map(|live| live.number),
            digest: plugin.digest.to_string(),
            since_ms: live.map(|live| live.at_ms),
            who: live.map(|live| live.who.clone()),
            file: plugin.file.display().to_string(),
            deployed: history.chosen.is_some(),
            queue: port.queue().to_string(),
            routes: routes.collect(),
            grants: plugin.grants.summary(),
            weight: Some(plugin.limits.weight),
            limits_hit: self.limits_hit(&plugin.name),
            before: port.pipeline().serving().before.len(),
            canary: self.canary_status(&plugin.name, &history).map(Box::new),
            shadow: self.shadow_status(&plugin.name).map(Box::new),
        })
    }

    fn limits_hit(&self, name: &str) -> Vec<(String, u64)> {
        let hit = self.host.limits_hit(name).into_iter();
        hit.filter(|(_, count)| *count > 0)
            .map(|(limit, count)| (limit.to_owned(), count))
            .collect()
    }

    /// A plugin that is remembered and not served.
    fn removed(&self, name: &str) -> Option<PluginStatus> {
        let history = self.history(name)?;
        let mut versions = history.versions.iter().rev();
        let tried = |verdict: &Verdict| matches!(verdict, Verdict::Tried | Verdict::Withdrawn(_));
        let last = versions.find(|record| !tried(&record.verdict))?;
        Some(PluginStatus {
            name: name.to_owned(),
            state: match last.verdict {
                Verdict::Failed(_) => State::Refused,
                _ => State::Removed,
            },
            trouble: None,
            version: Some(last.number),
            digest: last.digest.clone(),
            since_ms: Some(last.at_ms),
            who: Some(last.who.clone()),
            file: String::new(),
            deployed: false,
            queue: String::new(),
            routes: Vec::new(),
            grants: String::new(),
            weight: None,
            limits_hit: self.limits_hit(name),
            before: 0,
            canary: None,
            shadow: None,
        })
    }

    async fn deploy(
        &self,
        name: &str,
        file: &Path,
        pinned: &str,
        who: &str,
    ) -> Result<Answer, String> {
        self.registry()?;
        let state = self.state.lock().await;
        let served = state.config.served_as(name, file);
        let served = served.map_err(|error| error.to_string())?;
        let binary = self.read_apart(&served).await?;
        if **binary.digest() != *pinned {
            return Err(format!(
                "{} has changed since it was named; deploy it again when it is finished",
                file.display()
            ));
        }
        let instead_of = self.file_digest(&state.config, name);
        let chosen = Chosen {
            digest: Some(pinned.to_owned()),
            instead_of,
        };
        let mut by = By {
            who,
            patient: false,
        };
        let choose = |history: &mut History| history.chosen = Some(chosen);
        if self.host.plugin(name).is_none() && self.history(name) == Some(History::default()) {
            // A name that was misspelt leaves nothing behind.
            by.patient = true;
        }
        let served = self.serve(served, binary, by, choose).await;
        self.answer(name, served)
    }

    async fn rollback(&self, name: &str, to: Option<u64>, who: &str) -> Result<Answer, String> {
        let registry = self.registry()?;
        let state = self.state.lock().await;
        let history = registry.read(name).map_err(|error| error.to_string())?;
        if history.versions.is_empty() {
            return Err(self.unknown(name));
        }
        if to.is_none()
            && let Some(beside) = self.host.beside(name)
        {
            let reason = format!("rolled back by {who}");
            return self.withdraw(name, &beside, &reason).await;
        }
        let target = match to {
            Some(number) => history.numbered(number).ok_or_else(|| {
                format!("no version {number} of `{name}` was served and is kept; `sandbar plugins history {name}` shows those that there are")
            })?,
            None => history.before().ok_or_else(|| {
                format!("no version before the live one of `{name}` is kept; `sandbar plugins history {name}` shows those that there are")
            })?,
        };
        let file = registry.component(&target.digest);
        let served = state.config.served_as(name, &file);
        let served = served.map_err(|error| error.to_string())?;
        let binary = self.read_apart(&served).await?;
        if **binary.digest() != *target.digest {
            return Err(format!(
                "{} is not what was kept; the disk or somebody has changed it",
                file.display()
            ));
        }
        let chosen = Chosen {
            digest: Some(target.digest.clone()),
            instead_of: self.file_digest(&state.config, name),
        };
        let (number, by) = (
            target.back_to.unwrap_or(target.number),
            By {
                who,
                patient: false,
            },
        );
        let choose = |history: &mut History| {
            history.chosen = Some(chosen);
            let live = history.live().map(|live| live.number);
            let mut versions = history.versions.iter_mut();
            if let Some(live) = versions.find(|it| Some(it.number) == live)
                && live.number != number
            {
                live.back_to = Some(number);
            }
        };
        let served = self.serve(served, binary, by, choose).await;
        self.answer(name, served)
    }

    fn answer(&self, name: &str, served: Served) -> Result<Answer, String> {
        let outcome = Outcome::of(served.outcome)?;
        let version = Version {
            name: name.to_owned(),
            number: served.number,
            digest: served.digest,
        };
        tracing::info!(plugin = %name, digest = %version.digest, "serving a version that was asked for");
        Ok(Answer::Served { outcome, version })
    }

    async fn pause(&self, name: &str, pause: bool, who: &str) -> Result<Answer, String> {
        let _state = self.state.lock().await;
        if !self.host.pause(name, pause) {
            return Err(self.unknown(name));
        }
        let written = self.write_by(name, Some(who), |history| history.paused = pause);
        written.map_err(|error| format!("it is so until the host ends: {error}"))?;
        Ok(Answer::Paused(pause))
    }

    async fn remove(&self, name: &str, who: &str) -> Result<Answer, String> {
        self.registry()?;
        let state = self.state.lock().await;
        let Some((plugin, _)) = self.host.plugin(name) else {
            return Err(self.unknown(name));
        };
        let chosen = Chosen {
            digest: None,
            instead_of: self.file_digest(&state.config, name),
        };
        let drained = self.host.remove(name, state.config.grace.value).await;
        let written = self.write(name, |history| {
            // Without a file there is nothing that would bring it back.
            history.chosen = chosen.instead_of.is_some().then_some(chosen);
            history.paused = false;
            history.withdraw("the plugin was removed");
            history.add(&plugin.digest, clock::now_ms(), who, Verdict::Removed)
        });
        written
            .map_err(|error| format!("it is removed until the host is started again: {error}"))?;
        let drained = drained.unwrap_or(true);
        Ok(Answer::Removed { drained })
    }

    fn versions(&self, name: &str) -> Result<Answer, String> {
        let history = self.registry()?.read(name);
        let mut versions = history.map_err(|error| error.to_string())?.versions;
        if versions.is_empty() {
            return Err(self.unknown(name));
        }
        versions.reverse();
        Ok(Answer::History(versions))
    }

    pub(super) fn registry(&self) -> Result<&Registry, String> {
        self.registry.as_ref().ok_or_else(|| {
            "this host keeps no versions, because another host keeps its own in the data folder; give each a folder of its \
             own with `--data`"
                .to_owned()
        })
    }

    /// The digest of the file in whose place something is deployed.
    pub(super) fn file_digest(&self, config: &crate::config::Config, name: &str) -> Option<String> {
        let (described, _) = config.served_now(&self.origin.files);
        let file = described.into_iter().find(|it| it.spec.name == name)?;
        digest_of(&file.spec.file)
    }

    fn names(&self) -> Vec<String> {
        let registry = self.registry.as_ref();
        registry
            .and_then(|registry| registry.names().ok())
            .unwrap_or_default()
    }

    pub(super) fn unknown(&self, name: &str) -> String {
        let mut known: Vec<String> = self
            .host
            .plugins()
            .iter()
            .map(|it| it.name.to_string())
            .collect();
        known.extend(self.names());
        known.sort();
        known.dedup();
        match crate::config::nearest(name, known.iter().map(String::as_str)) {
            Some(near) => format!("there is no plugin `{name}`; did you mean `{near}`?"),
            None if known.is_empty() => {
                format!("there is no plugin `{name}`; there is none at all")
            }
            None => format!(
                "there is no plugin `{name}`; there are {}",
                known.join(", ")
            ),
        }
    }
}
