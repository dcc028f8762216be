//! One change of a plugin from its first copy to the day after, as `docs/rollout.md` tells it, to the letter.
//!
//! What each step does is tested in `rollout.rs`.

use sandbar_tests::golden;
use sandbar_tests::guests::version_of;
use sandbar_tests::process::{Folder, PATIENCE, finish};
use tokio::time::Instant;

/// What every golden file of the story begins with.
const PREFIX: &str = "rollout_";
const TWO: (&str, &str) = ("version one", "version two");

fn says(name: &str, folder: &Folder, arguments: &[&str]) {
    let mut command = folder.command(arguments);
    command.env("USER", "ada");
    let finished = finish(command, b"");
    assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:?}");
    let name = format!("{PREFIX}{name}");
    golden::session(&name, folder.path(), arguments, &finished);
}

/// Waits until something is so, as the JSON of a command says.
fn until(folder: &Folder, arguments: &[&str], so: impl Fn(&serde_json::Value) -> bool) {
    let began = Instant::now();
    loop {
        let said = folder.run([arguments, &["--json"]].concat());
        if so(&serde_json::from_str(&said.stdout).unwrap()) {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{arguments:?}: {said:?}");
    }
}

#[test]
fn a_version_is_compared_tried_withdrawn_fixed_and_promoted() {
    let folder = Folder::new();
    folder.write("plugins/tally.wasm", version_of("tally", &[]));
    let odds = [TWO, ("behaves well", "behaves odds")];
    folder.write("two.wasm", version_of("tally", &odds));
    folder.write("fixed.wasm", version_of("tally", &[TWO]));
    folder.write(
        "sandbar.toml",
        "[plugins.tally]\nstate = true\npublish = [\"out.>\"]\n",
    );
    let host = folder.host::<&str>([]);
    let says = |name: &str, arguments: &[&str]| says(name, &folder, arguments);
    let shadow = ["plugins", "shadow", "tally"];
    let compared = |count: u64| {
        until(&folder, &shadow, |shown| {
            let of = |what: &str| shown[what].as_u64().unwrap();
            of("same") + of("different") == count
        });
    };
    says("list", &["plugins", "list"]);

    says("shadow", &["plugins", "shadow", "tally", "two.wasm"]);
    says("send_odd", &["send", "tally.add", "7"]);
    says("send_even", &["send", "tally.add", "8"]);
    compared(2);
    says("report", &["plugins", "shadow", "tally", "--stop"]);

    let tries = |file| ["plugins", "deploy", "tally", file, "--canary", "10%"];
    says("canary", &tries("two.wasm"));
    folder.send_numbers("tally.add", 0..800, "nobody");
    host.wait_for("the canary is rolled back: ");
    says("history", &["plugins", "history", "tally"]);
    // What the canary was handling is handled once more before the letters are.
    until(&folder, &["queues", "show", "sandbar.tally"], |queue| {
        queue["ready"] == 0 && queue["in_flight"] == 0
    });
    says("replay", &["dead-letters", "replay", "--reason", "failed"]);
    until(&folder, &["dead-letters", "list"], |letters| {
        letters["total"] == 0
    });

    says(
        "shadow_fixed",
        &["plugins", "shadow", "tally", "fixed.wasm"],
    );
    says("send_again", &["send", "tally.add", "7"]);
    compared(1);
    says("report_fixed", &["plugins", "shadow", "tally", "--stop"]);
    says("canary_fixed", &tries("fixed.wasm"));
    folder.send_numbers("tally.add", 0..50, "nobody");
    until(&folder, &["plugins", "show", "tally"], |shown| {
        let of = |side: &str| shown["canary"][side]["messages"].as_u64().unwrap();
        of("live") + of("canary") >= 50
    });
    says("show", &["plugins", "show", "tally"]);
    says("promote", &["plugins", "promote", "tally"]);
    says("promoted", &["plugins", "list"]);

    says("back", &["plugins", "rollback", "tally"]);
    says("end", &["plugins", "history", "tally"]);
}

/// The page quotes every session, to the letter.
#[test]
fn the_page_about_a_rollout_quotes_what_is_said() {
    golden::quoted("docs/rollout.md", PREFIX);
}
