//! Golden files: what a command says, byte for byte, except for what differs from run to run.
//!
//! They are in `tests/golden`; `INSTA_UPDATE=always cargo test -p sandbar-tests` writes them anew, and the change is
//! then read as any other.

use std::fs;
use std::path::Path;

use crate::process::Finished;

/// Compares the end of a command with its golden file.
pub fn check(name: &str, folder: &Path, finished: &Finished) {
    let code = finished
        .code
        .map_or_else(|| "none".to_owned(), |code| code.to_string());
    let mut text = format!("exit code: {code}\n");
    for (stream, content) in [("stdout", &finished.stdout), ("stderr", &finished.stderr)] {
        if !content.is_empty() {
            text.push_str(&format!("-- {stream}\n{content}"));
        }
    }
    let filters = [
        (
            r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            "[id]",
        ),
        (r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "[time]"),
        (r"\b[0-9.]+ (s|ms|µs)\b", "[duration]"),
        (r"by process \d+", "by process [number]"),
        (r"[0-9,]+ messages/s", "[rate] messages/s"),
        (r"at byte \d+", "at byte [offset]"),
    ];
    compare(name, folder, &text, &filters);
}

/// Compares a command and its end, as they look in a terminal, with a golden file that a manual quotes.
pub fn session(name: &str, folder: &Path, arguments: &[&str], finished: &Finished) {
    let mut text = format!("$ sandbar {}\n", arguments.join(" "));
    text.push_str(&finished.stdout);
    text.push_str(&finished.stderr);
    if finished.code != Some(0) {
        let code = finished
            .code
            .map_or_else(String::new, |code| code.to_string());
        text.push_str(&format!("(exit code {code})\n"));
    }
    // As long as what they stand for, so that columns stay columns.
    let filters = [
        (r"\d{4}-\d\d-\d\dT[0-9:.]{12}Z", "2026-01-31T12:00:00.000Z"),
        (
            r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}",
            "01900000-0000-7000-8000-000000000000",
        ),
        // In a column, and not the last one.
        (r"sha256:[0-9a-f]{12}  ", "sha256:[digest]      "),
        (r"\b\d+ (s|min) ago", "3 s ago"),
        // Which messages are of a share depends on the bytes of the component.
        (r"(canary: |live:   )\d+ messages?", "${1}25 messages"),
        (r"p99 (\d+\.\d\d ms|-)", "p99 0.45 ms"),
        (
            r"\d+ of \d+ messages failed, and 0 of \d+ messages",
            "7 of 12 messages failed, and 0 of 108 messages",
        ),
        (r"\b\d+ replayed\n  failed: \d+", "7 replayed\n  failed: 7"),
        (
            r"\d+ of \d+ messages crashed, and 0 of \d+ messages",
            "1 of 4 messages crashed, and 0 of 6 messages",
        ),
        (
            r"needs \d+ more messages of the canary and \d+ more",
            "needs 75 more messages of the canary and 75 more",
        ),
        (r" {2,}\d+ (s|min)  ", "     3 s  "),
        (r"process \d+", "process 4711"),
        // How long a call took, within its limit of 300 ms or a little beyond.
        (r"(?m)^  time +[0-9]+ms ", "  time             300ms "),
        (r"SQLite \d+\.\d+\.\d+", "SQLite 3.x"),
    ];
    compare(name, folder, &text, &filters);
}

/// Compares a text that a manual quotes with a golden file; `filters` are for what differs from run to run.
pub fn text(name: &str, folder: &Path, text: &str, filters: &[(&str, &str)]) {
    compare(name, folder, text, filters);
}

/// Checks that a page quotes every session whose name begins like this, once and to the letter.
///
/// # Panics
/// When it does not, or when there are no such files.
pub fn quoted(page: &str, prefix: &str) {
    const OPENS: &str = " -->\n\n```text\n";
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let (golden, file) = (root.join("tests/golden"), root.join(page));
    let manual = fs::read_to_string(&file).unwrap();
    let mut parts = manual.split("<!-- golden: ");
    let mut expected = parts.next().unwrap().to_owned();
    let mut quoted = Vec::new();
    for part in parts {
        let (name, rest) = part.split_once(OPENS).unwrap();
        let (_, rest) = rest.split_once("```\n").unwrap();
        let said = fs::read_to_string(golden.join(format!("{name}.snap")));
        let said = said.unwrap_or_else(|_| panic!("there is no golden file {name}"));
        let said = said.splitn(3, "---\n").nth(2).unwrap().trim_end();
        expected.push_str(&format!("<!-- golden: {name}{OPENS}{said}\n```\n{rest}"));
        quoted.push(format!("{name}.snap"));
    }
    if std::env::var_os("INSTA_UPDATE").is_some_and(|update| update == "always") {
        fs::write(&file, &expected).unwrap();
    } else {
        assert!(
            manual == expected,
            "{page} quotes what is not said; run the tests with INSTA_UPDATE=always and read the difference"
        );
    }
    let mut sessions: Vec<String> = fs::read_dir(golden)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(prefix) && name.ends_with(".snap"))
        .collect();
    quoted.sort();
    sessions.sort();
    assert_eq!(quoted, sessions, "each session is quoted once");
}

fn compare(name: &str, folder: &Path, text: &str, filters: &[(&str, &str)]) {
    // A path that is longer on one machine would wrap a line differently; none is ever wrapped.
    let text = text.replace(&folder.display().to_string(), "[folder]");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let always = [
        (r"sha256:[0-9a-f]{12,64}", "sha256:[digest]"),
        (r"sha256-[0-9a-f]{64}", "sha256-[digest]"),
        // Only a slow machine says so.
        (r"compiling the plugins…\n", ""),
        (
            r"\[time\]  INFO its component (is being compiled|was compiled in \[duration\]) plugin=[a-z-]+\n",
            "",
        ),
        (r"\[time\]  INFO \d+ of \d+ plugins are prepared\n", ""),
        // How often messages waited for their turn is a matter of chance.
        (r"hit: concurrency \d+", "hit: concurrency 12"),
    ];
    for (pattern, instead) in filters.iter().chain(&always) {
        settings.add_filter(pattern, *instead);
    }
    settings.bind(|| insta::assert_snapshot!(name, text));
}
