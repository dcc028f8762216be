//! When a host is ready and when it is not: its broker, its disk, its plugins, its end.

use std::fs;

use sandbar_tests::disk::Small;
use sandbar_tests::golden;
use sandbar_tests::http::{Response, get, until};
use sandbar_tests::process::Folder;
use sandbar_tests::servers::postgres::Postgres;

use super::host;

/// What it says under `key` about something.
fn finding<'a>(json: &'a serde_json::Value, key: &str, what: &str) -> Option<&'a str> {
    let list = json[key].as_array().unwrap();
    list.iter().find(|it| it["what"] == what)?["why"].as_str()
}

fn status(wanted: u16) -> impl Fn(&Response) -> bool {
    move |response| response.status == wanted
}

/// D3: the disk of the embedded broker runs full under a running host, and has room again.
#[test]
fn a_full_disk_makes_it_not_ready_until_there_is_room() {
    let folder = Folder::new();
    let Some(small) = Small::mount(&folder, "small", "8m") else {
        return;
    };
    folder.guest("echo", "echo.wasm");
    let data = ["--data", "small/data"];
    let (host, address) = host(&folder, &[&["echo.wasm"], &data[..]].concat());
    assert_eq!(get(address, "/readyz", &[]).status, 200);
    let line = format!("\"{}\"\n", "x".repeat(1000));
    folder.write("lines", line.repeat(20_000));
    let sent = folder.run([&["send", "t", "--lines", "lines"], &data[..]].concat());
    assert_eq!(sent.code, Some(1), "{}", sent.stderr);

    let full = until(address, "/readyz", "not ready", status(503));
    let json = full.json();
    let why = finding(&json, "reasons", "broker").expect("the broker is the reason");
    assert!(why.contains("full"), "{why}");
    let said = format!("$ curl -s http://127.0.0.1:9464/readyz\n{}", full.body);
    golden::text("operating_readyz_full", folder.path(), &said, &[]);
    assert_eq!(get(address, "/livez", &[]).status, 200, "it lives");
    let numbers = get(address, "/metrics", &[]).body;
    for line in ["sandbar_ready 0.0", "sandbar_broker_up 0.0"] {
        assert!(numbers.lines().any(|it| it == line), "{numbers}");
    }

    small.grow();
    let well = until(address, "/readyz", "ready again", status(200));
    assert_eq!(well.json()["reasons"].as_array().map(Vec::len), Some(0));
    let asked = folder.run([&["request", "echo", "1"], &data[..]].concat());
    assert_eq!(asked.stdout, "1\n", "{}", asked.stderr);
    host.signal("TERM");
    assert_eq!(host.ended().code, Some(0));
}

/// A server that is stopped, and started again.
#[test]
fn a_database_that_is_gone_makes_it_not_ready_until_it_is_back() {
    let Some(server) = Postgres::start(&[]) else {
        return;
    };
    let folder = Folder::new();
    folder.guest("echo", "plugins/echo.wasm");
    let configuration = format!(
        "[broker]\nkind = \"postgres\"\n[broker.postgres]\nurl = \"{}\"\nschema = \"{}\"\n",
        server.url(),
        server.schema()
    );
    folder.write("sandbar.toml", configuration);
    let (_host, address) = host(&folder, &[]);
    assert_eq!(get(address, "/readyz", &[]).status, 200);
    server.stop();
    let gone = until(address, "/readyz", "without its broker", |response| {
        response.status == 503 && finding(&response.json(), "reasons", "broker").is_some()
    });
    assert!(!gone.body.contains(&server.url()), "{gone:?}");
    assert_eq!(get(address, "/livez", &[]).status, 200, "it lives");
    let numbers = get(address, "/metrics", &[]).body;
    assert!(
        numbers.lines().any(|it| it == "sandbar_broker_up 0.0"),
        "{numbers}"
    );
    server.again();
    until(address, "/readyz", "ready again", status(200));
    let asked = folder.run(["request", "echo", "1", "--timeout", "30s"]);
    assert_eq!(asked.stdout, "1\n", "{}", asked.stderr);
}

