//! Each way to get a configuration wrong, and what is made of a right one.

use super::*;
use crate::plugin::Isolation;

fn load(text: &str) -> Result<Config, ConfigError> {
    load_with(text, &[])
}

/// A file and an environment.
pub(super) fn load_with(text: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sandbar.toml");
    std::fs::write(&file, text).unwrap();
    let environment = environment.iter();
    Config::load(Options {
        file: FileChoice::Named(file),
        environment: environment
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
        other_variables: vec!["SANDBAR_SEND_KEY".to_owned()],
        ..Options::default()
    })
}

/// What is said of a text, without the folder.
fn refused(text: &str) -> String {
    refused_with(text, &[])
}

fn refused_with(text: &str, environment: &[(&str, &str)]) -> String {
    let error = load_with(text, environment).unwrap_err();
    let lines: Vec<String> = error
        .0
        .iter()
        .map(|problem| match problem.place.as_ref().unwrap() {
            Place::File { position, .. } => {
                let (line, column) = position.unwrap();
                format!("{line}:{column}: {}", problem.message)
            }
            Place::Variable(name) => format!("{name}: {}", problem.message),
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
            "2:12: topic \"a b\" contains ' '; white space and control characters are not allowed",
        ),
        (
            "[plugins.a]\nhttp = [\"https://a.example/*\", \"http://b\"]\nsecrets = { k = \"v\" }",
            "2:32: \"http://b\" is no pattern of addresses: it ends with the host; add `/*` for everything there, or a path\n3:17: a secret does not stand in the file; write `env:NAME` or `file:PATH`, where it is",
        ),
        (
            "[plugins.a.retry]\nmax_attempts = 0\nmultiplier = 0.5",
            "2:16: `max_attempts` is 0; it must be more than that\n3:14: `multiplier` is 0.5; it must be 1 to 1000",
        ),
        (
            "[plugins.a]\nweight = 11",
            "2:10: `weight` is 11; it must be 1 to 10",
        ),
        (
            "[plugins.a.limits]\ntable_elements = 100001\ncompile_time = \"0s\"",
            "2:18: `table_elements` is 100001; the engine has room for 100000\n3:16: `compile_time` is 0; it must be more than that",
        ),
        (
            "[engine]\nstack = \"5MiB\"",
            "2:9: `stack` is 5MiB; it must be 64KiB to 4MiB",
        ),
        (
            "[plugins.a.limits]\ncontent = \"32MiB\"\n[plugins.b.limits]\nstate_total = \"1KiB\"",
            "2:11: `content` is 32MiB and `hostcall_fuel` only 16MiB; lower the one or raise the other\n4:15: `state_value` is 256KiB and `state_total` only 1KiB; lower the one or raise the other",
        ),
        (
            "[plugins.\"a b\"]",
            "1:10: \"a b\" cannot be the name of a plugin or a group; use 1 to 100 letters, digits, `-` and `_`",
        ),
        (
            "[plugins.a]\ndigest = \"abc\"",
            "2:10: a digest is `sha256:` and 64 hexadecimal digits in lower case; `sandbar inspect FILE` prints it",
        ),
        (
            "[plugins.a]\nconfig = { x = [1] }",
            "2:16: invalid type: list, expected text, a number, true or false",
        ),
        (
            "group = \"a.b\"",
            "1:9: \"a.b\" cannot be the name of a plugin or a group; use 1 to 100 letters, digits, `-` and `_`",
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
        [client]
        timeout = "2s"
        maxsize = 9
        [dead_letters]
        keep = "2d"
        most = 1000
        [plugins.orders]
        subscribe = ["order.*"]
        publish = ["order.>", "audit"]
        request = ["stock.get"]
        state = true
        config = { currency = "EUR", digits = 2, strict = true, key = "env:ORDERS_KEY" }
        wire = "json"
        dead_letter_queue = "orders.dead"
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
    assert_eq!(config.request_timeout.value, Duration::from_secs(2));
    assert_eq!(config.client_pool.maxsize, 9);
    let orders = &config.plugins["orders"];
    assert_eq!(orders.limits.memory, 16 << 20);
    assert_eq!(orders.limits.isolation, Isolation::Message);
    assert_eq!(orders.limits.content, Limits::default().content);
    assert_eq!(orders.retry.max_attempts, 2);
    assert_eq!(orders.form, Form::Json);
    assert_eq!(orders.settings["digits"], Setting::Plain("2".to_owned()));
    assert_eq!(orders.settings["key"].to_string(), "env:ORDERS_KEY");
    assert_eq!(orders.grants.publish.len(), 2);
    let queue = orders.dead_letter_queue.as_ref().unwrap();
    assert_eq!(queue.as_str(), "orders.dead");
    let keep = Duration::from_secs(2 * 24 * 60 * 60);
    assert_eq!(config.dead_letters, Retention { keep, most: 1000 });
}

#[cfg(feature = "postgres")]
#[test]
fn passwords_are_not_shown() {
    for (url, shown) in [
        ("postgres://u:p@s@h:1/d?a=b", "postgres://u:***@h:1/d?a=b"),
        (
            "postgres://u@h/d?password=p&a=b",
            "postgres://u@h/d?password=***&a=b",
        ),
        ("postgres://u@h/d", "postgres://u@h/d"),
        ("env:DATABASE_URL", "env:DATABASE_URL"),
    ] {
        let config = load(&format!("[broker.postgres]\nurl = \"{url}\"")).unwrap();
        let mut all = config.shown().into_iter();
        let found = all.find(|entry| entry.keys == ["broker", "postgres", "url"]);
        assert_eq!(found.unwrap().value.unwrap(), shown);
    }
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
fn flags_win_over_the_environment_and_that_over_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("sandbar.toml");
    std::fs::write(&file, "group = \"file\"").unwrap();
    let load = |environment: Vec<(String, String)>, group: Option<&str>| {
        let options = Options {
            file: FileChoice::Named(file.clone()),
            environment,
            flags: Flags {
                group: group.map(str::to_owned),
                ..Flags::default()
            },
            ..Options::default()
        };
        let group = Config::load(options).unwrap().group;
        (group.value, group.source)
    };
    let variable = || vec![("SANDBAR_GROUP".to_owned(), "env".to_owned())];
    assert_eq!(load(vec![], None), ("file".to_owned(), Source::File));
    assert_eq!(load(variable(), None), ("env".to_owned(), Source::Env));
    assert_eq!(
        load(variable(), Some("flag")),
        ("flag".to_owned(), Source::Flag)
    );
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
        file: FileChoice::Named(file.clone()),
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

#[test]
fn everything_that_is_wrong_is_found_at_once() {
    let text = "\
grop = \"a\"
grace = 5
[defaults.retry]
initial = \"2m\"
[plugins.a]
publish = [\"x..y\", \"ok\", \"a b\"]
state = \"yes\"
[plugins.b.limits]
memory = \"lots\"
time = \"0s\"
";
    let expected = "\
1:1: unknown key `grop`; did you mean `group`?
2:9: invalid type: integer `5`, expected a duration such as \"5s\"
4:11: `initial` is 2m and `max` only 1m; lower the one or raise the other
6:12: topic `x..y` has an empty token; write one dot between tokens and none at the ends
6:26: topic \"a b\" contains ' '; white space and control characters are not allowed
7:9: invalid type: string \"yes\", expected true or false
9:10: \"lots\" is not a size; write it like \"64MiB\" or 1024
10:8: `time` is 0; it must be more than that
SANDBAR_GRUP: there is no such key; did you mean SANDBAR_GROUP?
SANDBAR_PLUGINS__A__LIMITS__TIME: \"soon\" is not a duration; write it like \"5s\" or \"300ms\"";
    let environment = [
        ("SANDBAR_PLUGINS__A__LIMITS__TIME", "soon"),
        ("SANDBAR_GRUP", "b"),
    ];
    assert_eq!(refused_with(text, &environment), expected);
}

#[test]
fn variables_stand_for_keys() {
    let text = "[plugins.my-Plugin]\nconfig = { apiKey = \"a\" }\n[plugins.my-Plugin.limits]\ntime = \"1s\"\n";
    let environment = [
        ("SANDBAR_BROKER__KIND", "memory"),
        ("SANDBAR_BROKER__MEMORY__CAPACITY", "12"),
        ("SANDBAR_DEFAULTS__LIMITS__MEMORY", "8MiB"),
        ("SANDBAR_PLUGINS__MY_PLUGIN__LIMITS__TIME", "7s"),
        ("SANDBAR_PLUGINS__MY_PLUGIN__PUBLISH", "a.*, b"),
        ("SANDBAR_PLUGINS__MY_PLUGIN__REQUEST", "[\"c\"]"),
        ("SANDBAR_PLUGINS__MY_PLUGIN__STATE", "true"),
        (
            "SANDBAR_PLUGINS__MY_PLUGIN__CONFIG__APIKEY",
            "env:SANDBAR_ANY__THING",
        ),
        ("SANDBAR_PLUGINS__MY_PLUGIN__RETRY__MULTIPLIER", "3"),
        ("SANDBAR_PLUGINS__OTHER__STATE", "true"),
        ("SANDBAR_SEND_KEY", "of a verb"),
        ("SANDBAR_PORT", "of somebody else"),
    ];
    let config = load_with(text, &environment).unwrap();
    assert_eq!(config.broker.memory.capacity, 12);
    let plugin = &config.plugins["my-Plugin"];
    assert_eq!(plugin.limits.time, Duration::from_secs(7));
    assert_eq!(plugin.limits.memory, 8 << 20);
    let publish: Vec<&str> = plugin.grants.publish.iter().map(|it| it.as_str()).collect();
    assert_eq!(publish, ["a.*", "b"]);
    assert_eq!(plugin.grants.request.len(), 1);
    assert!(plugin.grants.state && config.plugins["other"].grants.state);
    assert_eq!(
        plugin.settings["apiKey"].to_string(),
        "env:SANDBAR_ANY__THING"
    );
    assert_eq!(plugin.retry.multiplier, 3.0);

    let shown = config.shown();
    let of = |keys: &[&str]| {
        let entry = shown.iter().find(|it| it.keys == keys).unwrap();
        (entry.source, entry.inherited)
    };
    assert_eq!(
        of(&["plugins", "my-Plugin", "limits", "time"]),
        (Source::Env, false)
    );
    assert_eq!(
        of(&["plugins", "my-Plugin", "limits", "memory"]),
        (Source::Env, true)
    );
    assert_eq!(
        of(&["plugins", "my-Plugin", "limits", "content"]),
        (Source::Default, false)
    );
    assert_eq!(of(&["broker", "kind"]), (Source::Env, false));
}

#[test]
fn variables_that_stand_for_nothing_are_refused() {
    for (name, value, expected) in [
        (
            "SANDBAR_PLUGINS__A__LIMITS__TYME",
            "1s",
            "there is no such key; did you mean SANDBAR_PLUGINS__A__LIMITS__TIME?",
        ),
        (
            "SANDBAR_BROKR__MEMORY__CAPACITY",
            "1",
            "there is no such key; did you mean SANDBAR_BROKER__MEMORY__CAPACITY?",
        ),
        (
            "SANDBAR_DEFAULTS__XYZ",
            "1",
            "there is no key XYZ; use one of BREAKER, LIMITS, RETRY in its place",
        ),
        (
            "SANDBAR_PLUGINS__A",
            "1",
            "`plugins.a` is a table; name one of its keys, such as SANDBAR_PLUGINS__A__BREAKER",
        ),
        (
            "SANDBAR_SEND_KEYS",
            "1",
            "there is no such key; did you mean SANDBAR_SEND_KEY?",
        ),
        (
            "SANDBAR_PLUGINS__A__PUBLISH",
            "[\"a\"",
            "\"[\\\"a\\\"\" is no list: unclosed array, expected `]`",
        ),
        (
            "SANDBAR_PLUGINS__A__STATE",
            "yes",
            "invalid type: string \"yes\", expected true or false",
        ),
        (
            "SANDBAR_PLUGINS__A__PUBLISH",
            "ok,a..b",
            "topic `a..b` has an empty token; write one dot between tokens and none at the ends",
        ),
    ] {
        assert_eq!(
            refused_with("", &[(name, value)]),
            format!("{name}: {expected}")
        );
    }
    let twice = [
        ("SANDBAR_PLUGINS__A__STATE", "true"),
        ("SANDBAR_PLUGINS__a__STATE", "true"),
    ];
    assert_eq!(
        refused_with("", &twice),
        "SANDBAR_PLUGINS__a__STATE: it stands for the same key as SANDBAR_PLUGINS__A__STATE; unset one of them"
    );
}
