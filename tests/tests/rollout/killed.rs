//! A host with a version that is tried is killed and started again, under load and from the command line.

use super::*;

use std::collections::HashMap;

use sandbar_tests::process::{Finished, Folder, Host as Process, finish};
use serde_json::Value;

/// Slow ones, so that some are always left at a kill.
const SENT: usize = 120;
const SLOW: (&str, &str) = ("behaves well", "behaves slow");
const KEYS: usize = 16;

fn done(folder: &Folder, arguments: &[&str]) -> Finished {
    let mut command = folder.command(arguments);
    command.env("USER", "ada");
    let finished = finish(command, b"");
    assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:?}");
    finished
}

fn json(folder: &Folder, arguments: &[&str]) -> Value {
    let finished = done(folder, &[arguments, &["--json"]].concat());
    serde_json::from_str(&finished.stdout).unwrap()
}

fn folder() -> Folder {
    let folder = Folder::new();
    folder.guest("tally", "plugins/tally.wasm");
    folder.write("two.wasm", version_of("tally", &[TWO]));
    folder.write("sandbar.toml", format!("[plugins.tally]\n{GRANTS}"));
    folder
}

fn kill(host: Process) {
    host.signal("KILL");
    assert_eq!(host.ended().code, None);
}

/// Which version handles the messages of each key; the replies of each round go somewhere else.
fn asks(folder: &Folder, round: usize) -> HashMap<usize, String> {
    let topic = |key: usize| format!("reply.{round}.{key}");
    let ask = |key: usize| {
        let (name, reply) = (format!("key {key}"), topic(key));
        let message = ["send", "tally.add", "7", "--key", &name];
        done(folder, &[&message[..], &["--reply-to", &reply]].concat());
    };
    (0..KEYS).for_each(ask);
    let reply = |key: usize| {
        let topic = topic(key);
        let wait = ["receive", &topic, "--count", "1", "--timeout", "30s"];
        let reply = done(folder, &wait).stdout;
        let two = reply.contains("version two");
        assert!(two || reply.contains("version one"), "{reply}");
        (key, if two { "two" } else { "one" }.to_owned())
    };
    (0..KEYS).map(reply).collect()
}

