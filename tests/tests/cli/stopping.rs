//! A host that is told to stop, by whom and how often.

use sandbar_tests::golden;
use sandbar_tests::process::Folder;

#[test]
fn signals_drain() {
    for signal in ["INT", "TERM"] {
        let folder = Folder::new();
        folder.guest("echo", "echo.wasm");
        let host = folder.host(["echo.wasm"]);
        assert_eq!(folder.run(["request", "echo", "1"]).stdout, "1\n");
        host.signal(signal);
        let ended = host.ended();
        golden::check("run_stopped", folder.path(), &ended);
        assert_eq!(ended.code, Some(0), "{signal}");
    }
}

#[test]
fn a_second_signal_ends_at_once_and_loses_nothing() {
    let folder = Folder::new();
    folder.guest("misbehave", "misbehave.wasm");
    folder.guest("echo", "echo.wasm");
    folder.write("sandbar.toml", "[plugins.misbehave]\nfile = \"misbehave.wasm\"\n[plugins.misbehave.limits]\ntime = \"50s\"\n");
    let host = folder.host(["--grace", "50s"]);
    assert_eq!(folder.run(["send", "bad.loop", "1"]).code, Some(0));
    host.signal("INT");
    host.wait_for("stopping");
    host.signal("INT");
    assert_eq!(host.ended().code, Some(130));

    // A host with the default limits finds the message again and ends its loop.
    std::fs::remove_file(folder.path().join("sandbar.toml")).unwrap();
    let limited = "[plugins.misbehave]\nfile = \"misbehave.wasm\"\n[plugins.misbehave.limits]\ntime = \"100ms\"\n";
    folder.write("sandbar.toml", limited);
    let host = folder.host::<&str>([]);
    host.wait_for("reason=timeout");
}

/// K3: SIGTERM while handlers run long and everything that may be in flight is.
#[test]
fn a_signal_under_load_drains_in_time_and_costs_no_attempt() {
    const MESSAGES: usize = 3_000;
    let folder = Folder::new();
    folder.guest("misbehave", "misbehave.wasm");
    let config = "[plugins.misbehave]\nfile = \"misbehave.wasm\"\n[plugins.misbehave.limits]\ntime = \"50s\"\n";
    folder.write("sandbar.toml", config);
    folder.write("lines", "1\n".repeat(MESSAGES));
    let host = folder.host(["--grace", "100ms"]);
    let sent = folder.run(["send", "bad.loop", "--lines", "lines"]);
    assert_eq!(sent.code, Some(0), "{}", sent.stderr);
    let status = || {
        let shown = folder.run(["queues", "show", "sandbar.misbehave", "--json"]);
        serde_json::from_str::<serde_json::Value>(&shown.stdout).unwrap()
    };
    let loaded = (0..100).any(|_| status()["in_flight"].as_u64() > Some(1_500));
    assert!(loaded, "{}", status());
    host.signal("TERM");
    assert_eq!(host.ended().code, Some(0));

    let after = status();
    assert_eq!(after["ready"], MESSAGES, "{after}");
    assert_eq!(after["retrying"], 0, "no attempt was counted: {after}");
    let letters = folder.run(["dead-letters", "list", "--json"]);
    let letters: serde_json::Value = serde_json::from_str(&letters.stdout).unwrap();
    assert_eq!(letters["total"], 0);
    // The first attempt of the next host is the first one.
    folder.write("sandbar.toml", config.replace("50s", "50ms"));
    let host = folder.host(["--log", "debug"]);
    let line = host.wait_for("reason=timeout");
    assert!(line.contains("attempt=1 "), "{line}");
}

#[test]
fn a_folder_has_one_host() {
    let folder = Folder::new();
    folder.guest("echo", "echo.wasm");
    let _host = folder.host(["echo.wasm"]);
    let second = folder.run(["run", "echo.wasm"]);
    golden::check("run_busy", folder.path(), &second);
    assert_eq!(second.code, Some(1));
}
