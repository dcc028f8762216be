//! `sandbar dead-letters try`: has another version of the plugin handle a dead letter, and says what would happen.
//!
//! Nothing is published, stored or removed; how that is kept is the business of [`sandbar::trial`].

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use sandbar::backend::{Effects, Outgoing};
use sandbar::config::Config;
use sandbar::guest::Engine;
use sandbar::message::Payload;
use sandbar::plugin::Loader;
use sandbar::store::{KeptLetter, Store};
use sandbar::trial::{self, Ended as TrialEnded, Trial};
use serde_json::{Value, json};

use super::super::terminal::{self, printable};
use super::super::{Ended, Usage, broker};
use super::no_such;
use super::preview::preview;

/// See what another version of the plugin would do with a dead letter.
///
/// The message is handled in a sandbox with the limits, grants and configuration of the plugin, and its state as it is
/// now. Nothing is published, stored or removed, and requests to other handlers are refused. Exit code 1 when it would
/// fail again.
#[derive(Debug, Args)]
pub(super) struct Try {
    /// The number of the dead letter
    #[arg(value_name = "ID")]
    id: u64,
    /// The component to try
    #[arg(long, value_name = "FILE.wasm")]
    plugin: PathBuf,
    /// Whose configuration and state it gets [default: the plugin that the letter was for]
    #[arg(long = "as", value_name = "NAME")]
    name: Option<String>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

impl Try {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<Ended> {
        let mut broker = broker::look(config).await?;
        let tried = self.tried(config, broker.store()).await;
        broker.close().await;
        let (kept, trials) = tried?;
        let good = trials
            .as_ref()
            .is_ok_and(|trials| trials.iter().all(|trial| trial.ended.done()));
        if self.json {
            terminal::json(&as_json(&kept, &trials, good))?;
        } else {
            terminal::data(as_text(&kept, &trials).as_bytes())?;
        }
        Ok(if good { Ended::Done } else { Ended::Failed })
    }

    async fn tried(
        &self,
        config: &Config,
        store: Arc<dyn Store>,
    ) -> anyhow::Result<(KeptLetter, Tried)> {
        let kept = store.letter(self.id).await?;
        let kept = kept.ok_or_else(|| no_such(self.id))?;
        let name = self.name.clone().or_else(|| kept.letter.plugin.clone());
        let Some(name) = name.or_else(|| plugin_of(&kept.letter.queue)) else {
            return Err(Usage(format!(
                "dead letter {} was for no plugin; say with `--as NAME` whose configuration and state to use",
                self.id
            ))
            .into());
        };
        let mut served = config.served_as(&name, &self.plugin)?;
        // Another version has another digest.
        served.spec.digest = None;
        let loader = Loader::new(Engine::with_cache(config.cache())?);
        let plugin = loader.load(served.spec).await?;
        let trials = trial::trial(&plugin, served.form, &kept, store).await;
        let trials = trials.map_err(|(reason, error)| format!("{reason}: {error}"));
        Ok((kept, trials))
    }
}

/// What came of it, or why no handler would see the message.
type Tried = Result<Vec<Trial>, String>;

/// The queue of a plugin is called `GROUP.PLUGIN`.
fn plugin_of(queue: &str) -> Option<String> {
    queue.split_once('.').map(|(_, plugin)| plugin.to_owned())
}

fn as_text(kept: &KeptLetter, trials: &Tried) -> String {
    let mut text = format!(
        "dead letter {}, which ended with {}\n",
        kept.id, kept.letter.reason
    );
    match trials {
        Err(error) => text.push_str(&format!("would fail again: {}\n", printable(error))),
        Ok(trials) => trials.iter().for_each(|trial| one(trial, &mut text)),
    }
    text.push_str("nothing was published, stored or removed\n");
    text
}

fn one(trial: &Trial, text: &mut String) {
    text.push_str(&format!("handler of {}\n", trial.route));
    let mut line = |name: &str, value: &str| {
        let value = printable(value).replace('\n', "\n            ");
        text.push_str(&format!("  {name:<9} {value}\n"));
    };
    match &trial.ended {
        TrialEnded::Done(reply) => {
            line("outcome", "done");
            if let Some(reply) = reply {
                line("reply", &summary(reply));
            }
        }
        TrialEnded::Failed(reason, error) => {
            line("outcome", &format!("would fail again: {reason}: {error}"));
        }
        TrialEnded::Retry(reason) => {
            line(
                "outcome",
                &format!("would ask for another attempt: {reason}"),
            );
        }
    }
    let Effects { publishes, state } = &trial.effects;
    for outgoing in publishes {
        let message = &outgoing.message;
        let payload = summary(&message.payload);
        line("publish", &format!("{}: {payload}", message.topic));
    }
    for (key, value) in state.iter().flat_map(|state| &state.writes) {
        match value {
            Some(value) => line("state", &format!("{key} = {}", preview(value).1)),
            None => line("state", &format!("{key} is removed")),
        }
    }
    for logged in &trial.log {
        let level = logged.level.as_str().to_ascii_lowercase();
        line("log", &format!("{level}: {}", logged.text));
    }
}

fn summary(payload: &Payload) -> String {
    let status = payload.status;
    match payload.content.len() {
        0 => format!("{status}, no content"),
        _ => format!("{status}, {}", preview(&payload.content).1),
    }
}

fn as_json(kept: &KeptLetter, trials: &Tried, good: bool) -> Value {
    let (trials, error) = match trials {
        Ok(trials) => (trials.iter().map(trial_json).collect(), None),
        Err(error) => (Vec::new(), Some(error)),
    };
    json!({ "id": kept.id, "done": good, "error": error, "handlers": trials })
}

fn trial_json(trial: &Trial) -> Value {
    let (outcome, reason, error, reply) = match &trial.ended {
        TrialEnded::Done(reply) => ("done", None, None, reply.as_ref()),
        TrialEnded::Failed(reason, error) => ("failed", Some(*reason), Some(error), None),
        TrialEnded::Retry(error) => ("retry", None, Some(error), None),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let payload = |payload: &Payload| {
        json!({
            "status": payload.status.code(),
            "content": text(&payload.content),
            "headers": payload.headers.iter().collect::<Vec<_>>(),
        })
    };
    let published = |outgoing: &Outgoing| json!({ "topic": outgoing.message.topic.as_str(), "payload": payload(&outgoing.message.payload) });
    let state = trial.effects.state.iter().flat_map(|state| &state.writes);
    let state = state.map(|(key, value)| (key.to_string(), json!(value.as_deref().map(text))));
    json!({
        "route": trial.route,
        "outcome": outcome,
        "reason": reason,
        "error": error,
        "reply": reply.map(payload),
        "publishes": trial.effects.publishes.iter().map(published).collect::<Vec<_>>(),
        "state": state.collect::<serde_json::Map<_, _>>(),
        "log": trial.log.iter().map(|line| json!({ "level": line.level.as_str(), "text": line.text })).collect::<Vec<_>>(),
    })
}