#[test]
fn a_trial_goes_on_after_a_kill_and_each_message_counts_once() {
    let folder = folder();
    folder.write("plugins/tally.wasm", version_of("tally", &[SLOW]));
    folder.write("two.wasm", version_of("tally", &[TWO, SLOW]));
    let mut host = folder.host::<&str>([]);
    let deploy = ["plugins", "deploy", "tally", "two.wasm"];
    let tried = ["--canary", "30%", "--no-promote"];
    let said = done(&folder, &[&deploy[..], &tried[..]].concat());
    assert!(
        said.stdout
            .contains("tally version 2 is tried on 30% of the messages"),
        "{said:?}"
    );
    std::fs::remove_file(folder.path().join("two.wasm")).unwrap();
    // Bound before anything is told.
    folder.run(["receive", "out.tally", "--count", "1", "--timeout", "1ms"]);
    let before = asks(&folder, 1);
    let asked = before.len();
    let versions: Vec<&String> = before.values().collect();
    assert!(versions.iter().any(|it| **it == "two"));
    assert!(versions.iter().any(|it| **it == "one"));
    for part in 0..3 {
        folder.send_numbers(
            "tally.add",
            part * SENT / 3..(part + 1) * SENT / 3,
            "nobody",
        );
        kill(host);
        host = folder.host::<&str>([]);
        assert!(
            host.log()
                .contains("trying a version as before, counting anew"),
            "{}",
            host.log()
        );
    }
    let began = Instant::now();
    let expected = (SENT + asked) as u64;
    let sum = || -> u64 {
        let asked = done(&folder, &["request", "tally.sum", "--timeout", "30s"]);
        asked.stdout.trim().parse().unwrap()
    };
    let counted = || -> u64 {
        let canary = &json(&folder, &["plugins", "show", "tally"])["canary"];
        let of = |side: &str| canary[side]["messages"].as_u64().unwrap();
        of("live") + of("canary")
    };
    while sum() < expected {
        assert!(
            began.elapsed() < PATIENCE,
            "{} of {expected}\n{}",
            sum(),
            host.log()
        );
    }
    assert_eq!(sum(), expected, "each counts once");
    assert!(counted() > 0, "the last kill left some");
    assert_eq!(
        asks(&folder, 2),
        before,
        "the keys are with the versions that they were with"
    );
    assert_eq!(sum(), expected + asked as u64);
    assert_eq!(json(&folder, &["dead-letters", "list"])["total"], 0);

    let status = json(&folder, &["plugins", "show", "tally"]);
    let canary = &status["canary"];
    assert_eq!(
        (&canary["share"], &canary["version"]),
        (&"30%".into(), &2.into())
    );
    assert!(canary["canary"]["messages"].as_u64().unwrap() > 0);
    let list = done(&folder, &["plugins", "list"]).stdout;
    assert!(list.contains("canary 30%"), "{list}");

    done(&folder, &["plugins", "promote", "tally"]);
    kill(host);
    let host = folder.host::<&str>([]);
    let after = asks(&folder, 3);
    assert!(after.values().all(|version| version == "two"), "{after:?}");
    assert!(!host.log().contains("trying a version"));
    done(&folder, &["plugins", "rollback", "tally"]);
    let history = json(&folder, &["plugins", "history", "tally"]);
    let results: Vec<&str> = history["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|version| version["result"].as_str().unwrap())
        .collect();
    assert_eq!(results, ["served", "served", "served"]);
}

/// A file that was put there while no host ran is another live version: nothing is tried beside that.
#[test]
fn a_trial_ends_when_another_version_is_live_at_the_start() {
    let folder = folder();
    let host = folder.host::<&str>([]);
    let deploy = ["plugins", "deploy", "tally", "two.wasm", "--canary", "30%"];
    done(&folder, &deploy);
    kill(host);
    let six = version_of("tally", &[("version one", "version six")]);
    folder.write("plugins/tally.wasm", six);
    let _host = folder.host::<&str>([]);
    let status = json(&folder, &["plugins", "show", "tally"]);
    assert_eq!(
        (&status["canary"], &status["version"]),
        (&Value::Null, &3.into())
    );
    let history = json(&folder, &["plugins", "history", "tally"]);
    let second = &history["versions"][1];
    assert_eq!(second["result"], "withdrawn");
    assert_eq!(
        second["reason"],
        "another version was live when the host was started"
    );
    let asked = done(&folder, &["request", "tally.add", "7", "--timeout", "30s"]);
    assert_eq!(asked.stdout.trim(), "version six");
}

#[test]
fn the_host_says_why_it_rolled_back_and_mistakes_are_told() {
    let folder = folder();
    let trap = version_of("tally", &[TWO, ("behaves well", "behaves trap")]);
    folder.write("trap.wasm", trap);
    let host = folder.host::<&str>([]);
    for (arguments, why) in [
        (&["--canary", "110%"][..], "is not a share"),
        (&["--for", "1m"], "--canary"),
        (&["--canary", "10%", "--min-messages", "0"], "0 is not in"),
    ] {
        let deploy = ["plugins", "deploy", "tally", "two.wasm"];
        let wrong = folder.run([&deploy[..], arguments].concat());
        assert_eq!(wrong.code, Some(64), "{wrong:?}");
        assert!(wrong.stderr.contains(why), "{wrong:?}");
    }
    let deploy = ["plugins", "deploy", "tally", "trap.wasm", "--canary", "50%"];
    done(&folder, &deploy);
    folder.send_numbers("tally.add", 0..50, "nobody");
    host.wait_until("rolled back", |log| {
        log.contains("the canary is rolled back: ")
    });
    let log = host.log();
    let line = log
        .lines()
        .find(|line| line.contains("rolled back: "))
        .unwrap();
    assert!(line.contains("crashed, and 0 of"), "{line}");
}
