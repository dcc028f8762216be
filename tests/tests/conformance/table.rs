//! `docs/conformance.md`, made of the recorded cases, of what deviates from them, and of the tests of the seeds' defects,
//! so that it says what is tested.
//!
//! `INSTA_UPDATE=always cargo test -p sandbar-tests --test conformance the_documentation` writes it anew.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{dead_letter, deviation, recorded};

const HEAD: &str = "\
# Conformance

What Sandbar takes over from the systems that it was made after, case by case, and where it differs on purpose. This page is
made by `tests/tests/conformance/table.rs`, and a test keeps it true; change the cases or the tests, not the page.

## Replies

Recorded from the dispatcher of minos.networks 0.7.0 (`tests/conformance/dispatch.json`), and run through a native action and
through a plugin, on every broker of our own. A reply goes to the reply topic of the request, carries its identifier and its
headers with the handler's changes on top, and has no reply topic of its own.
";

const DEFECTS: &str = "
## Defects that are not copied

Each has a test of that name in `tests/tests/seed_defects/`, which fails under the rule of the seed.
";

fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap().to_owned()
}

/// Status and content of a reply.
fn reply(reply: &Value) -> String {
    let content = reply["content"].to_string();
    // Internals of the seed; nobody needs them in full.
    let shown: String = content.chars().take(60).collect();
    let dots = if shown.len() < content.len() {
        "…"
    } else {
        ""
    };
    // Content with a backtick needs two of them around it.
    let (open, close) = if shown.contains('`') {
        ("`` ", " ``")
    } else {
        ("`", "`")
    };
    format!("{}, {open}{shown}{dots}{close}", reply["status"])
}

fn row(case: &Value) -> String {
    let name = case["name"].as_str().unwrap();
    let theirs = match (&case["reply"], &case["dispatch_error"]) {
        (Value::Null, Value::Null) => "nothing".to_owned(),
        (Value::Null, error) => format!("nothing (`{}`)", error.as_str().unwrap()),
        (theirs, _) => reply(theirs),
    };
    let (ours, why) = match deviation(name) {
        None => ("the same".to_owned(), ""),
        Some((ours, why)) => (reply(&ours), why),
    };
    let dead = dead_letter(name).unwrap_or("–");
    let handler = case["handler"].to_string();
    format!("| `{name}` | `{handler}` | {theirs} | {ours} | {dead} | {why} |")
}

/// The names of the tests in a file with what their documentation says of the seed and of ours.
fn defects(text: &str) -> Vec<(String, String, String)> {
    let mut found = Vec::new();
    let mut said = String::new();
    for line in text.lines() {
        if let Some(line) = line.strip_prefix("///") {
            said.push_str(line);
        } else if let Some(test) = line.strip_prefix("async fn ").or(line.strip_prefix("fn ")) {
            let name = test.split('(').next().unwrap_or(test);
            if let Some((theirs, ours)) = said.split_once("Ours:") {
                let trimmed = [theirs, ours].map(|it| it.trim().to_owned());
                let [theirs, ours] = trimmed;
                found.push((name.to_owned(), theirs, ours));
            }
            said.clear();
        } else if !line.starts_with("#[") {
            said.clear();
        }
    }
    let tests = text.matches("#[test]").count() + text.matches("#[tokio::test").count();
    assert_eq!(found.len(), tests, "each says what is `Ours:`\n{found:#?}");
    found
}

fn page() -> String {
    let mut page = HEAD.to_owned();
    page.push_str("\n| case | the handler | the seed replies | ours | dead letter | why |\n");
    page.push_str("|---|---|---|---|---|---|\n");
    for case in recorded() {
        writeln!(page, "{}", row(&case)).unwrap();
    }
    page.push_str(DEFECTS);
    page.push_str("\n| test | the seed | ours |\n|---|---|---|\n");
    let folder = root().join("tests/tests/seed_defects");
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    for file in files {
        for (name, theirs, ours) in defects(&fs::read_to_string(file).unwrap()) {
            writeln!(page, "| `{name}` | {theirs} | {ours} |").unwrap();
        }
    }
    page
}

#[test]
fn the_documentation_says_what_is_tested() {
    let (file, page) = (root().join("docs/conformance.md"), page());
    if std::env::var("INSTA_UPDATE").is_ok_and(|update| update == "always") {
        fs::write(&file, &page).unwrap();
    }
    let written = fs::read_to_string(&file).unwrap();
    assert!(
        written == page,
        "docs/conformance.md is not what is tested; write it anew with INSTA_UPDATE=always and read the difference"
    );
}
