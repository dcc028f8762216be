//! What an operator chose is served, also by the next start, until the file is another one.

use super::*;

fn restarted(folder: &Folder, host: Host) -> Host {
    host.signal("KILL");
    assert_eq!(host.ended().code, None);
    folder.host::<&str>([])
}

#[test]
fn what_was_chosen_survives_the_host() {
    let folder = folder();
    let host = folder.host::<&str>([]);
    done(&folder, &["plugins", "deploy", "swap", "two.wasm"]);
    fs::remove_file(folder.path().join("two.wasm")).unwrap();
    assert_eq!(asks(&folder), "version two");
    let host = restarted(&folder, host);
    assert_eq!(asks(&folder), "version two");
    // The file is touched, and still the same.
    folder.write("plugins/swap.wasm", version(&[]));
    done(&folder, &["plugins", "rollback", "swap"]);
    assert_eq!(asks(&folder), "version one");
    done(&folder, &["plugins", "rollback", "swap", "--to", "2"]);
    let host = restarted(&folder, host);
    assert_eq!(asks(&folder), "version two");
    // Another file ends the choice.
    folder.write("plugins/swap.wasm", version(&[SIX]));
    comes(&folder, &host, "version six");
    let host = restarted(&folder, host);
    assert_eq!(asks(&folder), "version six");

    done(&folder, &["plugins", "pause", "swap"]);
    done(&folder, &["send", "swap.told", "waits"]);
    let host = restarted(&folder, host);
    let queue = json(&folder, &["queues", "show", "sandbar.swap"]);
    assert_eq!(
        (&queue["ready"], &queue["in_flight"]),
        (&1.into(), &0.into())
    );
    done(&folder, &["plugins", "resume", "swap"]);
    let told = folder.run(["receive", "out.told", "--count", "1", "--timeout", "30s"]);
    assert!(told.stdout.contains("waits version six"), "{told:?}");

    done(&folder, &["plugins", "remove", "swap"]);
    let host = restarted(&folder, host);
    assert!(host.log().contains("swap was removed and is not served"));
    folder.write("plugins/swap.wasm", version(&[TWO]));
    comes(&folder, &host, "version two");

    // A plugin that no file is of.
    folder.write(
        "sandbar.toml",
        format!("{CONFIG}[plugins.only]\nstate = true\n"),
    );
    let only = folder.write("only.wasm", version(&[("swap.", "only.")]));
    done(&folder, &["plugins", "deploy", "only", "only.wasm"]);
    fs::remove_file(only).unwrap();
    let _host = restarted(&folder, host);
    assert_eq!(
        folder.run(["request", "only.ask"]).stdout.trim(),
        "version one"
    );
}

/// Messages wait for a route that the next version doesn't have, and the host is killed in between: once with the new version
/// deployed, once with a file that was put there meanwhile.
#[test]
fn what_waits_for_a_dropped_route_survives_the_host() {
    let folder = folder();
    let bold = [TWO, ("swap.told", "swap.bold")];
    folder.write("bold.wasm", version(&bold));
    let told = |expected: &str| {
        let told = folder.run(["receive", "out.told", "--count", "1", "--timeout", "30s"]);
        assert!(told.stdout.contains(expected), "{expected}: {told:?}");
    };
    let host = folder.host::<&str>([]);
    done(&folder, &["plugins", "pause", "swap"]);
    done(&folder, &["send", "swap.told", "deployed"]);
    done(&folder, &["plugins", "deploy", "swap", "bold.wasm"]);
    let host = restarted(&folder, host);
    done(&folder, &["plugins", "resume", "swap"]);
    told("deployed version one");
    assert_eq!(asks(&folder), "version two");
    // The versions change places while nobody runs.
    done(&folder, &["plugins", "pause", "swap"]);
    done(&folder, &["send", "swap.bold", "changed"]);
    host.signal("KILL");
    assert_eq!(host.ended().code, None);
    folder.write("plugins/swap.wasm", version(&[SIX]));
    let host = folder.host::<&str>([]);
    done(&folder, &["plugins", "resume", "swap"]);
    told("changed version two");
    assert_eq!(asks(&folder), "version six");
    let letters = json(&folder, &["dead-letters", "list"]);
    assert_eq!(letters["total"], 0, "{}", host.log());
}

