//! `run`, `send`, `request` and `receive` together: what goes in comes out.

use std::io::Write as _;

use sandbar_tests::process::{Folder, Host};

use crate::check;

const USER: &str = "0190aaaa-bbbb-7ccc-8ddd-eeeeffff0000";

fn with(plugins: &[&str], configuration: &str) -> (Folder, Host) {
    let folder = Folder::new();
    for plugin in plugins {
        folder.guest(plugin, &format!("plugins/{plugin}.wasm"));
    }
    folder.write("sandbar.toml", configuration);
    let host = folder.host::<&str>([]);
    (folder, host)
}

#[test]
fn a_request_prints_the_reply() {
    let (folder, _host) = with(&["echo"], "");
    let reply = folder.run(["request", "echo", "{\"a\":1}"]);
    assert_eq!(
        (reply.code, reply.stdout.as_str()),
        (Some(0), "{\"a\":1}\n"),
        "{}",
        reply.stderr
    );

    let reply = folder.run_with(
        ["request", "echo", "-", "-H", "trace=abc", "--json"],
        b"[1, 2.5]",
    );
    let envelope: serde_json::Value = serde_json::from_str(&reply.stdout).unwrap();
    assert_eq!(envelope["content"], serde_json::json!([1, 2.5]));
    assert_eq!(envelope["headers"]["trace"], "abc");
    assert_eq!(envelope["status"], 200);

    let user = format!("user={USER}");
    folder.write("content.txt", "from a file");
    let reply = folder.run(["request", "echo", "@content.txt", "-H", &user]);
    assert_eq!(
        (reply.code, reply.stdout.as_str()),
        (Some(0), "from a file\n")
    );
}

#[test]
fn what_cannot_be_asked_is_explained() {
    let (folder, _host) = with(&["echo"], "");
    for (name, arguments, code) in [
        (
            "request_malformed_json",
            &["request", "echo", "{\"a\":"][..],
            64,
        ),
        (
            "request_bad_user",
            &["request", "echo", "{}", "-H", "user=zzz"],
            64,
        ),
        (
            "request_bad_header",
            &["request", "echo", "{}", "-H", "trace"],
            64,
        ),
        (
            "request_missing_content",
            &["request", "echo", "@nope.json"],
            64,
        ),
        ("request_no_handler", &["request", "nope", "{}"], 1),
    ] {
        assert_eq!(check(name, &folder, arguments).code, Some(code), "{name}");
    }
    let raw = folder.run(["request", "echo", "{\"a\":", "--raw"]);
    assert_eq!(raw.stdout, "{\"a\":\n");
}

#[test]
fn content_over_the_limit_is_refused_by_the_host() {
    let (folder, host) = with(&["echo"], "");
    folder.write("large", vec![b'x'; (1 << 20) + 1]);
    assert_eq!(
        check("request_too_large", &folder, &["request", "echo", "@large"]).code,
        Some(1)
    );
    host.wait_for("reason=too-large");
    folder.write("fits", vec![b'x'; 1 << 20]);
    assert_eq!(
        folder.run(["request", "echo", "@fits"]).stdout.len(),
        (1 << 20) + 1
    );
}

#[test]
fn a_rejected_request_fails_with_its_status() {
    let (folder, _host) = with(&["misbehave"], "");
    let rejected = check(
        "request_rejected",
        &folder,
        &["request", "bad.reject", "no such order", "--raw"],
    );
    assert_eq!(rejected.code, Some(1));
}

#[test]
fn what_is_sent_is_received() {
    let folder = Folder::new();
    // Nobody runs: the message waits in its topic.
    let sent = check("send_unbound", &folder, &["send", "news", "{\"a\":1}"]);
    assert_eq!(sent.code, Some(0));
    let sent = folder.run(["send", "news", "second", "--id", USER, "--json"]);
    assert_eq!(
        sent.stdout,
        format!("{{\"identifier\":\"{USER}\",\"queues\":0}}\n")
    );
    let received = folder.run(["receive", "news", "--count", "2", "--timeout", "20s"]);
    assert_eq!(
        (received.code, received.stdout.as_str()),
        (Some(0), "{\"a\":1}\nsecond\n"),
        "{}",
        received.stderr
    );
    let nothing = check(
        "receive_too_few",
        &folder,
        &["receive", "news", "--count", "1", "--timeout", "200ms"],
    );
    assert_eq!(nothing.code, Some(1));
}

