//! A handler that misbehaves costs its own message, and the log says which, whose and why.

use sandbar_tests::process::Folder;

#[test]
fn a_guest_that_breaks_costs_its_own_message() {
    let folder = Folder::new();
    folder.guest("echo", "plugins/echo.wasm");
    folder.guest("misbehave", "plugins/misbehave.wasm");
    folder.write(
        "sandbar.toml",
        "[plugins.misbehave.limits]\ntime = \"300ms\"\n[plugins.misbehave.retry]\nmax_attempts = 1\n",
    );
    let host = folder.host::<&str>([]);
    for (topic, reason) in [
        ("bad.loop", "timeout"),
        ("bad.trap", "trap"),
        ("bad.memory", "memory"),
    ] {
        let sent = folder.run(["send", topic, "x"]);
        assert_eq!(sent.code, Some(0), "{}", sent.stderr);
        let line = host.wait_for(&format!("reason={reason}"));
        for part in ["misbehave", sent.stdout.trim(), topic] {
            assert!(line.contains(part), "{part:?} is not in {line}");
        }
        let reply = folder.run(["request", "echo", "1"]);
        assert_eq!(
            reply.stdout, "1\n",
            "the neighbour must not notice {topic}: {}",
            reply.stderr
        );
    }
    // What asked for a reply gets one, without a word about the inside of host or guest.
    let failed = folder.run(["request", "bad.trap", "x"]);
    assert_eq!(failed.code, Some(1));
    assert!(
        failed.stderr.starts_with("status 500\n"),
        "{}",
        failed.stderr
    );
}

#[test]
fn a_guest_cannot_write_escapes_into_the_log() {
    let folder = Folder::new();
    folder.guest("misbehave", "plugins/misbehave.wasm");
    let host = folder.host::<&str>([]);
    assert_eq!(folder.run(["request", "bad.log-flood", "3"]).code, Some(0));
    host.wait_for("flood");
    assert!(!host.log().contains('\u{1b}'), "{}", host.log());
}
