//! The demo is true, and leaves nothing behind.

use sandbar_tests::process::{Folder, finish, signal};

/// The demo in a folder where we can see what it leaves.
fn demo(folder: &Folder, arguments: &[&str]) -> std::process::Command {
    let mut command = folder.command(["demo"]);
    command.args(arguments).env("TMPDIR", folder.path());
    command
}

#[test]
fn the_demo_adds_up() {
    let folder = Folder::new();
    let shown = finish(demo(&folder, &["--json"]), b"");
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    let summary: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    let number = |path: &str| {
        summary
            .pointer(path)
            .and_then(serde_json::Value::as_u64)
            .unwrap()
    };
    assert_eq!(number("/events"), 1707);
    assert_eq!(number("/stats/count") + number("/rejected"), 1707);
    assert_eq!((number("/alerts"), number("/stats/alerts")), (85, 85));
    assert_eq!((number("/requests"), number("/replies")), (500, 500));
    assert_eq!(summary["stats"]["strongest"]["magnitude"], 6.4);
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "it left something behind"
    );

    let text = finish(demo(&folder, &["--limit", "100", "--requests", "10"]), b"");
    assert!(
        text.stdout.contains("100 published, 100 counted"),
        "{}",
        text.stdout
    );
    assert!(
        text.stdout.contains("the numbers add up"),
        "{}",
        text.stdout
    );
}

#[test]
fn an_interrupted_demo_leaves_nothing_behind() {
    let folder = Folder::new();
    let mut command = demo(&folder, &["--requests", "1000000"]);
    command
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("asking echo") {
        line.clear();
        assert!(
            std::io::BufRead::read_line(&mut stderr, &mut line).unwrap() > 0,
            "it ended early"
        );
    }
    signal(child.id(), "INT");
    std::io::copy(&mut stderr, &mut std::io::sink()).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(
        std::fs::read_dir(folder.path()).unwrap().count(),
        0,
        "it left something behind"
    );
}
