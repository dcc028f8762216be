//! The schema of `sandbar.toml` and its reference: true of the reader, and up to date.

use std::path::{Path, PathBuf};

use sandbar::config::{Config, FileChoice, Options, Source, reference, schema, variable};
use sandbar_tests::process::Folder;
use sandbar_tests::schema::violations;
use serde_json::{Value, json};

/// Reads a file of this text in an environment.
fn load(text: &str, environment: Vec<(String, String)>) -> Result<Config, String> {
    let folder = Folder::new();
    let file = folder.write("sandbar.toml", text);
    let options = Options {
        file: FileChoice::Named(file),
        environment,
        ..Options::default()
    };
    Config::load(options).map_err(|error| error.to_string())
}

/// TOML as JSON, to validate it.
fn json_of(text: &str) -> Value {
    toml::from_str::<Value>(text).unwrap()
}

/// Every key of the schema with its own schema; names that users choose are `x`.
fn keys(schema: &Value, path: &[&str], found: &mut Vec<(Vec<String>, Value)>) {
    let inner = schema["properties"].as_object().into_iter().flatten();
    let inner = inner.map(|(key, schema)| (key.as_str(), schema));
    let patterns = schema["patternProperties"]
        .as_object()
        .into_iter()
        .flatten();
    let chosen = patterns.map(|(_, schema)| ("x", schema));
    let others = Some(&schema["additionalProperties"]).filter(|it| it.is_object());
    let others = others.into_iter().map(|schema| ("x", schema));
    for (key, schema) in inner.chain(chosen).chain(others) {
        let path = [path, &[key]].concat();
        if schema["type"] == "object" {
            keys(schema, &path, found);
        } else {
            found.push((
                path.iter().map(ToString::to_string).collect(),
                schema.clone(),
            ));
        }
    }
}

/// A value that the schema allows.
fn example(schema: &Value) -> Value {
    if let Some(items) = schema.get("items") {
        return json!([example(items)]);
    }
    let candidates = [
        schema.get("default").cloned(),
        schema["examples"].get(0).cloned(),
        schema["oneOf"][0].get("const").cloned(),
        schema["enum"].get(0).cloned(),
        schema.get("minimum").cloned(),
        schema.get("maximum").cloned(),
        Some(json!("sha256:".to_owned() + &"0".repeat(64))),
        Some(json!("x")),
        Some(json!(true)),
    ];
    let mut allowed = candidates.into_iter().flatten();
    allowed
        .find(|it| violations(schema, it).is_empty())
        .unwrap_or_else(|| panic!("{schema}"))
}

#[test]
fn every_key_of_the_schema_is_read_from_file_and_environment() {
    let schema = schema();
    let mut all = Vec::new();
    keys(&schema, &[], &mut all);
    assert!(all.len() > 50, "{}", all.len());
    for (path, node) in all {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        assert!(
            node["description"]
                .as_str()
                .is_some_and(|text| text.ends_with('.')),
            "{path:?} has no description: {node}"
        );
        let value = example(&node);
        let (key, tables) = path.split_last().unwrap();
        let heading = tables.join(".");
        let heading = if tables.is_empty() {
            String::new()
        } else {
            format!("[{heading}]\n")
        };
        let text = format!(
            "{heading}{key} = {}\n",
            toml::Value::try_from(&value).unwrap()
        );
        assert_eq!(violations(&schema, &json_of(&text)), [""; 0], "{text}");
        let source = |config: Config| {
            let shown = config.shown();
            shown
                .iter()
                .find(|it| it.keys == path)
                .map(|it| (it.source, it.value.clone()))
        };
        let from_file = source(load(&text, vec![]).unwrap());
        assert_eq!(
            from_file.as_ref().map(|it| it.0),
            Some(Source::File),
            "{text}"
        );

        // The same from the environment.
        let text = match &value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let environment = vec![(variable(path.iter().copied()), text)];
        let from_environment = source(load("", environment).unwrap());
        let (_, expected) = from_file.unwrap();
        // A path in a file is relative to that file.
        if node["x-type"] != "path" {
            assert_eq!(from_environment, Some((Source::Env, expected)), "{path:?}");
        }
    }
}

