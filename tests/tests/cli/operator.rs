//! A host that was mistreated, and its operator: what the verbs say then is in `docs/operating.md`, to the letter.
//!
//! One story, told in sessions; each is a golden file, and the manual quotes each of them.

use std::fs;

use sandbar_tests::disk::Small;
use sandbar_tests::golden;
use sandbar_tests::process::{Finished, Folder, Host};

/// What every golden file of the story begins with.
const PREFIX: &str = "operating_";

/// Runs a command; its name makes it a session of the manual.
fn session(name: &str, folder: &Folder, arguments: &[&str]) -> Finished {
    let finished = folder.run(arguments);
    golden::session(
        &format!("{PREFIX}{name}"),
        folder.path(),
        arguments,
        &finished,
    );
    finished
}

/// Sends a message and waits until the host has given it up.
fn spoil(folder: &Folder, host: &Host, arguments: &[&str]) {
    let before = letters(folder);
    let sent = folder.run([&["send"], arguments].concat());
    assert_eq!(sent.code, Some(0), "{}", sent.stderr);
    host.wait_for("kept as a dead letter");
    // It is said when it is decided; the letter is there once it is on disk.
    let buried = (0..100).any(|_| letters(folder) > before);
    assert!(buried, "there is no letter of {arguments:?}");
}

