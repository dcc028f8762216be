//! A plugin and its versions on a running host: what the verbs say then is in `docs/plugins.md`, to the letter.
//!
//! One story, told in sessions; what the verbs do is tested in `reload_files.rs`.

use sandbar_tests::golden;
use sandbar_tests::guests::{version, version_of};
use sandbar_tests::process::{Finished, Folder, finish};

/// What every golden file of the story begins with.
const PREFIX: &str = "plugins_";

fn session(name: &str, folder: &Folder, arguments: &[&str]) -> Finished {
    let mut command = folder.command(arguments);
    command.env("USER", "ada");
    let finished = finish(command, b"");
    let name = format!("{PREFIX}{name}");
    golden::session(&name, folder.path(), arguments, &finished);
    finished
}

#[test]
fn versions_come_and_go_back() {
    let folder = Folder::new();
    folder.write("plugins/swap.wasm", version(&[]));
    folder.write("two.wasm", version(&[("version one", "version two")]));
    folder.write("broken.wasm", &version(&[])[..3_000]);
    folder.write(
        "sandbar.toml",
        "[plugins.swap]\nstate = true\npublish = [\"out.>\"]\n",
    );
    let host = folder.host::<&str>([]);
    let says = |name: &str, arguments: &[&str], code: i32| {
        let said = session(name, &folder, arguments);
        assert_eq!(said.code, Some(code), "{said:?}");
    };
    says("list", &["plugins", "list"], 0);
    says("deploy", &["plugins", "deploy", "swap", "two.wasm"], 0);
    says("ask", &["request", "swap.ask"], 0);
    says("refused", &["plugins", "deploy", "swap", "broken.wasm"], 1);
    says("history", &["plugins", "history", "swap"], 0);
    says("show", &["plugins", "show", "swap"], 0);
    says("rollback", &["plugins", "rollback", "swap"], 0);
    says("pause", &["plugins", "pause", "swap"], 0);
    says("paused", &["plugins", "list"], 0);
    says("resume", &["plugins", "resume", "swap"], 0);
    says("remove", &["plugins", "remove", "swap"], 0);
    says("back", &["plugins", "rollback", "swap", "--to", "2"], 0);
    says("unknown", &["plugins", "show", "swop"], 1);
    drop(host);
    says("nobody", &["plugins", "list"], 1);
}

/// What becomes of a canary; how it is judged is tested in `rollout.rs`.
#[test]
fn a_canary_is_promoted_and_the_next_one_goes_back() {
    const TWO: (&str, &str) = ("version one", "version two");
    let folder = Folder::new();
    folder.write("plugins/tally.wasm", version_of("tally", &[]));
    folder.write("two.wasm", version_of("tally", &[TWO]));
    let traps = version_of("tally", &[("behaves well", "behaves trap")]);
    folder.write("three.wasm", traps);
    folder.write(
        "sandbar.toml",
        "[plugins.tally]\nstate = true\npublish = [\"out.>\"]\n",
    );
    let host = folder.host::<&str>([]);
    let says = |name: &str, arguments: &[&str]| {
        let said = session(&format!("canary_{name}"), &folder, arguments);
        assert_eq!(said.code, Some(0), "{said:?}");
    };
    let tries = |file| ["plugins", "deploy", "tally", file, "--canary", "50%"];
    says("deploy", &tries("two.wasm"));
    says("list", &["plugins", "list"]);
    folder.send_numbers("tally.add", 0..50, "nobody");
    let counted = || {
        let shown = folder.run(["plugins", "show", "tally", "--json"]);
        let shown: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
        let of = |side: &str| shown["canary"][side]["messages"].as_u64().unwrap();
        of("live") + of("canary")
    };
    while counted() < 50 {}
    says("show", &["plugins", "show", "tally"]);
    says("promote", &["plugins", "promote", "tally"]);
    says("next", &tries("three.wasm"));
    folder.send_numbers("tally.add", 50..100, "nobody");
    host.wait_for("the canary is rolled back: ");
    says("history", &["plugins", "history", "tally"]);
}

/// What a version in the shadow is compared by; what differs is found in `rollout/shadow.rs`.
#[test]
fn a_version_in_the_shadow_is_compared() {
    let folder = Folder::new();
    folder.write("plugins/tally.wasm", version_of("tally", &[]));
    let two = version_of("tally", &[("version one", "version two")]);
    folder.write("two.wasm", two);
    folder.write(
        "sandbar.toml",
        "[plugins.tally]\nstate = true\npublish = [\"out.>\"]\n",
    );
    let _host = folder.host::<&str>([]);
    let says = |name: &str, arguments: &[&str]| {
        let said = session(&format!("shadow_{name}"), &folder, arguments);
        assert_eq!(said.code, Some(0), "{said:?}");
    };
    says("begin", &["plugins", "shadow", "tally", "two.wasm"]);
    // A message that is wrong is wrong for both.
    for content in ["7", "no number"] {
        let sent = folder.run(["send", "tally.add", content]);
        assert_eq!(sent.code, Some(0), "{sent:?}");
    }
    let compared = || {
        let shown = folder.run(["plugins", "shadow", "tally", "--json"]);
        let shown: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
        shown["same"].as_u64().unwrap() + shown["different"].as_u64().unwrap()
    };
    while compared() < 2 {}
    says("report", &["plugins", "shadow", "tally"]);
    says("stop", &["plugins", "shadow", "tally", "--stop"]);
}

/// The manual quotes every session, to the letter.
#[test]
fn the_page_about_plugins_quotes_what_is_said() {
    golden::quoted("docs/plugins.md", PREFIX);
}
