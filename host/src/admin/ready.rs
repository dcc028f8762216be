//! Whether a host can do its work, and why not.
//!
//! It is ready when it serves all that it is told to serve, receives for all of that, and its broker takes messages. What an
//! operator wished, and what holds up one plugin as it should, is a warning: the messages of that plugin wait.

use serde::Serialize;

use super::{Phase, Serving, Shared};
use crate::control::Host;
use crate::handler::Port;

/// How a host is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(super) struct Readiness {
    status: &'static str,
    /// Why it is not ready.
    pub(super) reasons: Vec<Finding>,
    /// What is wrong or wished without that.
    pub(super) warnings: Vec<Finding>,
}

/// Something that an operator may want to see to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What it is about: `host`, `broker`, or a plugin.
    what: String,
    /// What is the matter.
    why: String,
    /// What to do.
    remedy: String,
}

impl Readiness {
    /// Whether there is no reason why it is not.
    pub(super) fn is_ready(&self) -> bool {
        self.reasons.is_empty()
    }

    fn of(reasons: Vec<Finding>, warnings: Vec<Finding>) -> Self {
        Self {
            status: if reasons.is_empty() {
                "ready"
            } else {
                "not ready"
            },
            reasons,
            warnings,
        }
    }
}

impl Finding {
    fn new(what: impl Into<String>, why: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            what: what.into(),
            why: why.into(),
            remedy: remedy.into(),
        }
    }
}

impl Shared {
    /// How the host is at this moment.
    pub(super) async fn readiness(&self) -> Readiness {
        let (mut reasons, mut warnings) = (Vec::new(), Vec::new());
        let phase = self.phase();
        match &phase {
            Phase::Starting => reasons.push(Finding::new(
                "host",
                "it is starting, and loads its plugins or waits for its broker",
                "wait; its log says how far it is",
            )),
            Phase::Stopping(_) => reasons.push(Finding::new(
                "host",
                "it is stopping, and finishes what is being handled",
                "wait for its end, or start another one",
            )),
            Phase::Serving(_) => {}
        }
        if let (Phase::Starting | Phase::Serving(_), Some(broker)) = (&phase, self.broker())
            && let Err(why) = &*self.asked.health(&broker).await
        {
            reasons.push(Finding::new(
                "broker",
                why.clone(),
                "see to it; the host goes on by itself as soon as it takes messages again, and `sandbar doctor` looks closer",
            ));
        }
        if let Phase::Serving(serving) = &phase {
            serving.look(&mut reasons, &mut warnings);
        }
        Readiness::of(reasons, warnings)
    }
}

impl Serving {
    fn look(&self, reasons: &mut Vec<Finding>, warnings: &mut Vec<Finding>) {
        for port in self.host.ports() {
            subscription(&port, reasons, warnings);
        }
        for (name, why) in self.refusals.all() {
            let finding = Finding::new(
                plugin(&name),
                format!("not served as it is now: {why}"),
                format!("correct it; `sandbar plugins show {name}` says what is served"),
            );
            match is_served(&self.host, &name) {
                true => warnings.push(finding),
                false => reasons.push(finding),
            }
        }
    }
}

fn subscription(port: &Port, reasons: &mut Vec<Finding>, warnings: &mut Vec<Finding>) {
    let serving = port.pipeline().serving();
    let name = &serving.version.access.plugin;
    if port.paused() {
        return warnings.push(Finding::new(
            plugin(name),
            "an operator paused it, and its messages wait",
            format!("`sandbar plugins resume {name}` has them handled"),
        ));
    }
    if let Some(why) = port.trouble() {
        reasons.push(Finding::new(
            plugin(name),
            format!("nothing can be received for it: {why}"),
            "see to the broker; it is tried again all the time",
        ));
    }
    let (paused, _) = port.pipeline().breaker();
    if paused {
        warnings.push(Finding::new(
            plugin(name),
            "it keeps failing and is paused; its messages wait, and one is tried after each pause",
            "see to what it needs; the log and `sandbar dead-letters list` say why it fails",
        ));
    }
}

fn plugin(name: &str) -> String {
    format!("plugin {name}")
}

fn is_served(host: &Host, name: &str) -> bool {
    host.plugin(name).is_some()
}
