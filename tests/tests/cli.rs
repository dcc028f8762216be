//! The command line as a person meets it: real processes, real plugins, every word of every error.
//!
//! What a command says is compared with `tests/golden`; what a host does is checked here by asking it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure shall end the test, and what is skipped shall be said"
)]

#[path = "cli/audit.rs"]
mod audit;
#[path = "cli/configuration.rs"]
mod configuration;
#[path = "cli/demo.rs"]
mod demo;
#[path = "cli/disk.rs"]
mod disk;
#[path = "cli/files.rs"]
mod files;
#[path = "cli/help.rs"]
mod help;
#[path = "cli/hostile.rs"]
mod hostile;
#[path = "cli/messages.rs"]
mod messages;
#[path = "cli/operator.rs"]
mod operator;
#[path = "cli/plugins.rs"]
mod plugins;
#[path = "cli/rates.rs"]
mod rates;
#[path = "cli/rollout.rs"]
mod rollout;
#[path = "cli/schema.rs"]
mod schema;
#[path = "cli/stopping.rs"]
mod stopping;

use sandbar_tests::golden;
use sandbar_tests::process::{Finished, Folder};

/// Runs a command in a folder and compares everything about its end with a golden file.
fn check(name: &str, folder: &Folder, arguments: &[&str]) -> Finished {
    let finished = folder.run(arguments);
    golden::check(name, folder.path(), &finished);
    finished
}