#[test]
fn every_key_that_can_be_written_is_in_the_schema() {
    let text = "[plugins.a]\nfile = \"a.wasm\"\nsubscribe = [\"a\"]\ndigest = \"sha256:0000000000000000000000000000000000000000000000000000000000000000\"\ndead_letter_queue = \"d\"\nreceiving = \"direct\"\nhttp = [\"https://a.example/*\"]\nconfig = { k = 1 }\n";
    let config = load(
        &format!(
            "plugin_dir = \"p\"\nlog = \"info\"\n[defaults.limits]\nrate = 9\n[admin]\nlisten = \"127.0.0.1:9464\"\ntoken = \"env:T\"\n[cache]\ndir = \"c\"\n[broker.rabbitmq]\nca = \"file:ca.pem\"\n[http]\nca = \"ca.pem\"\n{text}"
        ),
        vec![],
    )
    .unwrap();
    // What is shown is made of the types that read the file, key by key.
    let mut shown = json!({});
    for entry in config.shown() {
        let table = entry
            .keys
            .iter()
            .fold(&mut shown, |node, key| &mut node[key]);
        *table = entry
            .value
            .unwrap_or_else(|| panic!("{:?} is not set", entry.keys));
    }
    assert_eq!(violations(&schema(), &shown), [""; 0]);
}

#[test]
fn the_schema_allows_what_the_reader_does() {
    let schema = schema();
    for (good, text) in [
        (true, ""),
        (
            true,
            "[plugins.a]\nstate = true\npublish = [\"a.*\", \"b.>\"]\nconfig = { n = 1, t = \"x\", b = false }\n",
        ),
        (
            true,
            "[plugins.a.limits]\nmemory = 1048576\ntime = \"1m 30s\"\ncontent = \"1.5KiB\"\n",
        ),
        (
            true,
            "[broker]\nkind = \"memory\"\n[broker.memory]\ncapacity = 1\n",
        ),
        (true, "[defaults.retry]\nmultiplier = 1\n"),
        (false, "dta = \"x\""),
        (false, "grace = 5"),
        (false, "grace = \"soon\""),
        (false, "group = \"a.b\""),
        (false, "log_format = \"xml\""),
        (false, "[broker]\nkind = \"embeded\""),
        (
            false,
            "[broker]\nkind = \"memory\"\n[broker.memory]\ncapacity = 0",
        ),
        (false, "[broker.memory]\nsize = 1"),
        (false, "[broker.embedded]\nkept_for = 7"),
        (false, "[client]\ntimeout = true"),
        (false, "[defaults.limits]\nconcurrency = 0"),
        (false, "[defaults.limits]\nmemory = \"lots\""),
        (false, "[defaults.limits]\nmemory = -1"),
        (false, "[defaults.retry]\nmultiplier = 0.5"),
        (false, "[defaults.retry]\nmax_attempts = 0"),
        (true, "[defaults.breaker]\nenabled = false\nfailures = 1\n"),
        (false, "[defaults.breaker]\nfailures = 0"),
        (false, "[defaults.breaker]\nfailures = 1.5"),
        (false, "[defaults.limits]\nrate = 0"),
        (false, "[plugins.\"a b\"]"),
        (false, "[plugins.a]\nstate = \"yes\""),
        (false, "[plugins.a]\npublish = \"a\""),
        (false, "[plugins.a]\npublish = [\"a..b\"]"),
        (false, "[plugins.a]\nsubscribe = []"),
        (false, "[plugins.a]\ndigest = \"abc\""),
        (false, "[plugins.a]\nconfig = { x = [1] }"),
        (false, "[plugins.a]\nisolation = \"none\""),
        (true, "[plugins.a]\nweight = 10\n"),
        (false, "[plugins.a]\nweight = 0"),
        (false, "[plugins.a]\nweight = 11"),
    ] {
        let wrong = violations(&schema, &json_of(text));
        assert_eq!(wrong.is_empty(), good, "{text}: {wrong:?}");
        assert_eq!(load(text, vec![]).is_ok(), good, "{text}");
    }
}

#[test]
fn the_command_prints_it() {
    // It is about the format; a file that is there does not matter.
    let folder = Folder::new();
    folder.write("sandbar.toml", "wrong = ");
    let printed = folder.run(["config", "schema"]);
    assert_eq!(
        serde_json::from_str::<Value>(&printed.stdout).unwrap(),
        schema()
    );
    assert_eq!((printed.code, printed.stderr.as_str()), (Some(0), ""));
    up_to_date("sandbar.schema.json", |_| printed.stdout.clone());
}

#[test]
fn the_reference_is_up_to_date() {
    const BEGIN: &str = "<!-- generated from the types; a test keeps it true -->\n";
    up_to_date("configuration.md", |text| {
        let (written, _) = text.split_once(BEGIN).unwrap();
        format!("{written}{BEGIN}{}", reference())
    });
}

/// Compares a document with what it should be; writes it when golden files are written.
fn up_to_date(name: &str, expected: impl FnOnce(&str) -> String) {
    let file: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name);
    let text = std::fs::read_to_string(&file).unwrap_or_default();
    let expected = expected(&text);
    if std::env::var_os("INSTA_UPDATE").is_some_and(|update| update == "always") {
        std::fs::write(&file, expected).unwrap();
    } else {
        assert!(
            text == expected,
            "docs/{name} is out of date; run the tests with INSTA_UPDATE=always and read the difference"
        );
    }
}
