//! Secrets: a plugin reads what it was granted by name, and whatever the host writes about it does not have the value.

use std::fs;
use std::path::Path;

use sandbar_tests::http;
use sandbar_tests::process::{Finished, Folder};

/// Nothing else in the world looks like it.
const VALUE: &str = "hunter2-Zq7!x\"y";
/// What stands in its place.
const INSTEAD: &str = "[secret API_KEY]";

const CONFIG: &str = r#"
log = "trace,wasmtime=off,cranelift=off,sqlx=info"
[plugins.misbehave]
state = true
publish = ["out.>"]
request = ["bad.context"]
secrets = { API_KEY = "file:key.txt" }
[plugins.misbehave.retry]
max_attempts = 2
initial = "1ms"
"#;

/// The files below a folder that hold the value.
fn holding(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path));
        } else if let Ok(bytes) = fs::read(&path) {
            let holds = |value: &[u8]| bytes.windows(value.len()).any(|part| part == value);
            if holds(VALUE.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    found
}

fn hidden(finished: &Finished) {
    for said in [&finished.stdout, &finished.stderr] {
        assert!(!said.contains("hunter2"), "{said}");
    }
}

#[test]
fn a_secret_is_in_nothing_that_the_host_writes() {
    let folder = Folder::new();
    folder.guest("misbehave", "plugins/misbehave.wasm");
    let secret = folder.write("key.txt", format!("{VALUE}\n"));
    folder.write("sandbar.toml", CONFIG);
    let host = folder.host(["--admin", "127.0.0.1:0"]);
    let ends = ["panic", "forbidden", "reject", "retry", "fail"];
    for end in ends {
        // Who asks gets the text of the failure, without the value.
        let asked = folder.run(["request", "bad.leak", end]);
        assert_ne!(asked.code, Some(0));
        hidden(&asked);
    }
    let letters = folder.run(["dead-letters", "list", "--json"]);
    let letters: serde_json::Value = serde_json::from_str(&letters.stdout).unwrap();
    // A rejection that somebody got is no dead letter.
    assert_eq!(letters["total"], 4, "{letters}");
    for id in 1..=4 {
        let id = id.to_string();
        let shown = folder.run(["dead-letters", "show", &id]);
        assert!(shown.stdout.contains(INSTEAD), "{}", shown.stdout);
        hidden(&shown);
        hidden(&folder.run(["dead-letters", "show", &id, "--json"]));
        // What is run again is the same, since what was recorded has no value either.
        let tried = folder.run(["dead-letters", "try", &id]);
        hidden(&tried);
        assert!(
            tried
                .stdout
                .contains("the same as those of the attempt that failed"),
            "{}",
            tried.stdout
        );
        hidden(&folder.run(["dead-letters", "try", &id, "--json"]));
        hidden(&folder.run(["dead-letters", "try", &id, "--now"]));
    }
    for arguments in [
        &["config", "show"][..],
        &["config", "show", "--json"],
        &["config", "check"],
        &["check", "plugins/misbehave.wasm"],
        &["plugins", "list"],
        &["plugins", "show", "misbehave"],
        &["plugins", "show", "misbehave", "--json"],
        &["plugins", "history", "misbehave"],
        &["queues", "list"],
        &["doctor"],
        &["dead-letters", "list"],
    ] {
        hidden(&folder.run(arguments));
    }
    for path in ["/livez", "/readyz", "/metrics", "/hunter2"] {
        let asked = http::get(host.admin(), path, &[]);
        let text = format!("{:?} {}", asked.headers, asked.body);
        assert!(!text.contains("hunter2"), "{text}");
    }
    let shown = folder.run(["config", "show"]).stdout;
    assert!(shown.contains("file:key.txt"), "{shown}");

    let log = host.log();
    assert!(
        log.contains(&format!("the key is {INSTEAD}, twice {INSTEAD}{INSTEAD}")),
        "{log}"
    );
    assert!(log.contains(&format!("printed {INSTEAD}")), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
    host.signal("TERM");
    assert_eq!(host.ended().code, Some(0));

    // Dead letters, journals and histories on disk, and everything else.
    fs::remove_file(secret).unwrap();
    assert_eq!(holding(folder.path()), Vec::<String>::new());
}

/// Nor in what is kept of its requests, though those are its own and hold what it puts into them.
#[test]
fn a_secret_is_in_no_step() {
    let folder = Folder::new();
    folder.guest("misbehave", "plugins/misbehave.wasm");
    folder.write("key.txt", VALUE);
    folder.write("sandbar.toml", CONFIG);
    let host = folder.host::<&str>([]);
    let asked = folder.run(["request", "bad.leak", "ask"]);
    assert_ne!(asked.code, Some(0));
    for arguments in [
        &["dead-letters", "show", "1"][..],
        &["dead-letters", "show", "1", "--json"],
        &["dead-letters", "try", "1"],
        &["dead-letters", "try", "1", "--json"],
    ] {
        let shown = folder.run(arguments);
        hidden(&shown);
        let written = hexadecimal(VALUE);
        assert!(!shown.stdout.contains(&written), "{}", shown.stdout);
    }
    let tried = folder.run(["dead-letters", "try", "1"]).stdout;
    assert!(
        tried.contains("the same as those of the attempt"),
        "{tried}"
    );
    assert!(!host.log().contains("hunter2"), "{}", host.log());
    host.signal("TERM");
    assert_eq!(host.ended().code, Some(0));
}

/// As bytes are written in the journal.
fn hexadecimal(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn a_secret_is_a_reference_that_leads_somewhere() {
    let folder = Folder::new();
    folder.guest("misbehave", "plugins/misbehave.wasm");
    folder.write("short.txt", "abc");
    folder.write(
        "sandbar.toml",
        "[plugins.misbehave]\nconfig = { A = \"a\" }\nsecrets = { A = \"env:A\", B = \"plain\", C = \"file:none.txt\", \
         D = \"file:short.txt\" }\n",
    );
    let checked = folder.run(["config", "check"]);
    assert_eq!(checked.code, Some(64), "{}", checked.stderr);
    for said in [
        "`A` is in `config` as well",
        "a secret does not stand in the file; write `env:NAME` or `file:PATH`",
    ] {
        assert!(checked.stderr.contains(said), "{}", checked.stderr);
    }
    folder.write(
        "sandbar.toml",
        "[plugins.misbehave]\nsecrets = { C = \"file:none.txt\", D = \"file:short.txt\" }\n",
    );
    let checked = folder.run(["run", "--no-watch"]);
    assert_eq!(checked.code, Some(64), "{}", checked.stderr);
    for said in ["`C`: file", "secret `D`: it has fewer than 4 bytes"] {
        assert!(checked.stderr.contains(said), "{}", checked.stderr);
    }
}
