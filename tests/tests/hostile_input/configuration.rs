//! The configuration: its text, and the variables that say the same.

use super::*;

use sandbar::config::{FileChoice, Options};

const FULL: &str = include_str!("../../golden/config_show.snap");

const REAL: [&str; 4] = [
    "group = \"shop\"\n[broker.embedded]\nkept_for = \"2d\"\n[defaults.limits]\ntime = \"2s\"\nmemory = \"64MiB\"\n",
    "[plugins.orders]\nfile = \"orders.wasm\"\npublish = [\"order.created\", \"audit.>\"]\nstate = true\nweight = 8\nconfig = { currency = \"EUR\", key = \"env:KEY\", pem = \"file:/a.pem\" }\n[plugins.orders.limits]\nrate = 200\n[plugins.orders.retry]\nmax_attempts = 10\nmultiplier = 1.5\n[plugins.orders.breaker]\nfailures = 0.8\npause = \"30s\"\n",
    "[broker]\nkind = \"rabbitmq\"\n[broker.rabbitmq]\nurl = \"amqp://user:secret@127.0.0.1:5672/%2f\"\nreceiving = \"queued\"\n",
    "[client]\ntimeout = \"5s\"\nmaxsize = 5\n[dead_letters]\nkeep = \"30d\"\nmost = 100000\n[cache]\nsize = \"1GiB\"\ntrusted_keys = []\n",
];

fn load(file: Option<&str>, environment: Vec<(String, String)>) -> TestCaseResult {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("sandbar.toml");
    let options = Options {
        file: match file {
            Some(text) => {
                std::fs::write(&path, text).unwrap();
                FileChoice::Named(path)
            }
            None => FileChoice::Nothing,
        },
        environment,
        ..Options::default()
    };
    match sandbar::config::Config::load(options) {
        Ok(config) => prop_assert!(!config.shown().is_empty()),
        Err(error) => prop_assert!(!error.to_string().is_empty()),
    }
    Ok(())
}

#[test]
fn a_file_is_refused_or_read() {
    // What `config show` writes is a configuration again, after the head of the golden file.
    let (_, shown) = FULL.split_once("stdout\n").unwrap();
    let texts = changed_text(&[REAL[0], REAL[1], REAL[2], REAL[3], shown]);
    check("configurations", 400, &texts, |text| {
        load(Some(&text), Vec::new())
    });
}

#[test]
fn a_variable_is_refused_or_read() {
    let names = changed_text(&[
        "SANDBAR_GROUP",
        "SANDBAR_BROKER__EMBEDDED__KEPT_FOR",
        "SANDBAR_PLUGINS__ORDERS__PUBLISH",
        "SANDBAR_PLUGINS__ORDERS__CONFIG__CURRENCY",
        "SANDBAR_DEFAULTS__LIMITS__MEMORY",
        "SANDBAR_PLUGINS__A__WEIGHT",
    ]);
    let values = changed_text(&[
        "shop",
        "2d",
        "order.created, audit.>",
        "[\"a\"]",
        "64MiB",
        "7",
        "true",
    ]);
    let variables = prop::collection::vec((names, values), 1..4);
    check("variables", 400, &variables, |environment| {
        load(None, environment)
    });
}
