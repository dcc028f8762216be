//! `sandbar doctor`: looks at everything that a host needs, and says what is wrong and what to do.
//!
//! One file for each kind of check below it. It changes nothing; what it opens it closes again.

use clap::{Args, ValueEnum};
use sandbar::backend::DURABILITY;
use sandbar::config::Config;
use serde::Serialize;
use serde_json::json;

use super::terminal::{self, printable};
use super::{Ended, options};

mod broker;
mod cache;
mod clock;
mod disk;
mod finding;
mod machine;
mod plugins;

use finding::{Finding, Level};

/// Check everything that a host needs.
///
/// Looks at the broker and its data, dead letters, queues, the disk, the clock, compiled components, the plugins and the
/// limits of the machine. Exit code 1 if something has to be put right.
#[derive(Debug, Args)]
pub(super) struct Doctor {
    #[command(flatten)]
    pub(super) host: options::HostOptions,
    /// Only these checks; several with commas between them
    #[arg(long, value_name = "CHECK", value_delimiter = ',')]
    only: Vec<Check>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

/// A kind of check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Check {
    /// Whether a host runs, and whether it answers
    Host,
    /// Whether the broker works, and how durable it is
    Broker,
    /// Whether dead letters wait
    DeadLetters,
    /// Whether messages wait that nobody receives
    Queues,
    /// Free space, and how fast data is flushed
    Disk,
    /// Whether the clock can be trusted
    Clock,
    /// Whether compiled components can be kept
    Cache,
    /// Whether every plugin can be loaded
    Plugins,
    /// Limits of the machine that matter
    Machine,
}

impl Check {
    fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

impl Doctor {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<Ended> {
        let wanted = |check: Check| self.only.is_empty() || self.only.contains(&check);
        let mut findings = broker::check(config).await;
        if wanted(Check::Disk) {
            findings.extend(disk::check(config).await);
        }
        if wanted(Check::Clock) {
            findings.extend(clock::check(config));
        }
        if wanted(Check::Cache) {
            findings.push(cache::check(config).await);
        }
        if wanted(Check::Plugins) {
            findings.extend(plugins::check(config).await);
        }
        if wanted(Check::Machine) {
            findings.extend(machine::check());
        }
        findings.retain(|finding| wanted(finding.check));
        let good = findings.iter().all(|it| it.level != Level::Fail);
        if self.json {
            let durability =
                DURABILITY.map(|(kind, survives)| json!({ "kind": kind, "accepted": survives }));
            terminal::json(&json!({ "ok": good, "findings": findings, "durability": durability }))?;
        } else {
            terminal::data(as_text(&findings, wanted(Check::Broker)).as_bytes())?;
        }
        Ok(if good { Ended::Done } else { Ended::Failed })
    }
}

fn as_text(findings: &[Finding], durability: bool) -> String {
    let mut text = String::new();
    for finding in findings {
        let (level, check) = (finding.level.word(), finding.check.name());
        text.push_str(&format!(
            "{level:<4}  {check:<12}  {}\n",
            printable(&finding.detail)
        ));
        if let Some(remedy) = &finding.remedy {
            text.push_str(&format!("{:<18}  → {}\n", "", printable(remedy)));
        }
    }
    if durability {
        text.push_str("what an accepted message survives, by kind of broker\n");
        for (kind, survives) in DURABILITY {
            text.push_str(&format!("      {kind:<12}  {survives}\n"));
        }
    }
    text
}
