//! `sandbar plugins`: which versions a running host serves, and changing that.
//!
//! Asks the host through the socket in its data folder; what is asked and answered is in [`sandbar::deploy`]. How answers
//! look is in `plugins/show.rs`.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use sandbar::backend::Backend as _;
use sandbar::backend::{BackendError, LocalBackend};
use sandbar::config::{Config, Time};
use sandbar::deploy::{Answer, Question};
use sandbar::rollout::{Policy, Share};

use super::{Ended, Usage};

mod audit;
mod canary;
mod shadow;
mod show;

/// Look at the plugins of a running host, and change which versions it serves.
#[derive(Debug, Args)]
pub(super) struct Plugins {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List all plugins with their live versions
    List(Json),
    /// Show everything about a plugin
    Show(Named),
    /// Serve another component in the place of a plugin, or a new plugin; what is served now goes on if it is refused
    Deploy {
        /// The name of the plugin
        #[arg(value_name = "NAME")]
        name: String,
        /// The component
        #[arg(value_name = "FILE.wasm")]
        file: PathBuf,
        #[command(flatten)]
        trial: Trial,
        #[command(flatten)]
        json: Json,
    },
    /// Compare another version with the live one, on copies of its messages; what it makes of them is thrown away
    Shadow {
        /// The name of the plugin
        #[arg(value_name = "NAME")]
        name: String,
        /// The component [default: show what came of the one that is compared]
        #[arg(value_name = "FILE.wasm")]
        file: Option<PathBuf>,
        #[command(flatten)]
        copies: shadow::Copies,
        #[command(flatten)]
        json: Json,
    },
    /// Serve the version that is tried on a share of the messages
    Promote(Named),
    /// Serve an earlier version again; a version that is tried is withdrawn instead
    Rollback {
        /// The name of the plugin
        #[arg(value_name = "NAME")]
        name: String,
        /// The number of the version [default: the one before the live one]
        #[arg(long, value_name = "VERSION")]
        to: Option<u64>,
        #[command(flatten)]
        json: Json,
    },
    /// Let the messages of a plugin wait, also when the host is started again
    Pause(Named),
    /// Have the messages of a plugin handled again
    Resume(Named),
    /// Stop to serve a plugin until its file changes or another version is deployed; its messages wait
    Remove(Named),
    /// List the versions of a plugin, those that were refused as well
    History(Named),
    /// List everything that ever happened to plugins: who changed what, when, to which digest, and what came of it
    Audit(audit::Audit),
}

/// How a version is tried.
#[derive(Debug, Clone, Copy, Args)]
struct Trial {
    /// Try it on a share of the messages, like 10%, beside the live version: it is promoted or rolled back by what it does
    #[arg(long, value_name = "SHARE")]
    canary: Option<Share>,
    /// When it is promoted if it is no worse [default: 10m]
    #[arg(long = "for", value_name = "DURATION", requires = "canary")]
    lasts: Option<Time>,
    /// Promote it only by `sandbar plugins promote`
    #[arg(long, requires = "canary", conflicts_with = "lasts")]
    no_promote: bool,
    /// How many messages each version needs before they are compared [default: 100]
    #[arg(long, value_name = "N", requires = "canary", value_parser = clap::value_parser!(u64).range(1..))]
    min_messages: Option<u64>,
    /// How many times it may crash [default: 0]
    #[arg(long, value_name = "N", requires = "canary")]
    max_crashes: Option<u64>,
}

impl Trial {
    fn policy(self) -> Option<Policy> {
        let usual = Policy::new(self.canary?);
        let lasts = self.lasts.map(|Time(lasts)| lasts.as_millis());
        let lasts = lasts.map(|lasts| u64::try_from(lasts).unwrap_or(u64::MAX));
        Some(Policy {
            min_messages: self.min_messages.unwrap_or(usual.min_messages),
            max_crashes: self.max_crashes.unwrap_or(usual.max_crashes),
            lasts_ms: match self.no_promote {
                true => None,
                false => lasts.or(usual.lasts_ms),
            },
            ..usual
        })
    }
}

#[derive(Debug, Clone, Copy, Args)]
struct Json {
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct Named {
    /// The name of the plugin
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    json: Json,
}

impl Plugins {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<Ended> {
        if let Verb::Audit(audit) = &self.verb {
            return audit.run(config);
        }
        let (question, json) = self.verb.question()?;
        let host = connect(config).await?;
        let answer = async {
            let answer = host.ask_host(&serde_json::to_string(&question)?).await?;
            anyhow::Ok(serde_json::from_str::<Answer>(&answer)?)
        };
        let answer = answer.await;
        host.close().await;
        show::answer(&question, answer?, json.json)?;
        Ok(Ended::Done)
    }
}

impl Verb {
    fn question(self) -> anyhow::Result<(Question, Json)> {
        Ok(match self {
            Self::List(json) => (Question::List, json),
            Self::Show(Named { name, json }) => (Question::Show { name }, json),
            Self::Deploy {
                name,
                file,
                trial,
                json,
            } => {
                let (file, digest) = component(&file)?;
                let question = Question::Deploy {
                    name,
                    digest,
                    file,
                    who: who(),
                    canary: trial.policy(),
                };
                (question, json)
            }
            Self::Shadow {
                name,
                file,
                copies,
                json,
            } => (copies.question(name, file.as_deref())?, json),
            Self::Promote(Named { name, json }) => {
                let who = who();
                (Question::Promote { name, who }, json)
            }
            Self::Rollback { name, to, json } => {
                let who = who();
                (Question::Rollback { name, to, who }, json)
            }
            Self::Pause(Named { name, json }) => {
                let who = who();
                (Question::Pause { name, who }, json)
            }
            Self::Resume(Named { name, json }) => {
                let who = who();
                (Question::Resume { name, who }, json)
            }
            Self::Remove(Named { name, json }) => {
                let who = who();
                (Question::Remove { name, who }, json)
            }
            Self::History(Named { name, json }) => (Question::History { name }, json),
            Self::Audit(_) => anyhow::bail!("the audit log is a file"),
        })
    }
}

/// Where a component is from the root, and its digest.
fn component(file: &Path) -> Result<(PathBuf, String), Usage> {
    let wrong = |error: std::io::Error| Usage(format!("plugin file {}: {error}", file.display()));
    let bytes = std::fs::read(file).map_err(wrong)?;
    let digest = sandbar::guest::digest(&bytes);
    Ok((file.canonicalize().map_err(wrong)?, digest))
}

async fn connect(config: &Config) -> anyhow::Result<LocalBackend> {
    let data = &config.data.value;
    match LocalBackend::connect(data).await {
        Ok(host) => Ok(host),
        Err(BackendError::Unavailable(_)) => anyhow::bail!(
            "no host is running with data in {}; start one with `sandbar run`, or name its folder with `--data`",
            data.display()
        ),
        Err(error) => Err(error.into()),
    }
}

/// Who sits here. The socket is for one user of the system; this is for the history.
fn who() -> String {
    let named = ["SUDO_USER", "USER", "LOGNAME"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|name| !name.is_empty()));
    named.unwrap_or_else(|| format!("user {}", rustix::process::getuid().as_raw()))
}
