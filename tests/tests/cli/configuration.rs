//! `sandbar.toml`: what is wrong with it is said with its place, and what is right is shown with its source.

use sandbar_tests::golden;
use sandbar_tests::process::{Folder, finish};

use crate::check;

#[test]
fn each_mistake_has_its_place() {
    for (name, text) in [
        (
            "config_key",
            "[plugins.echo]\nfile = \"echo.wasm\"\nsubscibe = [\"echo\"]\n",
        ),
        ("config_top_key", "dta = \"here\"\n"),
        ("config_type", "[plugins.echo.limits]\ntime = 5\n"),
        ("config_size", "[plugins.echo.limits]\nmemory = \"a lot\"\n"),
        ("config_file", "[plugins.echo]\nfile = \"missing.wasm\"\n"),
        ("config_no_file", "[plugins.echo]\nstate = true\n"),
        ("config_syntax", "[plugins.echo\n"),
        ("config_later", "[plugins.echo]\nhttp = []\nsecrets = {}\n"),
        (
            "config_env",
            "[plugins.echo]\nfile = \"echo.wasm\"\nconfig = { key = \"env:NOT_SET_ANYWHERE\" }\n",
        ),
        ("config_topic", "[plugins.echo]\npublish = [\"a..b\"]\n"),
    ] {
        let folder = Folder::new();
        folder.guest("echo", "echo.wasm");
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
fn what_applies_is_shown_with_its_source_and_without_secrets() {
    let folder = Folder::new();
    folder.guest("echo", "echo.wasm");
    let text = "group = \"orders\"\n[plugins.echo]\nfile = \"echo.wasm\"\npublish = [\"a.>\"]\nconfig = { key = \"env:ECHO_KEY\", n = 3 }\n";
    folder.write("sandbar.toml", text);
    let mut command = folder.command(["config", "show", "--data", "elsewhere"]);
    command
        .env("SANDBAR_GRACE", "3s")
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
    assert_eq!(json["plugins"]["echo"]["config"]["key"], "env:ECHO_KEY");

    // What is shown can be read again.
    folder.write("again.toml", &shown.stdout);
    let mut again = folder.command(["config", "check", "--config", "again.toml"]);
    again.env("ECHO_KEY", "x");
    assert_eq!(finish(again, b"").code, Some(0));
}
