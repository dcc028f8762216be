//! A host holds its plugins back as its configuration says: by their rate, and while they keep failing.
//!
//! What is wrong in such a configuration is in `configuration.rs`; how a rate and a breaker count is tested beside them.

use std::time::Duration;

use sandbar_tests::process::{Folder, Host};
use tokio::time::Instant;

/// A host with variables of its own.
fn host(folder: &Folder, variables: &[(&str, &str)]) -> Host {
    let mut command = folder.command(["run"]);
    command.envs(variables.iter().copied());
    Host::start(command)
}

/// A file with as many lines, each the content of a message.
fn lines(folder: &Folder, count: usize) {
    let text: String = (1..=count).map(|n| format!("{n}\n")).collect();
    folder.write("lines", text);
}

#[test]
fn a_rate_is_kept() {
    let variable = ("SANDBAR_PLUGINS__ECHO__LIMITS__RATE", "4");
    for (text, variables) in [
        ("[plugins.echo.limits]\nrate = 4\n", &[][..]),
        ("[defaults.limits]\nrate = 4\n", &[]),
        ("[plugins.echo.limits]\nrate = 4000\n", &[variable]),
    ] {
        let folder = Folder::new();
        folder.guest("echo", "plugins/echo.wasm");
        folder.write("sandbar.toml", text);
        lines(&folder, 12);
        let _host = host(&folder, variables);
        let began = Instant::now();
        let sent = folder.run(["send", "echo", "--lines", "lines", "--reply-to", "done"]);
        assert_eq!(sent.code, Some(0), "{}", sent.stderr);
        let replies = folder.run(["receive", "done", "--count", "12", "--timeout", "50s"]);
        assert_eq!(replies.stdout.lines().count(), 12, "{}", replies.stderr);
        // Four at once, the others at four a second: never faster, however fast the machine is.
        assert!(
            began.elapsed() >= Duration::from_millis(1990),
            "{text}: {:?}",
            began.elapsed()
        );
    }
}

#[test]
fn who_keeps_failing_is_paused() {
    let folder = Folder::new();
    folder.guest("misbehave", "plugins/misbehave.wasm");
    folder.guest("echo", "plugins/echo.wasm");
    let text = "\
[defaults.breaker]
window = \"1h\"
pause = \"2h\"
[plugins.misbehave.breaker]
failures = 0.9
at_least = 5
";
    folder.write("sandbar.toml", text);
    lines(&folder, 10);
    let send = || {
        let sent = folder.run(["send", "bad.fail", "--lines", "lines"]);
        assert_eq!(sent.code, Some(0), "{}", sent.stderr);
    };
    let letters = |log: &str| log.matches("kept as a dead letter").count();

    let first = host(&folder, &[]);
    send();
    let line = first.wait_for("it keeps failing and is paused");
    assert!(line.contains("7200s"), "{line}");
    // These wait, and nobody else does.
    send();
    assert_eq!(folder.run(["request", "echo", "1"]).stdout, "1\n");
    first.signal("INT");
    let failed = letters(&first.ended().stderr);
    assert!((5..=10).contains(&failed), "{failed}");

    // With another pause the others are tried one by one, until one succeeds.
    let pause = ("SANDBAR_PLUGINS__MISBEHAVE__BREAKER__PAUSE", "1ms");
    let second = host(&folder, &[pause]);
    // It may have begun with them before it was ready.
    second.wait_until("all failed", |log| failed + letters(log) == 20);
    let works = |log: &str| log.contains("it works again");
    // One that succeeds beside the last one that fails is no trial.
    for _ in 0..100 {
        let good = folder.run(["request", "bad.headers", "1"]);
        assert_eq!(good.code, Some(0), "{}", good.stderr);
        if works(&second.log()) {
            break;
        }
    }
    second.wait_until("worked again", works);
    let paused = |log: &str| log.matches("it keeps failing and is paused").count();
    assert_eq!(paused(&second.log()), 1);
}
