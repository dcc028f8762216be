//! Files that change under a host, in every way in which files change, and operators who say what is served instead: real
//! processes and real files.
//!
//! How a version takes the place of another is tested in `reload.rs`.

use std::fs;
use std::path::Path;
use std::time::Duration;

use sandbar_tests::guests::version;
use sandbar_tests::process::{Finished, Folder, Host};
use serde_json::Value;
use tokio::time::Instant;

#[path = "reload_files/brokers.rs"]
mod brokers;
#[path = "reload_files/chosen.rs"]
mod chosen;
#[path = "reload_files/written.rs"]
mod written;

const CONFIG: &str = "[plugins.swap]\nstate = true\npublish = [\"out.>\"]\n";
/// What makes other versions of the first.
const TWO: (&str, &str) = ("version one", "version two");
const SIX: (&str, &str) = ("version one", "version six");
/// Longer than anything may take on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with the first version in its folder of plugins.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.write("plugins/swap.wasm", version(&[]));
    folder.write("two.wasm", version(&[TWO]));
    folder.write("sandbar.toml", CONFIG);
    folder
}

/// Runs a verb, and has it done.
fn done(folder: &Folder, arguments: &[&str]) -> Finished {
    let mut command = folder.command(arguments);
    command.env("USER", "ada");
    let finished = sandbar_tests::process::finish(command, b"");
    assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:?}");
    finished
}

fn json(folder: &Folder, arguments: &[&str]) -> Value {
    let finished = done(folder, &[arguments, &["--json"]].concat());
    serde_json::from_str(&finished.stdout).unwrap()
}

fn asks(folder: &Folder) -> String {
    let asked = folder.run(["request", "swap.ask", "--timeout", "30s"]);
    asked.stdout.trim().to_owned()
}

/// Waits until that version answers.
fn comes(folder: &Folder, host: &Host, expected: &str) {
    let began = Instant::now();
    while asks(folder) != expected {
        assert!(
            began.elapsed() < PATIENCE,
            "{expected} never came; the host said:\n{}",
            host.log()
        );
    }
}

/// What became of the versions, the oldest first.
fn history(folder: &Folder, name: &str) -> Vec<(String, String, String)> {
    let history = json(folder, &["plugins", "history", name]);
    let versions = history["versions"].as_array().unwrap().iter().rev();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    versions
        .map(|it| (text(&it["by"]), text(&it["result"]), text(&it["digest"])))
        .collect()
}

fn digest(bytes: &[u8]) -> String {
    sandbar::guest::digest(bytes)
}

/// Puts a file into the place of another one, as `mv` and most editors do.
fn renamed(folder: &Folder, name: &str, content: &[u8]) {
    let beside = folder.write(&format!("{name}.tmp"), content);
    fs::rename(beside, folder.path().join(name)).unwrap();
}

fn link(to: impl AsRef<Path>, at: &Path) {
    std::os::unix::fs::symlink(to, at).unwrap();
}
