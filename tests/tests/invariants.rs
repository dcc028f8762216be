//! The invariants of ARCHITECTURE.md, read out of the sources themselves.
//!
//! These tests look at text: they keep modules from knowing what they should not know. They say nothing about behaviour.

use std::fs;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Files below a folder of the repository with their path in it; generated and built ones left out.
fn files(folder: &str, extension: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.file_name().is_some_and(|name| name != "target") {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                let name = path
                    .strip_prefix(root())
                    .unwrap()
                    .to_string_lossy()
                    .into_owned();
                found.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "no .{extension} files below {folder}");
    found
}

/// What a file does outside comments and its own tests.
fn code(text: &str) -> String {
    let end = text.find("#[cfg(test)]").unwrap_or(text.len());
    let lines = text[..end].lines().map(str::trim_start);
    lines
        .filter(|line| !line.starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// Fails with every file that breaks the rule, not only with the first.
fn check(rule: &str, offenders: Vec<String>) {
    assert!(
        offenders.is_empty(),
        "{rule}:\n  {}",
        offenders.join("\n  ")
    );
}

fn under(name: &str, modules: &[&str]) -> bool {
    modules.iter().any(|module| {
        let module = format!("host/src/{module}");
        name == format!("{module}.rs") || name.starts_with(&format!("{module}/"))
    })
}

fn host(modules: &[&str]) -> Vec<(String, String)> {
    let all = files("host/src", "rs").into_iter();
    all.filter(|(name, _)| under(name, modules))
        .map(|(name, text)| (name, code(&text)))
        .collect()
}

fn mentioning(files: Vec<(String, String)>, words: &[&str]) -> Vec<String> {
    let mut offenders = Vec::new();
    for (name, text) in files {
        for word in words.iter().filter(|word| text.contains(**word)) {
            offenders.push(format!("{name} mentions {word}"));
        }
    }
    offenders
}

#[test]
fn brokers_and_stores_know_nothing_of_webassembly() {
    let found = mentioning(
        host(&["backend", "store", "queue"]),
        &[
            "wasmtime",
            "crate::guest",
            "crate::plugin",
            "crate::pipeline",
            "crate::dispatch",
        ],
    );
    check("backend and store know messages only", found);
}

#[test]
fn webassembly_stays_behind_its_door() {
    let all = files("host/src", "rs")
        .into_iter()
        .map(|(name, text)| (name, code(&text)));
    let (inside, outside): (Vec<_>, Vec<_>) = all.partition(|(name, _)| under(name, &["guest"]));
    check(
        "only guest uses wasmtime",
        mentioning(outside, &["wasmtime", "wasmparser", "bindgen!"]),
    );
    let worlds = inside.iter().filter(|(_, text)| text.contains("bindgen!"));
    assert!(
        worlds
            .clone()
            .all(|(name, _)| name.starts_with("host/src/guest/"))
    );
    assert_eq!(worlds.count(), 1, "one file for each supported world");
}

#[test]
fn pure_modules_wait_for_nothing_and_read_no_clock() {
    let pure = [
        "message",
        "topic",
        "wire",
        "retry",
        "throttle",
        "share",
        "queue",
        "dispatch/conclude",
        "validator/window",
        "validator/duplicate/record",
        "publisher/queued/envelope",
        "store/journal",
        "store/report",
        "store/sqlite/flush/patience",
        "plugin/hits",
        "plugin/secrets",
        "http/address",
        "http/again",
        "http/pattern",
        "http/target",
        "registry/audit",
        "registry/history",
        "rollout",
        "watch/rest",
        "guest/cache/entry",
    ];
    let found = mentioning(
        host(&pure),
        &[
            "async ",
            ".await",
            "tokio",
            "SystemTime",
            "Instant",
            "std::fs",
            "std::net",
            "now_ms()",
        ],
    );
    check("these modules are pure", found);
}

#[test]
fn only_the_pipeline_brings_everything_together() {
    let below = [
        "backend",
        "store",
        "dispatch",
        "plugin",
        "guest",
        "call",
        "client",
        "publisher",
        "subscriber",
        "validator",
        "broker",
    ];
    check(
        "nothing below the pipeline uses it",
        mentioning(
            host(&below),
            &["crate::pipeline", "crate::handler", "crate::control"],
        ),
    );
    for (name, text) in host(&["pipeline"]) {
        if name == "host/src/pipeline.rs" {
            for part in [
                "crate::backend",
                "crate::dispatch",
                "crate::call",
                "crate::store",
            ] {
                assert!(text.contains(part), "the path goes through {part}");
            }
        }
    }
}

#[test]
fn the_path_fits_on_a_screen() {
    let text = fs::read_to_string(root().join("host/src/pipeline.rs")).unwrap();
    assert!(text.starts_with("//! THE PATH"));
    let path = text.find("pub async fn run").unwrap()..text.find("fn admit").unwrap();
    let lines = text[path].lines().count();
    assert!(
        lines <= 60,
        "run to settle takes {lines} lines; move details down, not the reader"
    );
    for step in ["permit", "receive", "admit", "route", "call", "settle"] {
        assert!(text.contains(step), "{step}");
    }
}

#[test]
fn sql_is_under_store_only() {
    let all = files("host/src", "rs")
        .into_iter()
        .map(|(name, text)| (name, code(&text)));
    let outside = all.filter(|(name, _)| !under(name, &["store"])).collect();
    let words = [
        "SELECT ",
        "INSERT INTO",
        "DELETE FROM",
        "PRAGMA ",
        "CREATE TABLE",
        "sqlx",
    ];
    check("SQL lives under store", mentioning(outside, &words));
}

#[test]
fn nothing_is_unbounded_and_only_main_ends_the_process() {
    let all = files("host/src", "rs")
        .into_iter()
        .map(|(name, text)| (name, code(&text)));
    let all: Vec<_> = all.collect();
    let words = [
        "unbounded_channel",
        "mpsc::unbounded",
        "thread::sleep",
        "std::process::abort",
    ];
    check(
        "no unbounded channel, no sleeping thread",
        mentioning(all.clone(), &words),
    );
    let others = all
        .into_iter()
        .filter(|(name, _)| name != "host/src/main.rs")
        .collect();
    check("only main exits", mentioning(others, &["process::exit"]));
}

#[test]
fn production_code_may_not_panic() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
    for lint in [
        "unwrap_used",
        "expect_used",
        "panic",
        "indexing_slicing",
        "string_slice",
        "exit",
    ] {
        assert!(
            manifest.contains(&format!("{lint} = \"warn\"")),
            "clippy::{lint} is on"
        );
    }
    // Warnings are errors in CI, so `warn` denies.
    let alias = fs::read_to_string(root().join(".cargo/config.toml")).unwrap();
    assert!(alias.contains("-D warnings"));
    let silenced = files("host/src", "rs")
        .into_iter()
        .map(|(name, text)| (name, code(&text)));
    let words = [
        "allow(clippy::unwrap_used",
        "allow(clippy::expect_used",
        "allow(clippy::panic",
    ];
    check(
        "nobody silences them",
        mentioning(silenced.collect(), &words),
    );
}

#[test]
fn compiled_code_is_loaded_in_one_place() {
    let all = files("host/src", "rs").into_iter();
    let all = all.map(|(name, text)| (name, code(&text)));
    let unsafe_code = mentioning(
        all.collect(),
        &["unsafe {", "unsafe fn", "::deserialize(engine"],
    );
    let expected = ["unsafe {", "::deserialize(engine"];
    let expected = expected.map(|what| format!("host/src/guest/load.rs mentions {what}"));
    assert_eq!(unsafe_code, expected);
}

#[test]
fn every_file_says_what_it_is_for() {
    let mut offenders = Vec::new();
    for folder in ["host", "guest-sdk", "plugins", "tests"] {
        for (name, text) in files(folder, "rs") {
            // What a macro must refuse is shown as a user would write it.
            if name.contains("/ui/") || name.contains("compile-fail") {
                continue;
            }
            if !text.starts_with("//!") {
                offenders.push(format!("{name} does not open with //!"));
            }
            if name.ends_with("/mod.rs") {
                offenders.push(format!("{name}: write NAME.rs and NAME/"));
            }
            let lines = text.lines().count();
            if lines > 450 {
                offenders.push(format!("{name} has {lines} lines; split it by concern"));
            }
        }
    }
    check("files open with their purpose and stay small", offenders);
}

#[test]
fn the_readme_quotes_a_real_handler() {
    let readme = fs::read_to_string(root().join("README.md")).unwrap();
    let source = fs::read_to_string(root().join("plugins/echo/src/lib.rs")).unwrap();
    let (_, handler) = source.split_once("\n\n").unwrap();
    assert!(
        readme.contains(handler.trim()),
        "README.md shows plugins/echo as it is"
    );
}

/// Each piece of code in the page about own backends stands in the example, to the letter.
#[test]
fn the_page_about_own_backends_quotes_the_example() {
    let page = fs::read_to_string(root().join("docs/own-backend.md")).unwrap();
    let mut example = files("tests/src/own_backend", "rs");
    for file in ["tests/src/own_backend.rs", "tests/tests/own_backend.rs"] {
        let text = fs::read_to_string(root().join(file)).unwrap();
        example.push((file.to_owned(), text));
    }
    let quotes = page.split("```rust\n").skip(1);
    let quotes: Vec<&str> = quotes
        .map(|rest| rest.split("```").next().unwrap())
        .collect();
    assert!(quotes.len() > 5, "{} quotes", quotes.len());
    let missing = quotes.iter().filter(|quote| {
        let stands = |(_, text): &(String, String)| text.contains(**quote);
        !example.iter().any(stands)
    });
    check(
        "docs/own-backend.md quotes tests/src/own_backend as it is",
        missing.map(ToString::to_string).collect(),
    );
}

/// Each row of the tables of the seeds' classes names what shows it, and that exists.
#[test]
fn the_seeds_classes_are_shown_by_what_exists() {
    let page = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let (_, section) = page.split_once("## The seeds' classes").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let sources = [
        files("host/src", "rs"),
        files("tests", "rs"),
        files("guest-sdk", "rs"),
    ]
    .concat();
    let rows = section
        .lines()
        .filter(|line| line.starts_with("| ") && !line.contains("shown by"));
    let (mut count, mut missing) = (0, Vec::new());
    for row in rows {
        let shown = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        let names: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            missing.push(format!("nothing shows {row}"));
        }
        for name in names {
            count += 1;
            let exists = match name.ends_with(".rs") {
                // A doc test runs unless it is marked as something else.
                true => sources
                    .iter()
                    .any(|(file, text)| file == name && text.contains("/// ```\n")),
                false => {
                    let (test, case) = (format!("fn {name}("), format!("            {name}\n"));
                    let shows = |text: &str| text.contains(&test) || text.contains(&case);
                    sources.iter().any(|(_, text)| shows(text))
                }
            };
            if !exists {
                missing.push(format!("`{name}` does not exist: {row}"));
            }
        }
    }
    assert!(count > 60, "{count} names");
    check("ARCHITECTURE.md names tests that exist", missing);
}