/// A file that is no plugin any more when a host starts gives way to what was served last.
#[test]
fn a_start_serves_what_was_served_last_where_the_file_is_broken() {
    let folder = folder();
    let host = folder.host::<&str>([]);
    comes(&folder, &host, "version one");
    host.signal("KILL");
    assert_eq!(host.ended().code, None);
    folder.write("plugins/swap.wasm", &version(&[TWO])[..3_000]);
    let host = folder.host::<&str>([]);
    assert!(
        host.log()
            .contains("the version that was served last is served instead")
    );
    assert_eq!(asks(&folder), "version one");
    folder.write("plugins/swap.wasm", version(&[TWO]));
    comes(&folder, &host, "version two");
}

#[test]
fn a_refusal_says_why_and_leaves_no_trace_of_a_name() {
    let folder = folder();
    let _host = folder.host::<&str>([]);
    folder.write("broken.wasm", &version(&[])[..3_000]);
    folder.write("rival.wasm", version(&[TWO]));
    let refused = |arguments: &[&str], why: &str| {
        let refused = folder.run(arguments);
        assert_eq!(refused.code, Some(1), "{refused:?}");
        assert!(refused.stderr.contains(why), "{why}: {}", refused.stderr);
    };
    refused(
        &["plugins", "deploy", "swap", "broken.wasm"],
        "what was served before goes on",
    );
    refused(
        &["plugins", "deploy", "rival", "rival.wasm"],
        "handle the same topic",
    );
    refused(&["plugins", "show", "rival"], "there is no plugin `rival`");
    refused(&["plugins", "pause", "swop"], "did you mean `swap`?");
    refused(
        &["plugins", "rollback", "swap"],
        "no version before the live one",
    );
    refused(
        &["plugins", "rollback", "swap", "--to", "2"],
        "no version 2",
    );
    let elsewhere = ["plugins", "list", "--data", "elsewhere"];
    refused(&elsewhere, "no host is running with data in elsewhere");
    let absent = folder.run(["plugins", "deploy", "swap", "absent.wasm"]);
    assert_eq!(absent.code, Some(64), "{absent:?}");
    let history = history(&folder, "swap");
    assert_eq!(history.len(), 2);
    assert_eq!(history[1].1, "refused");
    assert_eq!(asks(&folder), "version one");
}

/// Whatever moment it is killed in: the next start has one of both versions, and has it whole.
#[test]
fn a_deploy_that_is_killed_is_done_or_not() {
    let folder = folder();
    folder.write("one.wasm", version(&[]));
    let mut host = folder.host::<&str>([]);
    let mut live = "version one".to_owned();
    let mut survived = 0;
    for round in 0..12_u64 {
        let (next, file) = match live.as_str() {
            "version one" => ("version two", "two.wasm"),
            _ => ("version one", "one.wasm"),
        };
        let mut command = folder.command(["plugins", "deploy", "swap", file]);
        let mut deploying = command
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        kill_after(Duration::from_millis(round * 12));
        host.signal("KILL");
        assert_eq!(host.ended().code, None);
        deploying.wait().unwrap();
        host = folder.host::<&str>([]);
        let found = asks(&folder);
        assert!(found == live || found == next, "{found}");
        survived += u32::from(found == next);
        live = found;
        for file in fs::read_dir(folder.path().join("sandbar-data/plugins")).unwrap() {
            let path = file.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if let Some(named) = name.strip_suffix(".wasm") {
                let found = digest(&fs::read(&path).unwrap());
                assert_eq!(named, found.replace(':', "-"), "it is whole");
            }
        }
        assert!(!history(&folder, "swap").is_empty());
    }
    println!("{survived} of 12 deploys were done before the kill");
}

/// Chooses a moment; whatever has happened by then is right.
#[expect(
    clippy::disallowed_methods,
    reason = "the test kills another process at some moment"
)]
fn kill_after(time: Duration) {
    std::thread::sleep(time);
}