/// What was wished for one plugin, and what holds up one plugin, are warnings: its messages wait, and the others are
/// served.
#[test]
fn a_plugin_that_waits_is_a_warning_and_one_that_is_missing_a_reason() {
    let folder = Folder::new();
    folder.guest("echo", "plugins/echo.wasm");
    folder.guest("misbehave", "plugins/misbehave.wasm");
    folder.write(
        "sandbar.toml",
        "[plugins.misbehave.breaker]\nat_least = 3\nfailures = 0.5\npause = \"1h\"\n",
    );
    let (host, address) = host(&folder, &[]);
    let paused = folder.run(["plugins", "pause", "echo"]);
    assert_eq!(paused.code, Some(0), "{}", paused.stderr);
    let json = get(address, "/readyz", &[]).json();
    assert_eq!(json["status"], "ready", "{json}");
    let why = finding(&json, "warnings", "plugin echo").expect("it is a warning");
    assert!(why.contains("an operator paused it"), "{why}");

    for _ in 0..3 {
        let sent = folder.run(["send", "bad.fail", "x"]);
        assert_eq!(sent.code, Some(0), "{}", sent.stderr);
    }
    let warned = until(address, "/readyz", "a warning", |response| {
        finding(&response.json(), "warnings", "plugin misbehave").is_some()
    });
    assert_eq!(warned.status, 200, "{warned:?}");
    let said = format!("$ curl -s http://127.0.0.1:9464/readyz\n{}", warned.body);
    golden::text("operating_readyz_warnings", folder.path(), &said, &[]);
    let numbers = get(address, "/metrics", &[]).body;
    for line in [
        "sandbar_ready 1.0",
        "sandbar_warnings 2.0",
        "sandbar_plugin_paused{plugin=\"echo\"} 1.0",
        "sandbar_plugin_breaker_open{plugin=\"misbehave\"} 1.0",
        "sandbar_plugin_breaker_opened_total{plugin=\"misbehave\"} 1",
    ] {
        assert!(numbers.lines().any(|it| it == line), "{line} in {numbers}");
    }
    assert_eq!(folder.run(["plugins", "resume", "echo"]).code, Some(0));
    let json = get(address, "/readyz", &[]).json();
    assert_eq!(finding(&json, "warnings", "plugin echo"), None, "{json}");

    // A version that cannot be served leaves the one before; a plugin that never could is not served at all.
    let component = fs::read(folder.path().join("plugins/echo.wasm")).unwrap();
    folder.write("plugins/echo.wasm", "no component");
    let warned = until(address, "/readyz", "a warning", |response| {
        finding(&response.json(), "warnings", "plugin echo").is_some()
    });
    assert_eq!(warned.status, 200, "{warned:?}");
    folder.write("plugins/new.wasm", "no component either");
    let missing = until(address, "/readyz", "not ready", status(503));
    let json = missing.json();
    let why = finding(&json, "reasons", "plugin new").expect("it is the reason");
    assert!(why.contains("nothing is served"), "{why}");
    fs::remove_file(folder.path().join("plugins/new.wasm")).unwrap();
    folder.write("plugins/echo.wasm", component);
    until(address, "/readyz", "well again", |response| {
        response.status == 200 && finding(&response.json(), "warnings", "plugin echo").is_none()
    });
    drop(host);
}

/// It is asked from the first moment on, and to the end.
#[test]
fn a_host_that_stops_says_so() {
    let folder = Folder::new();
    folder.guest("misbehave", "plugins/misbehave.wasm");
    folder.write(
        "sandbar.toml",
        "grace = \"30s\"\n[plugins.misbehave.limits]\ntime = \"20s\"\n",
    );
    let (host, address) = host(&folder, &[]);
    let sent = folder.run(["send", "bad.loop", "x"]);
    assert_eq!(sent.code, Some(0), "{}", sent.stderr);
    until(address, "/metrics", "in flight", |response| {
        let busy = "sandbar_messages_in_flight{plugin=\"misbehave\"} 1.0";
        response.body.lines().any(|line| line == busy)
    });
    host.signal("TERM");
    let stopping = until(address, "/readyz", "stopping", status(503));
    let json = stopping.json();
    let why = finding(&json, "reasons", "host").expect("it is the reason");
    assert!(why.contains("stopping"), "{why}");
    assert_eq!(get(address, "/livez", &[]).status, 200);
    host.signal("TERM");
    assert_eq!(host.ended().code, Some(130));
}