/// How many dead letters there are.
fn letters(folder: &Folder) -> u64 {
    let listed = folder.run(["dead-letters", "list", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
    listed["total"].as_u64().unwrap()
}

const CONFIG: &str = r#"[plugins.misbehave]
state = true
publish = ["out.>"]
[plugins.misbehave.limits]
time = "300ms"
[plugins.misbehave.retry]
max_attempts = 3
initial = "1ms"
[plugins.echo]
wire = "json"
"#;

#[test]
fn an_operator_finds_out_and_puts_it_right() {
    let folder = Folder::new();
    for plugin in ["echo", "misbehave"] {
        folder.guest(plugin, &format!("plugins/{plugin}.wasm"));
    }
    folder.write("sandbar.toml", CONFIG);
    let host = folder.host::<&str>([]);
    spoil(&folder, &host, &["bad.fail", "no such account"]);
    spoil(&folder, &host, &["bad.trap", "a bug"]);
    spoil(
        &folder,
        &host,
        &["bad.loop", "{\"forever\":true}", "--key", "k"],
    );
    spoil(&folder, &host, &["bad.status", "not a number"]);
    spoil(
        &folder,
        &host,
        &["echo", "{\"amount\":1.50,\"to\":\"Ada\"}"],
    );

    let doctor = ["doctor", "--only", "host,broker,dead-letters,queues"];
    assert_eq!(session("doctor", &folder, &doctor).code, Some(0));
    session("list", &folder, &["dead-letters", "list"]);
    let filtered = [
        "dead-letters",
        "list",
        "--reason",
        "trap",
        "--topic",
        "bad.*",
    ];
    session("list_filtered", &folder, &filtered);
    session("show", &folder, &["dead-letters", "show", "2"]);
    let looped = folder.run(["dead-letters", "show", "3"]);
    assert!(
        looped.stdout.contains("misbehave::hog::spin"),
        "{}",
        looped.stdout
    );
    let content = folder.run(["dead-letters", "show", "5", "--content", "-"]);
    assert_eq!(content.stdout, "{\"amount\":1.50,\"to\":\"Ada\"}");

    // Whatever happens to the host, they are there.
    host.signal("KILL");
    assert_eq!(host.ended().code, None);
    assert_eq!(letters(&folder), 5);
    for text in ["1", "2"] {
        assert_eq!(folder.run(["send", "bad.status", text]).code, Some(0));
    }
    session("queues", &folder, &["queues", "list"]);
    session("queue", &folder, &["queues", "show", "sandbar.misbehave"]);
    let purge = ["queues", "purge", "sandbar.misbehave", "--dry-run"];
    session("queue_purge", &folder, &purge);

    // The configuration was wrong, not the message; the other one is a bug.
    folder.write("sandbar.toml", CONFIG.replace("\"json\"", "\"native\""));
    let tried = ["dead-letters", "try", "5", "--plugin", "plugins/echo.wasm"];
    assert_eq!(session("try", &folder, &tried).code, Some(0));
    let tried = ["dead-letters", "try", "2"];
    assert_eq!(session("try_fails", &folder, &tried).code, Some(1));

    let host = folder.host::<&str>([]);
    let nothing = ["dead-letters", "replay"];
    assert_eq!(session("replay_nothing", &folder, &nothing).code, Some(64));
    let replay = [
        "dead-letters",
        "replay",
        "--plugin",
        "misbehave",
        "--dry-run",
    ];
    session("replay_dry", &folder, &replay);
    let replay = ["dead-letters", "replay", "5"];
    assert_eq!(session("replay", &folder, &replay).code, Some(0));
    let purge = ["dead-letters", "purge", "--reason", "trap"];
    assert_eq!(session("purge", &folder, &purge).code, Some(0));
    let gone = ["dead-letters", "purge", "2"];
    assert_eq!(session("purge_gone", &folder, &gone).code, Some(1));
    let left = folder.run(["dead-letters", "list", "--json"]);
    let left: serde_json::Value = serde_json::from_str(&left.stdout).unwrap();
    let ids: Vec<u64> = left["letters"]
        .as_array()
        .unwrap()
        .iter()
        .map(|letter| letter["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids, [4, 3, 1]);
    drop(host);
}

#[test]
fn every_list_is_data_for_programs_too() {
    let folder = Folder::new();
    folder.guest("misbehave", "misbehave.wasm");
    let host = folder.host(["misbehave.wasm"]);
    for number in 0..5 {
        spoil(
            &folder,
            &host,
            &["bad.fail", &format!("{{\"n\":{number}}}")],
        );
    }
    let json = |arguments: &[&str]| -> serde_json::Value {
        let finished = folder.run(arguments);
        serde_json::from_str(&finished.stdout).unwrap_or_else(|_| panic!("{finished:?}"))
    };
    let first = json(&["dead-letters", "list", "--limit", "3", "--json"]);
    assert_eq!((&first["total"], &first["next"]), (&5.into(), &3.into()));
    let second = json(&["dead-letters", "list", "--before", "3", "--json"]);
    assert_eq!(second["letters"].as_array().unwrap().len(), 2);
    assert!(second["next"].is_null());

    let shown = json(&["dead-letters", "show", "1", "--json"]);
    assert_eq!(shown["message"]["content"]["n"], 0);
    assert_eq!(shown["history"][0]["error"], "{\"n\":0}");
    assert_eq!(shown["queue"], "sandbar.misbehave");
    assert_eq!(shown["report"]["used"][0]["limit"], "time");
    assert_eq!(shown["report"]["journal"]["attempt"], 1);

    let tried = json(&[
        "dead-letters",
        "try",
        "1",
        "--plugin",
        "misbehave.wasm",
        "--json",
    ]);
    assert_eq!(tried["done"], false);
    assert_eq!(tried["handlers"][0]["reason"], "failed");
    assert_eq!(tried["again"], true);
    assert!(tried["handlers"][0]["parts"].is_null());

    let queue = json(&["queues", "show", "sandbar.misbehave", "--json"]);
    assert_eq!(
        (&queue["depth"], &queue["group"]),
        (&0.into(), &"sandbar".into())
    );
    let queues = json(&["queues", "list", "--json"]);
    assert!(queues["queues"].as_array().unwrap().contains(&queue));

    let replayed = json(&[
        "dead-letters",
        "replay",
        "--all",
        "--to-topic=elsewhere",
        "--json",
    ]);
    assert_eq!(
        (&replayed["done"], &replayed["selected"]),
        (&5.into(), &5.into())
    );
    let received = folder.run(["receive", "elsewhere", "--count", "5", "--timeout", "20s"]);
    assert_eq!(received.stdout.lines().count(), 5, "{}", received.stderr);

    let doctor = json(&["doctor", "--json"]);
    let checks: Vec<&str> = doctor["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|finding| finding["check"].as_str().unwrap())
        .collect();
    for check in [
        "host",
        "broker",
        "dead-letters",
        "queues",
        "disk",
        "clock",
        "machine",
    ] {
        assert!(checks.contains(&check), "{check} is not in {checks:?}");
    }
    assert_eq!(doctor["durability"][0]["kind"], "embedded");
}

#[test]
fn the_doctor_finds_what_is_broken() {
    let folder = Folder::new();
    let nothing = [
        "doctor",
        "--only",
        "host,broker,dead-letters,queues,plugins",
    ];
    assert_eq!(session("doctor_empty", &folder, &nothing).code, Some(0));
    assert!(
        !folder.path().join("sandbar-data").exists(),
        "it only looks"
    );
    for verb in [&["dead-letters", "list"][..], &["queues", "list"]] {
        let finished = folder.run(verb);
        assert_eq!(finished.code, Some(1));
        assert!(
            finished.stderr.contains("there is no data in"),
            "{finished:?}"
        );
    }

    folder.write("plugins/broken.wasm", "this is no component");
    folder.guest("echo", "plugins/echo.wasm");
    let plugins = ["doctor", "--only", "plugins"];
    assert_eq!(session("doctor_plugins", &folder, &plugins).code, Some(1));
    folder.write("sandbar-data/sandbar.db", "this is no database");
    let broken = ["doctor", "--only", "host,broker"];
    assert_eq!(session("doctor_broken", &folder, &broken).code, Some(1));
}

/// A database that is gone under a running host, and back.
#[test]
fn the_doctor_sees_a_database_go_and_come_back() {
    let folder = Folder::new();
    folder.guest("echo", "echo.wasm");
    let _host = folder.host(["echo.wasm"]);
    let doctor = ["doctor", "--only", "broker"];
    let data = folder.path().join("sandbar-data");
    // The verbs look for it before they ask anybody.
    fs::copy(data.join("sandbar.db"), data.join("copy")).unwrap();
    fs::rename(data.join("sandbar.db"), data.join("away")).unwrap();
    fs::rename(data.join("copy"), data.join("sandbar.db")).unwrap();
    assert_eq!(session("doctor_gone", &folder, &doctor).code, Some(1));
    fs::rename(data.join("away"), data.join("sandbar.db")).unwrap();
    assert_eq!(folder.run(doctor).code, Some(0));
}

/// A disk that is full under a running host, and has room again.
#[test]
fn the_doctor_sees_a_disk_fill_and_get_room() {
    let folder = Folder::new();
    let Some(small) = Small::mount(&folder, "small", "8m") else {
        return;
    };
    folder.guest("echo", "echo.wasm");
    let data = ["--data", "small/data"];
    let host = folder.host([&["echo.wasm"], &data[..]].concat());
    let line = format!("\"{}\"\n", "x".repeat(1000));
    folder.write("lines", line.repeat(20_000));
    let sent = folder.run([&["send", "t", "--lines", "lines"], &data[..]].concat());
    assert_eq!(sent.code, Some(1), "{}", sent.stderr);
    let doctor = [&["doctor", "--only", "broker"], &data[..]].concat();
    assert_eq!(session("doctor_full", &folder, &doctor).code, Some(1));
    small.grow();
    // The host takes messages again by itself, without a word from anybody.
    let well = folder.run(&doctor);
    assert_eq!(well.code, Some(0), "{}", well.stdout);
    let sent = folder.run([&["send", "t", "again"], &data[..]].concat());
    assert_eq!(sent.code, Some(0), "{}", sent.stderr);
    // It is the same one, and it never stopped to serve.
    let asked = folder.run([&["request", "echo", "1"], &data[..]].concat());
    assert_eq!(asked.stdout, "1\n", "{}", asked.stderr);
    host.signal("TERM");
    assert_eq!(host.ended().code, Some(0));
}

/// The manual quotes every session, to the letter.
#[test]
fn the_manual_quotes_what_is_said() {
    golden::quoted("docs/operating.md", PREFIX);
}