/// Each row of the table of the harness names tests, and they exist where it says; or it says that there is none.
#[test]
fn the_page_about_reliability_names_what_exists() {
    const IDS: &str = "K1 K2 K3 K4 B1 B2 B3 B4 D1 D2 D3 D4 T1 S1 P1 O1 L1 C1 F1 M1";
    let page = fs::read_to_string(root().join("docs/reliability.md")).unwrap();
    let (_, tested) = page.split_once("## What is tested").unwrap();
    let (tested, long) = tested.split_once("## The long forms").unwrap();
    let sources = files("tests", "rs");
    let (mut ids, mut missing) = (Vec::new(), Vec::new());
    for row in tested.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let cells: Vec<&str> = row.trim_matches(['|', ' ']).split(" | ").collect();
        let [id, _, _, tests] = cells[..] else {
            panic!("four columns: {row}");
        };
        ids.push(id);
        let (mut text, mut named) = (String::new(), 0);
        for name in tests.split('`').skip(1).step_by(2) {
            if name.ends_with(".rs") {
                let places = ["tests/tests", "tests/src"].map(|folder| format!("{folder}/{name}"));
                let found = sources.iter().filter(|(file, _)| places.contains(file));
                text = found.map(|(_, text)| text.as_str()).collect();
                continue;
            }
            named += 1;
            let (test, cases) = (format!("fn {name}("), format!("macro_rules! {name} "));
            if !text.contains(&test) && !text.contains(&cases) {
                missing.push(format!("{id}: `{name}` does not exist there"));
            }
        }
        if (named == 0) != (tests == "no test") {
            missing.push(format!("{id}: name its tests, or say `no test`"));
        }
    }
    assert_eq!(ids.join(" "), IDS, "each row of the harness once");
    for name in long.split(|letter: char| !letter.is_ascii_uppercase() && letter != '_') {
        let variable = name.len() > 3;
        let read = format!("\"{name}\"");
        if variable && !sources.iter().any(|(_, text)| text.contains(&read)) {
            missing.push(format!("no test reads the variable {name}"));
        }
    }
    check("docs/reliability.md names what exists", missing);
}
