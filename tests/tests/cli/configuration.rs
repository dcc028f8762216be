//! `sandbar.toml`: what is wrong with it is said with its place, and what is right is shown with its source.

use sandbar_tests::golden;
use sandbar_tests::process::{Folder, finish};

use crate::check;

#[test]
fn each_mistake_has_its_place() {
    for (name, text) in [
        ("config_syntax", "[plugins.echo\n"),
        ("config_top_key", "dta = \"here\"\n"),
        ("config_broker_key", "[broker]\nkimd = \"memory\"\n"),
        ("config_broker_kind", "[broker]\nkind = \"embeded\"\n"),
        ("config_broker_table", "[broker.embeded]\n"),
        (
            "config_broker_option",
            "[broker.embedded]\nkept_fro = \"1d\"\n",
        ),
        ("config_broker_zero", "[broker.embedded]\nwindow = 0\n"),
        ("config_client_key", "[client]\ntimout = \"1s\"\n"),
        ("config_defaults_key", "[defaults.limit]\ntime = \"1s\"\n"),
        (
            "config_key",
            "[plugins.echo]\nfile = \"plugins/echo.wasm\"\nsubscibe = [\"echo\"]\n",
        ),
        (
            "config_limits_key",
            "[plugins.echo.limits]\nmemroy = \"1MiB\"\n",
        ),
        ("config_retry_key", "[plugins.echo.retry]\nattempts = 3\n"),
        (
            "config_http",
            "[http]\nca = \"nowhere.pem\"\n[plugins.echo]\nhttp = [\"https://*.example.com/v1/*\", \"api.example.com\", \"https://api.example.com\", \"https://bücher.example/*\", \"https://a.example/x*\"]\n",
        ),
        ("config_type", "[plugins.echo.limits]\ntime = 5\n"),
        ("config_size", "[plugins.echo.limits]\nmemory = \"a lot\"\n"),
        ("config_duration", "grace = \"soon\"\n"),
        ("config_choice", "[plugins.echo]\nwire = \"jsn\"\n"),
        (
            "config_topic",
            "[plugins.echo]\npublish = [\"ok\", \"a..b\"]\n",
        ),
        ("config_digest", "[plugins.echo]\ndigest = \"sha256:abc\"\n"),
        ("config_name", "[plugins.\"my echo\"]\n"),
        ("config_group", "group = \"my.group\"\n"),
        ("config_log", "log = \"loud\"\n"),
        (
            "config_setting",
            "[plugins.echo]\nconfig = { list = [1, 2] }\n",
        ),
        (
            "config_zero",
            "[plugins.echo.limits]\nconcurrency = 0\nmemory = 0\ntime = \"0s\"\n",
        ),
        ("config_near_file", "[plugins.ecko]\nstate = true\n"),
        (
            "config_table",
            "limits = {}\ndata = {}\nbroker = 1\n[plugins.echo]\npublish = true\n",
        ),
        (
            "config_whole_number",
            "[defaults.limits]\nheaders = -1\nconcurrency = \"many\"\n",
        ),
        (
            "config_breaker",
            "[plugins.echo.breaker]\nfailures = 1.5\npause = \"0s\"\n",
        ),
        (
            "config_rate",
            "[defaults.limits]\nrate = 0\n[defaults.breaker]\nat_lest = 3\nat_least = 0\n[plugins.echo.limits]\nrate = 0.5\n",
        ),
        ("config_empty_list", "[plugins.echo]\nsubscribe = []\n"),
        (
            "config_contradiction",
            "[plugins.echo.limits]\nmemory = \"1MiB\"\ncontent = \"2MiB\"\n[plugins.echo.retry]\ninitial = \"2h\"\n",
        ),
        ("config_file", "[plugins.echo]\nfile = \"missing.wasm\"\n"),
        ("config_no_file", "[plugins.other]\nstate = true\n"),
        (
            "config_env",
            "[plugins.echo]\nfile = \"plugins/echo.wasm\"\nconfig = { key = \"env:NOT_SET_ANYWHERE\" }\n",
        ),
        (
            "config_secret_file",
            "[plugins.echo]\nfile = \"plugins/echo.wasm\"\nconfig = { key = \"file:not/there\" }\n",
        ),
        (
            "config_everything",
            "dta = 1\ngrace = 5\n[broker]\nkind = \"memry\"\n[plugins.echo]\nfile = \"missing.wasm\"\npublish = [\"a b\", \"c..d\"]\n[plugins.echo.limits]\nmemory = \"lots\"\ntime = \"0s\"\n[plugins.other]\nconfig = { key = \"env:NOT_SET_ANYWHERE\" }\n",
        ),
    ] {
        let folder = Folder::new();
        folder.guest("echo", "plugins/echo.wasm");
        folder.write("sandbar.toml", text);
        assert_eq!(
            check(name, &folder, &["config", "check"]).code,
            Some(64),
            "{name}"
        );
        // A host says the same.
        assert_eq!(folder.run(["run"]).code, Some(64), "{name}");
    }
}

