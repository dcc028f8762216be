//! The audit log: a line for everything that happens to plugins, appended and never pruned.

use std::fs;

use sandbar_tests::guests::version;
use sandbar_tests::process::Folder;
use serde_json::Value;

/// Event, number and reason of each entry of `swap`, the oldest first.
fn audited(folder: &Folder) -> Vec<(String, u64, String)> {
    let audit = folder.run(["plugins", "audit", "swap", "--json", "--limit", "1000"]);
    assert_eq!(audit.code, Some(0), "{}", audit.stderr);
    let audit: Value = serde_json::from_str(&audit.stdout).unwrap();
    let entries = audit["entries"].as_array().unwrap();
    let entry = |entry: &Value| {
        let digest = entry["digest"].as_str().unwrap();
        assert!(digest.starts_with("sha256:"), "{entry}");
        assert!(entry["at"].as_str().unwrap().ends_with('Z'), "{entry}");
        assert!(!entry["by"].as_str().unwrap().is_empty(), "{entry}");
        (
            entry["event"].as_str().unwrap().to_owned(),
            entry["version"].as_u64().unwrap(),
            entry["why"].as_str().unwrap_or_default().to_owned(),
        )
    };
    entries.iter().map(entry).collect()
}

#[test]
fn whatever_happens_to_a_plugin_is_in_the_audit_log_for_good() {
    let folder = Folder::new();
    folder.guest("swap", "plugins/swap.wasm");
    folder.write(
        "sandbar.toml",
        "versions = 1\n[plugins.swap]\nstate = true\npublish = [\"out.>\"]\n",
    );
    let two = version(&[("version one", "version two")]);
    folder.write("two.wasm", &two);
    folder.write("broken.wasm", &two[..two.len() / 2]);
    let run = |arguments: &[&str], code: i32| {
        let finished = folder.run(arguments);
        assert_eq!(
            finished.code,
            Some(code),
            "{arguments:?}: {}",
            finished.stderr
        );
    };

    let host = folder.host::<&str>([]);
    run(&["plugins", "deploy", "swap", "two.wasm"], 0);
    run(&["plugins", "deploy", "swap", "broken.wasm"], 1);
    run(&["plugins", "pause", "swap"], 0);
    // A host that is killed has said everything that it did.
    host.signal("KILL");
    assert_eq!(host.ended().code, None);
    let host = folder.host::<&str>([]);
    run(&["plugins", "resume", "swap"], 0);
    run(
        &[
            "plugins",
            "deploy",
            "swap",
            "plugins/swap.wasm",
            "--canary",
            "50%",
        ],
        0,
    );
    run(&["plugins", "rollback", "swap"], 0);
    run(
        &[
            "plugins",
            "deploy",
            "swap",
            "plugins/swap.wasm",
            "--canary",
            "50%",
        ],
        0,
    );
    run(&["plugins", "promote", "swap"], 0);
    run(&["plugins", "remove", "swap"], 0);

    let entries = audited(&folder);
    let events: Vec<&str> = entries.iter().map(|(event, ..)| event.as_str()).collect();
    let expected = [
        "served",
        "served",
        "refused",
        "paused",
        "resumed",
        "tried",
        "withdrawn",
        "tried",
        "promoted",
        "removed",
    ];
    assert_eq!(events, expected, "{entries:?}");
    assert!(entries[2].2.contains("damaged"), "{entries:?}");
    assert_eq!(entries[5].1, entries[6].1, "{entries:?}");
    assert!(!entries[6].2.is_empty(), "{entries:?}");

    // Histories are pruned, the log is not; it only grows, whatever its last line is.
    let file = folder.path().join("sandbar-data/plugins/audit.jsonl");
    let before = fs::read(&file).unwrap();
    fs::write(&file, [&before[..], b"{\"at_ms\":1,\"plu"].concat()).unwrap();
    host.signal("TERM");
    assert_eq!(host.ended().code, Some(0));
    assert_eq!(audited(&folder), entries);
    let host = folder.host::<&str>([]);
    run(&["plugins", "deploy", "swap", "two.wasm"], 0);
    assert!(fs::read(&file).unwrap().starts_with(&before));
    let again = audited(&folder);
    assert_eq!(again.last().unwrap().0, "served", "{again:?}");
    assert_eq!(again.len(), entries.len() + 1, "{again:?}");

    let listed = folder.run(["plugins", "audit", "--limit", "2"]);
    assert_eq!(listed.stdout.lines().count(), 3, "{}", listed.stdout);
    assert!(
        listed.stderr.contains("earlier entries"),
        "{}",
        listed.stderr
    );
    assert!(
        listed.stderr.contains("1 lines cannot be read"),
        "{}",
        listed.stderr
    );
    host.signal("TERM");
    assert_eq!(host.ended().code, Some(0));
}
