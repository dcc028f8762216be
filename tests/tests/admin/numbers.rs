//! The numbers: what they are called, and that they agree with what happened.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;

use sandbar::telemetry::{METRICS, Sort};
use sandbar_tests::http::{get, until};
use sandbar_tests::process::Folder;

use super::host;

/// The lines with a number, by what is before it.
fn numbers(text: &str) -> BTreeMap<String, f64> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let parsed = lines.map(|line| {
        let (name, value) = line.rsplit_once(' ').unwrap();
        (name.to_owned(), value.parse().unwrap())
    });
    parsed.collect()
}

fn asked(address: SocketAddr) -> BTreeMap<String, f64> {
    numbers(&get(address, "/metrics", &[]).body)
}

/// What is added to the name of a metric in the output.
fn written(sort: Sort) -> &'static [&'static str] {
    match sort {
        Sort::Counter => &["_total"],
        Sort::Gauge => &[""],
        Sort::Histogram => &["_bucket", "_sum", "_count"],
    }
}

const CONFIG: &str = r#"
[plugins.misbehave]
state = true
publish = ["out.>"]
[plugins.misbehave.retry]
max_attempts = 3
initial = "1ms"
[plugins.misbehave.breaker]
enabled = false
"#;

#[test]
fn they_agree_with_a_run_that_is_known() {
    let folder = Folder::new();
    folder.guest("echo", "plugins/echo.wasm");
    folder.guest("misbehave", "plugins/misbehave.wasm");
    folder.write("sandbar.toml", CONFIG);
    let (host, address) = host(&folder, &[]);
    folder.send_numbers("echo", 0..200, "nobody.listens");
    // Who asks is told; who does not, leaves a dead letter.
    assert_ne!(folder.run(["request", "bad.reject", "x"]).code, Some(0));
    for (topic, content, count) in [
        ("bad.reject", "", 2),
        ("bad.fail", "", 3),
        ("bad.trap", "", 1),
        ("bad.publish-forbidden", "", 1),
        // More lines than it may log, twice.
        ("bad.log-flood", "1000", 2),
    ] {
        for _ in 0..count {
            let sent = folder.run(["send", topic, content]);
            assert_eq!(sent.code, Some(0), "{}", sent.stderr);
        }
    }
    let expected = [
        (
            "sandbar_messages_total{plugin=\"echo\",outcome=\"done\"}",
            200.0,
        ),
        (
            "sandbar_messages_total{plugin=\"echo\",outcome=\"retried\"}",
            0.0,
        ),
        (
            "sandbar_call_duration_seconds_count{plugin=\"echo\"}",
            200.0,
        ),
        (
            "sandbar_messages_total{plugin=\"misbehave\",outcome=\"done\"}",
            2.0,
        ),
        (
            "sandbar_plugin_limit_hits_total{plugin=\"misbehave\",limit=\"log_lines\"}",
            2.0,
        ),
        (
            "sandbar_plugin_refusals_total{plugin=\"misbehave\",grant=\"publish\"}",
            1.0,
        ),
        (
            "sandbar_plugin_refusals_total{plugin=\"misbehave\",grant=\"state\"}",
            0.0,
        ),
        (
            "sandbar_messages_total{plugin=\"misbehave\",outcome=\"rejected\"}",
            1.0,
        ),
        (
            "sandbar_messages_total{plugin=\"misbehave\",outcome=\"dead-letter\"}",
            7.0,
        ),
        (
            "sandbar_messages_total{plugin=\"misbehave\",outcome=\"retried\"}",
            2.0,
        ),
        (
            "sandbar_retries_total{plugin=\"misbehave\",reason=\"trap\"}",
            2.0,
        ),
        (
            "sandbar_dead_letters_total{plugin=\"misbehave\",reason=\"rejected\"}",
            2.0,
        ),
        (
            "sandbar_dead_letters_total{plugin=\"misbehave\",reason=\"failed\"}",
            3.0,
        ),
        (
            "sandbar_dead_letters_total{plugin=\"misbehave\",reason=\"trap\"}",
            1.0,
        ),
        (
            "sandbar_dead_letters_total{plugin=\"misbehave\",reason=\"forbidden\"}",
            1.0,
        ),
        ("sandbar_dead_letters_waiting{reason=\"failed\"}", 3.0),
        (
            "sandbar_call_duration_seconds_count{plugin=\"misbehave\"}",
            12.0,
        ),
        (
            "sandbar_unsettled_total{plugin=\"echo\",error=\"conflict\"}",
            0.0,
        ),
        ("sandbar_messages_in_flight{plugin=\"echo\"}", 0.0),
        (
            "sandbar_queue_messages{queue=\"sandbar.echo\",state=\"ready\"}",
            0.0,
        ),
        ("sandbar_queue_oldest_seconds{queue=\"sandbar.echo\"}", 0.0),
        ("sandbar_topics_kept_messages", 200.0),
        ("sandbar_plugin_paused{plugin=\"echo\"}", 0.0),
        ("sandbar_subscription_trouble{plugin=\"echo\"}", 0.0),
        ("sandbar_ready", 1.0),
        ("sandbar_broker_up", 1.0),
    ];
    // What the broker is asked is a second old at most.
    until(address, "/metrics", "what was to be", |response| {
        let all = numbers(&response.body);
        expected
            .iter()
            .all(|(name, value)| all.get(*name) == Some(value))
    });
    let all = asked(address);
    assert!(all["sandbar_call_duration_seconds_sum{plugin=\"echo\"}"] > 0.0);
    assert!(all["process_resident_memory_bytes"] > 1e6);
    assert!(all["process_open_fds"] > 3.0);
    assert!(
        all["sandbar_components_loaded_total{from=\"compiled\"}"] >= 2.0,
        "{all:?}"
    );
    let instances = |what: &str, plugin: &str| {
        all[&format!("sandbar_plugin_instances{what}{{plugin=\"{plugin}\"}}")]
    };
    let started = instances("_started_total", "echo");
    // As many as it may have at once, on as many cores as there are; each of them is still warm.
    assert!((1.0..=200.0).contains(&started), "{started}");
    assert_eq!(instances("", "echo"), started);
    // Those that trapped are gone.
    let (started, now) = (
        instances("_started_total", "misbehave"),
        instances("", "misbehave"),
    );
    assert!(started - now >= 1.0, "{started} started, {now} now");
    // None of a message, and none of a client that was there for a moment.
    for name in all.keys() {
        for word in ["bad.", "nobody", "reply"] {
            assert!(!name.contains(word), "{name}");
        }
    }

    // Another version goes on counting, and a plugin that is removed is gone.
    let mut component = std::fs::read(folder.path().join("plugins/echo.wasm")).unwrap();
    // A section of its own that means nothing.
    component.extend(b"\x00\x05\x04more");
    folder.write("other/echo.wasm", component);
    let deployed = folder.run(["plugins", "deploy", "echo", "other/echo.wasm"]);
    assert_eq!(deployed.code, Some(0), "{}", deployed.stderr);
    assert_eq!(folder.run(["request", "echo", "1"]).stdout, "1\n");
    let done = "sandbar_messages_total{plugin=\"echo\",outcome=\"done\"}";
    until(address, "/metrics", "one more", |response| {
        numbers(&response.body).get(done) == Some(&201.0)
    });
    let removed = folder.run(["plugins", "remove", "echo"]);
    assert_eq!(removed.code, Some(0), "{}", removed.stderr);
    let of_echo = |name: &String| name.contains("plugin=\"echo\"");
    assert!(!asked(address).keys().any(of_echo));
    host.signal("TERM");
    assert_eq!(host.ended().code, Some(0));
}

