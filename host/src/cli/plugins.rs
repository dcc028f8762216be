//! `sandbar plugins`: which versions a running host serves, and changing that.
//!
//! Asks the host through the socket in its data folder; what is asked and answered is in [`sandbar::deploy`]. How answers
//! look is in `plugins/show.rs`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use sandbar::backend::Backend as _;
use sandbar::backend::{BackendError, LocalBackend};
use sandbar::config::Config;
use sandbar::deploy::{Answer, Question};

use super::{Ended, Usage};

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
        json: Json,
    },
    /// Serve an earlier version again
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
            Self::Deploy { name, file, json } => {
                let wrong = |error: std::io::Error| {
                    Usage(format!("plugin file {}: {error}", file.display()))
                };
                let bytes = std::fs::read(&file).map_err(wrong)?;
                let question = Question::Deploy {
                    name,
                    digest: sandbar::guest::digest(&bytes),
                    file: file.canonicalize().map_err(wrong)?,
                    who: who(),
                };
                (question, json)
            }
            Self::Rollback { name, to, json } => {
                let who = who();
                (Question::Rollback { name, to, who }, json)
            }
            Self::Pause(Named { name, json }) => (Question::Pause { name }, json),
            Self::Resume(Named { name, json }) => (Question::Resume { name }, json),
            Self::Remove(Named { name, json }) => {
                let who = who();
                (Question::Remove { name, who }, json)
            }
            Self::History(Named { name, json }) => (Question::History { name }, json),
        })
    }
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
