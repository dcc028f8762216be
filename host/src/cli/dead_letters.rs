//! `sandbar dead-letters`: messages that ended badly, and what to do about them.
//!
//! One file for each verb below it. They work on a running host through its socket, and on its folder when there is none.

use clap::{Args, Subcommand};
use sandbar::config::Config;

use super::Ended;

mod bulk;
mod filter;
mod list;
mod preview;
mod report;
mod show;
mod steps;
mod tried;

/// Look at messages that could not be handled, and send them again.
#[derive(Debug, Args)]
pub(super) struct DeadLetters {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    List(list::List),
    Show(show::Show),
    Replay(bulk::Replay),
    Purge(bulk::Purge),
    Try(tried::Try),
}

impl DeadLetters {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<Ended> {
        match self.verb {
            Verb::List(list) => list.run(config).await,
            Verb::Show(show) => show.run(config).await,
            Verb::Replay(replay) => replay.run(config).await,
            Verb::Purge(purge) => purge.run(config).await,
            Verb::Try(tried) => tried.run(config).await,
        }
    }
}

/// What is said of a number that no dead letter has.
fn no_such(id: u64) -> anyhow::Error {
    anyhow::anyhow!(
        "there is no dead letter {id}; `sandbar dead-letters list` shows those that there are"
    )
}
