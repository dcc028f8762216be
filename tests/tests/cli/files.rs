//! Files that are no plugins, and plugins that cannot be served together.

use sandbar_tests::guests::guest;
use sandbar_tests::process::Folder;

use crate::check;

/// One file of each kind that is refused.
fn refused() -> Folder {
    let folder = Folder::new();
    folder.write("text.wasm", "this is no component");
    folder.write("empty.wasm", "");
    folder.write("module.wasm", wat::parse_str("(module)").unwrap());
    let world = r#"(component (component $c) (instance $i (instantiate $c)) (export "some:other/world@1.0.0" (instance $i)))"#;
    folder.write("world.wasm", wat::parse_str(world).unwrap());
    let whole = std::fs::read(guest("echo")).unwrap();
    folder.write("truncated.wasm", &whole[..whole.len() / 2]);
    folder
}

#[test]
fn what_is_no_plugin_is_refused_with_what_it_is() {
    let folder = refused();
    for kind in ["text", "empty", "module", "world", "truncated"] {
        let file = format!("{kind}.wasm");
        let finished = check(&format!("refused_{kind}"), &folder, &["run", &file]);
        assert_eq!(finished.code, Some(1), "{kind}");
    }
    check("inspect_module", &folder, &["inspect", "module.wasm"]);
}

#[test]
fn check_finds_everything_at_once() {
    let folder = refused();
    folder.guest("echo", "echo.wasm");
    folder.guest("echo", "copy.wasm");
    let files = [
        "check",
        "text.wasm",
        "empty.wasm",
        "echo.wasm",
        "world.wasm",
        "copy.wasm",
    ];
    assert_eq!(check("check_problems", &folder, &files).code, Some(1));
    assert_eq!(
        check("check_good", &folder, &["check", "echo.wasm"]).code,
        Some(0)
    );

    let json = folder.run(["check", "echo.wasm", "copy.wasm", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(report["plugins"][0]["routes"][0]["topic"], "echo");
    assert_eq!(report["problems"].as_array().unwrap().len(), 1);
    assert_eq!(json.code, Some(1));
}

#[test]
fn two_plugins_for_one_command_are_refused_by_name() {
    let folder = Folder::new();
    folder.guest("echo", "plugins/a.wasm");
    folder.guest("echo", "plugins/b.wasm");
    assert_eq!(check("conflict_route", &folder, &["run"]).code, Some(1));
    folder.guest("echo", "other/a.wasm");
    let same = ["run", "other/a.wasm", "--plugins", "plugins"];
    assert_eq!(check("conflict_name", &folder, &same).code, Some(64));
}

#[test]
fn inspect_says_what_a_component_is() {
    let folder = Folder::new();
    folder.guest("quakes", "quakes.wasm");
    let json = folder.run(["inspect", "quakes.wasm", "--json"]);
    let about: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(about["world"], "sandbar:messaging/plugin@0.1.0");
    assert_eq!(about["sdk"]["language"], "rust");
    assert_eq!(about["routes"].as_array().unwrap().len(), 2);
    let text = folder.run(["inspect", "quakes.wasm"]);
    assert!(
        text.stdout
            .contains("imports  sandbar:messaging/state@0.1.0"),
        "{}",
        text.stdout
    );
    assert_eq!((json.code, text.code), (Some(0), Some(0)));
}
