//! What an interpreter does wrong, or differently, in a host as an operator has it: it costs one message, the reason is
//! right, and the log has the place.

use sandbar_tests::languages::Language;
use sandbar_tests::process::{Finished, Folder, Host};
use serde_json::Value;

/// One attempt, one instance, and limits that are soon reached, but not by anything else.
const CONFIG: &str = "\
[plugins.misbehave.limits]
time = \"3s\"
memory = \"48MiB\"
concurrency = 1
[plugins.misbehave.retry]
max_attempts = 1
";

/// A message that cannot end well.
struct Sin {
    name: &'static str,
    content: &'static str,
    reply: &'static str,
    reason: &'static str,
    /// What the log has of it.
    said: &'static [&'static str],
}

const fn sin(
    name: &'static str,
    content: &'static str,
    reply: &'static str,
    reason: &'static str,
    said: &'static [&'static str],
) -> Sin {
    Sin {
        name,
        content,
        reply,
        reason,
        said,
    }
}

const CRASHED: &str = "the handler crashed";

/// In every language.
const SINS: &[Sin] = &[
    sin(
        "loop",
        "",
        "the handler took too long",
        "timeout",
        &["the call took longer than 3s"],
    ),
    sin(
        "hog",
        "",
        "the handler needed too much memory",
        "memory",
        &["bytes of memory and `limits.memory` is 50331648"],
    ),
];

const PYTHON: &[Sin] = &[
    sin(
        "explode",
        "abc",
        CRASHED,
        "trap",
        &[
            "ZeroDivisionError: division by zero",
            "in explode",
            "in divide",
        ],
    ),
    sin(
        "recurse",
        "",
        CRASHED,
        "trap",
        &["RecursionError: ", " in recurse"],
    ),
    sin("leave", "", CRASHED, "trap", &["Py_Exit"]),
    sin(
        "read",
        "/etc/passwd",
        CRASHED,
        "trap",
        &["filesystem_preopens_get_directories"],
    ),
];

const TYPESCRIPT: &[Sin] = &[
    sin(
        "explode",
        "abc",
        CRASHED,
        "trap",
        &[
            "TypeError: cannot read property 'field' of undefined",
            "at divide (",
            "at explode (",
        ],
    ),
    sin(
        "recurse",
        "",
        "the handler exceeded a limit",
        "limit",
        &["call stack exhausted, `engine.stack` is 524288"],
    ),
    sin(
        "clock",
        "",
        CRASHED,
        "trap",
        &["wasm `unreachable` instruction executed"],
    ),
];

fn ask(folder: &Folder, name: &str, content: &str) -> Finished {
    folder.run(["request", &format!("bad.{name}"), content])
}

fn well(folder: &Folder, name: &str, content: &str) -> String {
    let Finished {
        code,
        stdout,
        stderr,
    } = ask(folder, name, content);
    assert_eq!(code, Some(0), "{name}: {stderr}");
    stdout.trim_end().to_owned()
}

fn check(folder: &Folder, host: &Host, sin: &Sin) {
    let Finished { code, stderr, .. } = ask(folder, sin.name, sin.content);
    let name = sin.name;
    assert_eq!(code, Some(1), "{name}: {stderr}");
    assert!(stderr.contains(sin.reply), "{name}: {stderr}");
    let reason = format!("topic=bad.{name} attempt=1 reason={}", sin.reason);
    host.wait_until(&reason, |log| log.contains(&reason));
    let log = host.log();
    for said in sin.said {
        assert!(
            log.contains(said),
            "{name} never said {said:?}; it said:\n{log}"
        );
    }
    // The next one notices nothing, not even what was kept in memory.
    assert_eq!(well(folder, "keep", name), "", "{name}");
    assert_eq!(well(folder, "keep", ""), name, "{name}");
}

fn sins(language: Language, own: &[Sin]) {
    let Some(component) = language.guest("misbehave") else {
        return;
    };
    let _turn = crate::TURN.blocking_lock();
    let folder = Folder::new();
    folder.write("misbehave.wasm", std::fs::read(component).unwrap());
    folder.write("sandbar.toml", CONFIG);
    let host = folder.host(["misbehave.wasm"]);
    for sin in SINS.iter().chain(own) {
        check(&folder, &host, sin);
    }
    let refused = ask(&folder, "reject", "not that");
    assert!(
        refused.stderr.contains("status 400\nnot that"),
        "{}",
        refused.stderr
    );
    assert_eq!(well(&folder, "say", "hello"), "hello");
    host.wait_until("hello", |log| log.contains("hello said=by a guest"));
    assert_ne!(well(&folder, "chance", ""), well(&folder, "chance", ""));
    // A guest that asked for too much and made do with less may go on; what it does later has a reason of its own.
    assert_eq!(well(&folder, "greed", ""), "made do");
    check(&folder, &host, &own[0]);

    let letters = folder.run(["dead-letters", "list", "--json"]).stdout;
    let letters: Value = serde_json::from_str(&letters).unwrap();
    let mut found: Vec<&str> = letters["letters"]
        .as_array()
        .unwrap_or_else(|| panic!("{letters}"))
        .iter()
        .map(|letter| letter["reason"].as_str().unwrap())
        .collect();
    let mut expected: Vec<&str> = SINS
        .iter()
        .chain(own)
        .chain(&own[..1])
        .map(|sin| sin.reason)
        .collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn sins_of_python_cost_one_message() {
    sins(Language::Python, PYTHON);
}

#[test]
fn sins_of_typescript_cost_one_message() {
    sins(Language::TypeScript, TYPESCRIPT);
}
