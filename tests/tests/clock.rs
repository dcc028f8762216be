//! T1: the clock on the wall is set while a host runs. What is due in a while is due in that while, no sooner and no later,
//! and nothing is removed as old.
//!
//! A real host under `libfaketime`, which lets the test set the time of one process; the clock that nobody sets is left
//! alone. Leases of hosts that stood still are in `postgres.rs` and `supervision.rs`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sandbar_tests::process::{Folder, Host};
use sandbar_tests::servers::skipped;
use tokio::time::Instant;

const HOUR: i64 = 60 * 60;
const LATER: Duration = Duration::from_secs(3);

/// The library, if it is there.
fn library() -> Option<PathBuf> {
    let found = glob_one("/usr/lib", "faketime/libfaketimeMT.so.1");
    if found.is_none() {
        skipped("libfaketime is not installed; install the package faketime");
    }
    found
}

/// Debian keeps it in a folder of the architecture.
fn glob_one(base: &str, rest: &str) -> Option<PathBuf> {
    let folders = std::fs::read_dir(base).ok()?;
    let mut found = folders.filter_map(|entry| Some(entry.ok()?.path().join(rest)));
    found.find(|path| path.exists())
}

/// Sets the clock of the host to so many seconds from the real one.
fn set(clock: &Path, seconds: i64) {
    let next = clock.with_extension("next");
    std::fs::write(&next, format!("{seconds:+}")).unwrap();
    std::fs::rename(next, clock).unwrap();
}

/// A host whose clock the test sets.
fn host(folder: &Folder, library: &Path) -> (Host, PathBuf) {
    let clock = folder.write("clock", "+0");
    let mut command = folder.command(["run", "--log", "info"]);
    command
        .env("LD_PRELOAD", library)
        .env("FAKETIME_TIMESTAMP_FILE", &clock)
        .env("FAKETIME_NO_CACHE", "1")
        .env("FAKETIME_DONT_FAKE_MONOTONIC", "1")
        .env("DONT_FAKE_MONOTONIC", "1");
    (Host::start(command), clock)
}

fn ok(folder: &Folder, arguments: &[&str]) -> String {
    let done = folder.run(arguments);
    assert_eq!(done.code, Some(0), "{arguments:?}: {}", done.stderr);
    done.stdout
}

#[test]
fn a_delay_is_as_long_as_it_was_meant_wherever_the_clock_is_set() {
    let Some(library) = library() else { return };
    let folder = Folder::new();
    folder.guest("echo", "plugins/echo.wasm");
    folder.write("sandbar.toml", "");
    let (host, clock) = host(&folder, &library);
    for seconds in [HOUR, -HOUR, 0, 400 * 24 * HOUR, -400 * 24 * HOUR] {
        let began = Instant::now();
        let delay = format!("{}s", LATER.as_secs());
        ok(
            &folder,
            &[
                "send",
                "echo",
                "hello",
                "--delay",
                &delay,
                "--reply-to",
                "out",
            ],
        );
        set(&clock, seconds);
        let got = ok(
            &folder,
            &["receive", "out", "--count", "1", "--timeout", "60s"],
        );
        let took = began.elapsed();
        println!("{seconds:+} s: after {took:?}");
        assert!(got.contains("hello"), "{got}");
        assert!(took >= LATER, "{seconds:+} s made it early: {took:?}");
        assert!(took < LATER * 10, "{seconds:+} s made it late: {took:?}");
    }
    host.signal("TERM");
    let ended = host.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn a_clock_that_is_set_forwards_removes_no_dead_letter() {
    let Some(library) = library() else { return };
    let folder = Folder::new();
    folder.guest("misbehave", "plugins/misbehave.wasm");
    folder.write(
        "sandbar.toml",
        "[dead_letters]\nkeep = \"1h\"\nmost = 100\n[plugins.misbehave.retry]\nmax_attempts = 1\n",
    );
    let (host, clock) = host(&folder, &library);
    let letters = |most: u64| {
        let found = ok(&folder, &["dead-letters", "list", "--json"]);
        let found: serde_json::Value = serde_json::from_str(&found).unwrap();
        let count = found["letters"].as_array().unwrap().len() as u64;
        assert!(count <= most, "{found}");
        (count, found)
    };
    let bad = |expected: u64| {
        ok(&folder, &["send", "bad.trap", &expected.to_string()]);
        let began = Instant::now();
        while letters(expected).0 < expected {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "letter {expected} never came"
            );
        }
    };
    bad(1);
    set(&clock, 48 * HOUR);
    // Each of these makes the host look for old ones: it does so after every hundredth part of the most.
    for number in 2..=8 {
        bad(number);
    }
    let (count, found) = letters(8);
    assert_eq!(count, 8, "the first one is still there");
    // The host believed that it was the day after tomorrow.
    let letters = found["letters"].as_array().unwrap().iter();
    let days: std::collections::BTreeSet<&str> = letters
        .map(|letter| &letter["ended"].as_str().unwrap()[..10])
        .collect();
    assert_eq!(days.len(), 2, "{found}");
    drop(host);
}