#[test]
fn a_group_keeps_its_messages() {
    let (folder, _host) = with(&["echo"], "");
    let none = folder.run([
        "receive",
        "news.*",
        "--group",
        "readers",
        "--timeout",
        "100ms",
    ]);
    assert_eq!(none.code, Some(0), "{}", none.stderr);
    for number in ["1", "2", "3"] {
        assert_eq!(folder.run(["send", "news.today", number]).stderr, "");
    }
    let received = folder.run([
        "receive", "news.*", "--group", "readers", "--count", "3", "--json",
    ]);
    let contents: Vec<_> = received
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["content"].clone())
        .collect();
    assert_eq!(contents, [1, 2, 3]);
}

#[test]
fn every_line_of_a_file_is_handled() {
    const LINES: u64 = 100_000;
    let (folder, _host) = with(
        &["quakes"],
        "[plugins.quakes]\nstate = true\npublish = [\"quake.alert\"]\nconfig = { alert_magnitude = 10 }\n",
    );
    let mut lines =
        std::io::BufWriter::new(std::fs::File::create(folder.path().join("lines")).unwrap());
    for number in 0..LINES {
        writeln!(
            lines,
            r#"{{"id":"q{number}","properties":{{"mag":1.5,"place":"x, R{}","time":{number}}},"geometry":{{"coordinates":[1,2,3]}}}}"#,
            number % 7
        )
        .unwrap();
    }
    lines.flush().unwrap();
    let sent = folder.run(["send", "quake.recorded", "--lines", "lines"]);
    assert!(sent.stderr.contains("100,000 accepted"), "{}", sent.stderr);
    assert_eq!(sent.code, Some(0));
    let count = || {
        let reply = folder.run(["request", "quake.stats", "{\"top\":0}", "--timeout", "30s"]);
        let stats: serde_json::Value =
            serde_json::from_str(&reply.stdout).unwrap_or_else(|_| panic!("{reply:?}"));
        stats["count"].as_u64().unwrap()
    };
    // Each question costs a process, so this is bounded and longer than any machine needs.
    let mut counts = std::iter::repeat_with(count).take(2000);
    assert_eq!(counts.find(|count| *count >= LINES), Some(LINES));
}

#[test]
fn a_wrong_line_says_where_to_go_on() {
    let folder = Folder::new();
    folder.write("lines", "{\"a\":1}\n\n{\"a\":2}\nnot json\n{\"a\":3}\n");
    assert_eq!(
        check(
            "send_lines_wrong",
            &folder,
            &["send", "news", "--lines", "lines"]
        )
        .code,
        Some(1)
    );
    folder.write(
        "lines",
        "{\"a\":1}\n\n{\"a\":2}\n{\"a\":\"corrected\"}\n{\"a\":3}\n",
    );
    assert_eq!(
        folder
            .run(["send", "news", "--lines", "lines", "--skip", "3"])
            .code,
        Some(0)
    );
    let received = folder.run(["receive", "news", "--count", "4", "--timeout", "20s"]);
    assert_eq!(
        received.stdout,
        "{\"a\":1}\n{\"a\":2}\n{\"a\":\"corrected\"}\n{\"a\":3}\n"
    );
    let piped = folder.run_with(["send", "news", "--lines", "-", "--raw"], b"one\ntwo\n");
    assert!(piped.stderr.starts_with("2 accepted"), "{}", piped.stderr);
}

#[test]
fn a_closed_output_ends_quietly() {
    let folder = Folder::new();
    let lines: String = (0..20_000).map(|number| format!("{number}\n")).collect();
    folder.run_with(["send", "news", "--lines", "-"], lines.as_bytes());
    let mut command = folder.command(["receive", "news", "--count", "20000", "--timeout", "20s"]);
    command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).as_ref()
        ),
        (Some(0), "")
    );
}
