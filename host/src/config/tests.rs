//! Each way to get a configuration wrong, and what is made of a right one.

use super::*;
use crate::plugin::Isolation;

fn load(text: &str) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sandbar.toml");
    std::fs::write(&file, text).unwrap();
    Config::load(Options {
        config: Some(file),
        ..Options::default()
    })
}

/// What is said of a text, without the folder.
fn refused(text: &str) -> String {
    let error = load(text).unwrap_err();
    let lines: Vec<String> = error
        .0
        .iter()
        .map(|problem| {
            let (line, column) = problem.place.as_ref().unwrap().position.unwrap();
            format!("{line}:{column}: {}", problem.message)
        })
        .collect();
    lines.join("\n")
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    for (text, expected) in [
        ("dta = 1", "1:1: unknown key `dta`; did you mean `data`?"),
        (
            "[plugins.a]\nsubscibe = []",
            "2:1: unknown key `subscibe`; did you mean `subscribe`?",
        ),
        (
            "[plugins.a.limits]\nmemory = \"lots\"",
            "2:10: \"lots\" is not a size; write it like \"64MiB\" or 1024",
        ),
        (
            "[plugins.a.limits]\ntime = 5",
            "2:8: invalid type: integer `5`, expected a duration such as \"5s\"",
        ),
        (
            "[plugins.a]\nwire = \"jsn\"",
            "2:8: unknown value `jsn`; did you mean `json`?",
        ),
        (
            "[plugins.a]\npublish = [\"a b\"]",
            "2:11: topic \"a b\" contains ' '; white space and control characters are not allowed",
        ),
        (
            "[plugins.a]\nhttp = []\nsecrets = {}",
            "2:8: `http` is not supported by this version\n3:11: `secrets` is not supported by this version; a value in `config` may be `env:NAME` or `file:PATH`",
        ),
        (
            "[plugins.a.retry]\nmax_attempts = 0\nmultiplier = 0.5",
            "2:16: `max_attempts` is 0; it must be at least 1\n3:14: `multiplier` is 0.5; it must be 1 to 1000",
        ),
        (
            "[plugins.\"a b\"]",
            "1:10: \"a b\" cannot be the name of a plugin; use letters, digits, `-` and `_`",
        ),
        (
            "[plugins.a]\ndigest = \"abc\"",
            "2:10: a digest is `sha256:` and 64 hexadecimal digits in lower case; `sandbar inspect FILE` prints it",
        ),
        (
            "[plugins.a]\nconfig = { x = [1] }",
            "2:16: write text, a number, true or false; a plugin reads text",
        ),
        (
            "group = \"a.b\"",
            "1:9: \"a.b\" cannot be the name of a group; use letters, digits, `-` and `_`",
        ),
    ] {
        assert_eq!(refused(text), expected, "{text}");
    }
}

#[test]
fn an_empty_file_is_the_default() {
    let config = load("").unwrap();
    assert_eq!(
        (config.group.value.as_str(), config.group.source),
        ("sandbar", Source::Default)
    );
    assert_eq!(config.grace.value, DEFAULT_GRACE);
    assert!(config.plugins.is_empty());
}

#[test]
fn everything_that_can_be_written_is_read() {
    let config = load(
        r#"
        data = "d"
        group = "g"
        grace = "3s"
        log = "debug"
        [plugins.orders]
        subscribe = ["order.*"]
        publish = ["order.>", "audit"]
        request = ["stock.get"]
        state = true
        config = { currency = "EUR", digits = 2, strict = true, key = "env:ORDERS_KEY" }
        wire = "json"
        isolation = "message"
        [plugins.orders.limits]
        time = "300ms"
        memory = "16MiB"
        concurrency = 2
        [plugins.orders.retry]
        max_attempts = 2
        "#,
    )
    .unwrap();
    assert!(config.data.value.ends_with("d"));
    assert_eq!(
        config.grace,
        Sourced {
            value: Duration::from_secs(3),
            source: Source::File
        }
    );
    let orders = &config.plugins["orders"];
    assert_eq!(orders.limits.memory, 16 << 20);
    assert_eq!(orders.limits.isolation, Isolation::Message);
    assert_eq!(orders.limits.content, Limits::default().content);
    assert_eq!(orders.retry.max_attempts, 2);
    assert_eq!(orders.form, Form::Json);
    assert_eq!(orders.settings["digits"], Setting::Plain("2".to_owned()));
    assert_eq!(orders.settings["key"].to_string(), "env:ORDERS_KEY");
    assert_eq!(orders.grants.publish.len(), 2);
}

#[test]
fn a_broker_has_a_kind_and_options_of_its_own() {
    use crate::backend::{BrokerKind, Reach};
    let broker = load("").unwrap().broker;
    assert_eq!(
        (broker.kind, broker.reach()),
        (BrokerKind::Embedded, Reach::Folder)
    );
    let text = "[broker]\nkind = \"memory\"\n[broker.memory]\ncapacity = 7\n[broker.embedded]\nkept_for = \"1h\"";
    let broker = load(text).unwrap().broker;
    assert_eq!(
        (broker.kind, broker.memory.capacity),
        (BrokerKind::Memory, 7)
    );
    assert_eq!(broker.embedded.kept_for, Duration::from_secs(3600));
    for (text, expected) in [
        (
            "[broker]\nkind = \"embeded\"",
            "2:8: unknown value `embeded`; did you mean `embedded`?",
        ),
        (
            "[broker.memry]",
            "1:9: unknown key `memry`; did you mean `memory`?",
        ),
        (
            "[broker.memory]\ncapcity = 1",
            "2:1: unknown key `capcity`; did you mean `capacity`?",
        ),
    ] {
        assert_eq!(refused(text), expected);
    }
}

#[test]
fn flags_win_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sandbar.toml");
    std::fs::write(&file, "group = \"file\"").unwrap();
    let group = Sourced {
        value: "env".to_owned(),
        source: Source::Env,
    };
    let options = Options {
        config: Some(file),
        group: Some(group.clone()),
        ..Options::default()
    };
    assert_eq!(Config::load(options).unwrap().group, group);
}

#[test]
fn a_section_claims_the_file_of_its_name() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["a.wasm", "b.wasm", "notes.txt"] {
        std::fs::write(dir.path().join(file), "").unwrap();
    }
    let file = dir.path().join("sandbar.toml");
    let text = "plugin_dir = \".\"\n[plugins.a]\nstate = true\n[plugins.c]\nfile = \"b.wasm\"\n";
    std::fs::write(&file, text).unwrap();
    let options = || Options {
        config: Some(file.clone()),
        ..Options::default()
    };
    let served = Config::load(options()).unwrap().served(&[]).unwrap();
    let found: Vec<_> = served
        .iter()
        .map(|it| (it.spec.name.as_str(), it.spec.grants.state))
        .collect();
    assert_eq!(found, [("a", true), ("c", false)]);

    std::fs::write(&file, format!("{text}[plugins.d]\n")).unwrap();
    let error = Config::load(options()).unwrap().served(&[]).unwrap_err();
    assert!(error.to_string().ends_with("sandbar.toml:6:10: there is no file for plugin `d`; set `file`, or put d.wasm into the folder of plugins"), "{error}");
}