#[test]
fn each_mistake_in_the_environment_has_its_variable() {
    for (name, variable, value) in [
        (
            "variable_value",
            "SANDBAR_PLUGINS__ECHO__LIMITS__TIME",
            "soon",
        ),
        ("variable_type", "SANDBAR_PLUGINS__ECHO__STATE", "maybe"),
        (
            "variable_list",
            "SANDBAR_PLUGINS__ECHO__PUBLISH",
            "ok, a..b",
        ),
        (
            "variable_unknown",
            "SANDBAR_PLUGINS__ECHO__LIMITS__TYME",
            "1s",
        ),
        ("variable_unlike", "SANDBAR_PLUGINS__ECHO__XYZ", "1"),
        ("variable_top", "SANDBAR_GRUP", "a"),
        ("variable_table", "SANDBAR_PLUGINS__ECHO__LIMITS", "1"),
        ("variable_rate", "SANDBAR_PLUGINS__ECHO__LIMITS__RATE", "0"),
        (
            "variable_breaker",
            "SANDBAR_DEFAULTS__BREAKER__FAILURES",
            "150",
        ),
        ("variable_kind", "SANDBAR_BROKER__KIND", "embeded"),
        ("variable_option", "SANDBAR_BROKER__EMBEDDED__WINDW", "7"),
        (
            "variable_reference",
            "SANDBAR_PLUGINS__ECHO__CONFIG__KEY",
            "env:NOT_SET_ANYWHERE",
        ),
        ("variable_flag", "SANDBAR_GRACE", "soon"),
        ("variable_no_file", "SANDBAR_CONFIG", "nope.toml"),
    ] {
        let folder = Folder::new();
        folder.guest("echo", "echo.wasm");
        folder.write("sandbar.toml", "[plugins.echo]\nfile = \"echo.wasm\"\n");
        let mut command = folder.command(["config", "check"]);
        command.env(variable, value);
        let finished = finish(command, b"");
        golden::check(name, folder.path(), &finished);
        assert_eq!(finished.code, Some(64), "{name}");
    }
}

#[test]
fn variables_of_others_are_left_alone() {
    let folder = Folder::new();
    folder.guest("echo", "plugins/my-echo.wasm");
    let text = "[plugins.my-echo]\nconfig = { key = \"env:SANDBAR_OWN__KEY\" }\n";
    folder.write("sandbar.toml", text);
    let mut command = folder.command(["config", "check"]);
    command
        .env("SANDBAR_PORT", "tcp://10.0.0.7:80")
        .env("SANDBAR_OWN__KEY", "x")
        .env("SANDBAR_GRACE", "")
        .env("SANDBAR_SEND_KEY", "for another verb")
        .env("SANDBAR_PLUGINS__MY_ECHO__STATE", "true");
    let finished = finish(command, b"");
    assert_eq!(finished.stderr, "sandbar.toml is valid; plugins: 1\n");

    // A plugin needs no table in the file for that.
    std::fs::remove_file(folder.path().join("sandbar.toml")).unwrap();
    let mut command = folder.command(["config", "show", "--json"]);
    command.env("SANDBAR_PLUGINS__MY_ECHO__STATE", "true");
    let shown: serde_json::Value = serde_json::from_str(&finish(command, b"").stdout).unwrap();
    assert_eq!(
        shown["plugins"]["my_echo"]["state"],
        serde_json::json!({ "value": true, "source": "env" })
    );
    let mut command = folder.command(["config", "check"]);
    command.env("SANDBAR_PLUGINS__MY_ECHO__STATE", "true");
    assert_eq!(finish(command, b"").code, Some(0));
}

#[test]
fn what_applies_is_shown_with_its_source_and_without_secrets() {
    let folder = Folder::new();
    folder.guest("echo", "echo.wasm");
    let text = "group = \"orders\"\n[defaults.limits]\ntime = \"1s\"\n[plugins.echo]\nfile = \"echo.wasm\"\npublish = [\"a.>\"]\nconfig = { key = \"env:ECHO_KEY\", n = 3, \"a key\" = true }\n";
    folder.write("sandbar.toml", text);
    let mut command = folder.command(["config", "show", "--data", "elsewhere"]);
    command
        .env("SANDBAR_GRACE", "3s")
        .env("SANDBAR_PLUGINS__ECHO__LIMITS__MEMORY", "32MiB")
        .env("ECHO_KEY", "the secret itself");
    let shown = finish(command, b"");
    golden::check("config_show", folder.path(), &shown);
    assert!(!shown.stdout.contains("the secret itself"));

    let mut command = folder.command(["config", "show", "--json"]);
    command.env("SANDBAR_DATA", "from-env");
    let json: serde_json::Value = serde_json::from_str(&finish(command, b"").stdout).unwrap();
    assert_eq!(
        json["data"],
        serde_json::json!({ "value": "from-env", "source": "env" })
    );
    assert_eq!(json["group"]["source"], "file");
    assert_eq!(json["grace"]["source"], "default");
    assert_eq!(
        json["plugins"]["echo"]["config"]["key"],
        serde_json::json!({ "value": "env:ECHO_KEY", "source": "file" })
    );
    assert_eq!(
        json["plugins"]["echo"]["limits"]["time"],
        serde_json::json!({ "value": "1s", "source": "file, [defaults.limits]" })
    );

    // What is shown can be read again.
    folder.write("again.toml", &shown.stdout);
    let mut again = folder.command(["config", "check", "--config", "again.toml"]);
    again.env("ECHO_KEY", "x");
    assert_eq!(finish(again, b"").code, Some(0));
}
