//! What can be asked for, and what is said to wrong words.

use sandbar_tests::process::Folder;

use crate::check;

#[test]
fn every_verb_explains_itself() {
    let folder = Folder::new();
    check("help", &folder, &["--help"]);
    for verb in [
        "run", "demo", "send", "request", "receive", "check", "inspect", "config", "new",
    ] {
        check(&format!("help_{verb}"), &folder, &[verb, "--help"]);
    }
    for (verb, inner) in [
        (
            "dead-letters",
            &["list", "show", "replay", "purge", "try"][..],
        ),
        ("queues", &["list", "show", "purge"]),
        ("doctor", &[]),
    ] {
        let name = verb.replace('-', "_");
        check(&format!("help_{name}"), &folder, &[verb, "--help"]);
        for inner in inner {
            let name = format!("help_{name}_{inner}");
            check(&name, &folder, &[verb, inner, "--help"]);
        }
    }
}

#[test]
fn wrong_words_are_explained() {
    let folder = Folder::new();
    for (name, arguments) in [
        ("usage_nothing", &[][..]),
        ("usage_unknown_verb", &["snd"]),
        ("usage_unknown_option", &["send", "t", "--multcast"]),
        ("usage_missing_topic", &["request"]),
        ("usage_bad_duration", &["request", "t", "--timeout", "soon"]),
        ("usage_bad_id", &["send", "t", "--id", "7"]),
        (
            "usage_lines_and_content",
            &["send", "t", "x", "--lines", "f"],
        ),
        ("usage_bad_log_level", &["run", "--log", "loud"]),
        ("usage_pattern_as_topic", &["send", "a.*", "{}"]),
        ("usage_no_plugin", &["run"]),
        ("new_language", &["new", "hello", "--lang", "python"]),
        ("new_unknown_language", &["new", "hello", "--lang", "rst"]),
        ("new_name", &["new", "my handler"]),
        ("new_reserved", &["new", "struct"]),
        ("new_sdk", &["new", "hello", "--sdk", "nowhere"]),
        ("usage_empty_folder", &["run", "--plugins", "."]),
        ("usage_missing_file", &["run", "nope.wasm"]),
        ("usage_missing_folder", &["run", "--plugins", "nowhere"]),
        ("usage_no_host", &["request", "echo", "{}"]),
    ] {
        let expected = if name == "usage_no_host" { 1 } else { 64 };
        assert_eq!(
            check(name, &folder, arguments).code,
            Some(expected),
            "{name}"
        );
    }
}

#[test]
fn the_version_is_data() {
    let finished = Folder::new().run(["--version"]);
    assert_eq!(
        finished.stdout,
        format!("sandbar {}\n", env!("CARGO_PKG_VERSION"))
    );
    assert_eq!(finished.code, Some(0));
}