/// The list, the output and the manual have the same names and labels.
#[test]
fn the_list_is_closed() {
    let folder = Folder::new();
    folder.guest("echo", "plugins/echo.wasm");
    let (_host, address) = host(&folder, &[]);
    let text = get(address, "/metrics", &[]).body;
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let types: BTreeSet<&str> = types.map(|line| line.split(' ').next().unwrap()).collect();
    let listed: BTreeSet<&str> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(types, listed);
    let mut names = BTreeMap::new();
    for metric in METRICS {
        for more in written(metric.sort) {
            names.insert(format!("{}{more}", metric.name), metric.labels);
        }
    }
    for line in numbers(&text).keys() {
        let (name, labels) = line.split_once('{').unwrap_or((line, "}"));
        let known: BTreeSet<&str> = names[name].iter().copied().collect();
        let labels = labels
            .trim_end_matches('}')
            .split(',')
            .filter(|it| !it.is_empty());
        let labels: BTreeSet<&str> = labels.map(|it| it.split('=').next().unwrap()).collect();
        let labels: BTreeSet<&str> = labels.into_iter().filter(|label| *label != "le").collect();
        assert_eq!(labels, known, "{line}");
    }
}

#[test]
fn the_manual_lists_them() {
    let rows = METRICS.iter().map(|metric| {
        let more = match metric.sort {
            Sort::Counter => "_total",
            Sort::Gauge | Sort::Histogram => "",
        };
        let labels: Vec<String> = metric
            .labels
            .iter()
            .map(|label| format!("`{label}`"))
            .collect();
        format!(
            "| `{}{more}` | {} | {} |\n",
            metric.name,
            labels.join(", "),
            metric.help
        )
    });
    let table: String = rows.collect();
    let table = format!("\n| metric | labels | meaning |\n|---|---|---|\n{table}\n");
    let page = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .join("docs/operating.md");
    let text = std::fs::read_to_string(&page).unwrap();
    let (before, rest) = text.split_once("<!-- metrics -->\n").unwrap();
    let (there, after) = rest.split_once("<!-- end of the metrics -->\n").unwrap();
    if std::env::var_os("INSTA_UPDATE").is_some_and(|update| update == "always") {
        let text = format!("{before}<!-- metrics -->\n{table}<!-- end of the metrics -->\n{after}");
        std::fs::write(&page, text).unwrap();
    } else {
        assert_eq!(
            there, table,
            "run it with INSTA_UPDATE=always and read the difference"
        );
    }
}
