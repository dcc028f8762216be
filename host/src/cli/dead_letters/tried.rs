//! `sandbar dead-letters try`: has a version of the plugin handle a dead letter once more, and says what would happen.
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
use sandbar::registry;
use sandbar::store::{Journal, KeptLetter, Step, Store};
use sandbar::trial::{self, Ended as TrialEnded, Run, Trial};
use serde_json::{Value, json};

use super::super::moment::moment;
use super::super::terminal::{self, printable};
use super::super::{Ended, Usage, broker};
use super::no_such;
use super::preview::preview;
use super::steps;

/// See what a version of the plugin would do with a dead letter.
///
/// The attempt that failed is run again in a sandbox: with the time, the randomness, the state and the answers that it
/// had, and with the limits, grants and configuration that the plugin has now. It is said where the version that is tried
/// goes another way than the one that failed. Nothing is published, stored or removed, and no request is sent. Exit code
/// 1 when it would fail again.
#[derive(Debug, Args)]
pub(super) struct Try {
    /// The number of the dead letter
    #[arg(value_name = "ID")]
    id: u64,
    /// The component to try [default: the version that failed, if the host keeps it]
    #[arg(long, value_name = "FILE.wasm")]
    plugin: Option<PathBuf>,
    /// Handle it as if it came now: with the time, the randomness and the state of now
    #[arg(long)]
    now: bool,
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
        let journal = trial::journal(&kept).filter(|_| !self.now);
        if self.json {
            terminal::json(&as_json(&kept, journal, &trials, good))?;
        } else {
            terminal::data(as_text(&kept, journal, &trials).as_bytes())?;
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
        let file = self.component(config, &kept)?;
        let mut served = config.served_as(&name, &file)?;
        // Another version has another digest.
        served.spec.digest = None;
        let loader = Loader::new(Engine::with(config.engine())?);
        let plugin = loader.load(served.spec).await?;
        let trials = trial::trial(&plugin, served.form, &kept, store, self.run_of()).await;
        let trials = trials.map_err(|(reason, error)| format!("{reason}: {error}"));
        Ok((kept, trials))
    }

    fn run_of(&self) -> Run {
        match self.now {
            true => Run::Now,
            false => Run::Again,
        }
    }

    fn component(&self, config: &Config, kept: &KeptLetter) -> Result<PathBuf, Usage> {
        if let Some(file) = &self.plugin {
            return Ok(file.clone());
        }
        let failed = kept.letter.digest.as_deref();
        let file = failed.and_then(|digest| registry::kept_component(&config.data.value, digest));
        file.ok_or_else(|| {
            Usage(format!(
                "the version that failed ({}) is not kept; say with `--plugin FILE.wasm` which component to try",
                failed.unwrap_or("none handled it")
            ))
        })
    }
}

/// What came of it, or why no handler would see the message.
type Tried = Result<Vec<Trial>, String>;

/// The queue of a plugin is called `GROUP.PLUGIN`.
fn plugin_of(queue: &str) -> Option<String> {
    queue.split_once('.').map(|(_, plugin)| plugin.to_owned())
}

fn as_text(kept: &KeptLetter, journal: Option<&Journal>, trials: &Tried) -> String {
    let mut text = format!(
        "dead letter {}, which ended with {}\n",
        kept.id, kept.letter.reason
    );
    text.push_str(&match journal {
        Some(journal) => format!(
            "attempt {} of {} is run again\n",
            journal.attempt,
            moment(journal.began_ms)
        ),
        None => "handled as if it came now\n".to_owned(),
    });
    match trials {
        Err(error) => text.push_str(&format!("would fail again: {}\n", printable(error))),
        Ok(trials) => trials
            .iter()
            .for_each(|trial| one(trial, journal, &mut text)),
    }
    text.push_str("nothing was published, stored or removed\n");
    text
}

fn one(trial: &Trial, journal: Option<&Journal>, text: &mut String) {
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
    let Some(journal) = journal else { return };
    let now = run_of(trial);
    match journal.parts_from(&now) {
        None => line("steps", "the same as those of the attempt that failed"),
        Some(parting) => {
            line("parts", &format!("at step {}", parting.step));
            line("then", &step(parting.then));
            line("now", &step(parting.now));
        }
    }
}

fn run_of(trial: &Trial) -> Journal {
    Journal {
        steps: trial.steps.clone(),
        ..Journal::default()
    }
}

fn step(step: Option<&Step>) -> String {
    step.map_or_else(|| "nothing more".to_owned(), steps::as_text)
}

fn summary(payload: &Payload) -> String {
    let status = payload.status;
    match payload.content.len() {
        0 => format!("{status}, no content"),
        _ => format!("{status}, {}", preview(&payload.content).1),
    }
}

fn as_json(kept: &KeptLetter, journal: Option<&Journal>, trials: &Tried, good: bool) -> Value {
    let trial_json = |trial: &Trial| trial_json(trial, journal);
    let (trials, error) = match trials {
        Ok(trials) => (trials.iter().map(trial_json).collect(), None),
        Err(error) => (Vec::new(), Some(error)),
    };
    json!({ "id": kept.id, "done": good, "again": journal.is_some(), "error": error, "handlers": trials })
}

fn trial_json(trial: &Trial, journal: Option<&Journal>) -> Value {
    let now = run_of(trial);
    let parts = journal.and_then(|journal| journal.parts_from(&now));
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
        "parts": parts,
        "steps": trial.steps,
        "publishes": trial.effects.publishes.iter().map(published).collect::<Vec<_>>(),
        "state": state.collect::<serde_json::Map<_, _>>(),
        "log": trial.log.iter().map(|line| json!({ "level": line.level.as_str(), "text": line.text })).collect::<Vec<_>>(),
    })
}
