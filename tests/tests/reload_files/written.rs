//! Each way in which a file changes ends with what it is in the end, and with nothing that it was on the way.

use super::*;

use std::io::Write as _;

#[test]
fn a_file_is_served_as_it_is_in_the_end() {
    let folder = folder();
    let host = folder.host::<&str>([]);
    comes(&folder, &host, "version one");
    let (one, two, six) = (version(&[]), version(&[TWO]), version(&[SIX]));
    // As `cp` does.
    folder.write("plugins/swap.wasm", &two);
    comes(&folder, &host, "version two");
    // As `mv` and most editors do.
    renamed(&folder, "plugins/swap.wasm", &one);
    comes(&folder, &host, "version one");
    // Piece by piece, with rests that are longer than it takes to notice.
    let path = folder.path().join("plugins/swap.wasm");
    let mut file = fs::File::create(&path).unwrap();
    for piece in six.chunks(six.len() / 4 + 1) {
        file.write_all(piece).unwrap();
        file.sync_all().unwrap();
        // The host has this long to do something wrong.
        pause(Duration::from_millis(400));
    }
    drop(file);
    comes(&folder, &host, "version six");
    // Deleted and made anew.
    fs::remove_file(&path).unwrap();
    folder.write("plugins/swap.wasm", &two);
    comes(&folder, &host, "version two");
    // The same content again is nothing new.
    folder.write("plugins/swap.wasm", &two);
    // Another plugin that is there shows that it was looked at since.
    folder.guest("echo", "plugins/echo.wasm");
    let began = Instant::now();
    while json(&folder, &["plugins", "list"])["plugins"]
        .as_array()
        .unwrap()
        .len()
        < 2
    {
        assert!(began.elapsed() < PATIENCE, "{}", host.log());
    }
    let served = history(&folder, "swap").into_iter();
    let served: Vec<String> = served
        .filter(|(_, result, _)| result == "served")
        .map(|(_, _, digest)| digest)
        .collect();
    assert_eq!(served, [&one, &two, &one, &six, &two].map(|it| digest(it)));
    let letters = json(&folder, &["dead-letters", "list"]);
    assert_eq!(letters["total"], 0);
}

/// A folder as Kubernetes mounts it: every file is a link through a link, and that is what is replaced.
#[test]
fn a_link_leads_to_what_is_served() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    folder.write("plugins/..1/swap.wasm", version(&[]));
    folder.write("plugins/..2/swap.wasm", version(&[TWO]));
    fs::remove_file(at("plugins/swap.wasm")).unwrap();
    link("..1", &at("plugins/..data"));
    link("..data/swap.wasm", &at("plugins/swap.wasm"));
    // Another file lies elsewhere and is built anew there.
    folder.write(
        "built/other.wasm",
        version(&[("swap.", "othe."), ("out.", "oth.")]),
    );
    link("../built/other.wasm", &at("plugins/other.wasm"));
    let host = folder.host::<&str>([]);
    comes(&folder, &host, "version one");
    link("..2", &at("plugins/..data_tmp"));
    fs::rename(at("plugins/..data_tmp"), at("plugins/..data")).unwrap();
    comes(&folder, &host, "version two");
    folder.write(
        "built/other.wasm",
        version(&[TWO, ("swap.", "othe."), ("out.", "oth.")]),
    );
    host.wait_until("the other one is served", |log| {
        log.matches("serving a new version plugin=other").count() == 1
    });
    let asked = folder.run(["request", "othe.ask"]);
    assert_eq!(asked.stdout.trim(), "version two");
}

#[test]
fn files_come_and_go() {
    let folder = folder();
    let host = folder.host::<&str>([]);
    comes(&folder, &host, "version one");
    folder.guest("echo", "plugins/echo.wasm");
    host.wait_until("the new one is served", |log| {
        log.contains("serving a new version plugin=echo")
    });
    assert_eq!(folder.run(["request", "echo", "1"]).stdout, "1\n");
    // Its queue keeps what comes while it is away.
    fs::remove_file(folder.path().join("plugins/swap.wasm")).unwrap();
    host.wait_until("it is unloaded", |log| log.contains("its file is gone"));
    let began = Instant::now();
    while json(&folder, &["plugins", "show", "swap"])["state"] != "removed" {
        assert!(began.elapsed() < PATIENCE, "{}", host.log());
    }
    done(&folder, &["send", "swap.told", "kept"]);
    let waits = json(&folder, &["queues", "show", "sandbar.swap"]);
    assert_eq!(waits["ready"], 1);
    folder.write("plugins/swap.wasm", version(&[TWO]));
    comes(&folder, &host, "version two");
    let told = folder.run(["receive", "out.told", "--count", "1", "--timeout", "30s"]);
    assert!(told.stdout.contains("kept version two"), "{told:?}");
    // A folder that is replaced as a whole.
    folder.write("new/swap.wasm", version(&[SIX]));
    fs::rename(folder.path().join("plugins"), folder.path().join("old")).unwrap();
    fs::rename(folder.path().join("new"), folder.path().join("plugins")).unwrap();
    comes(&folder, &host, "version six");
}

#[test]
fn what_the_configuration_says_changes_too() {
    let folder = folder();
    let host = folder.host::<&str>([]);
    comes(&folder, &host, "version one");
    let denied = CONFIG.replace("\"out.>\"", "\"elsewhere\"");
    folder.write("sandbar.toml", &denied);
    // The verbs have a configuration of their own, since that of the host is wrong at times.
    folder.write("verbs.toml", "");
    let show = ["plugins", "show", "swap", "--config", "verbs.toml"];
    let grants = |expected: &str| {
        let began = Instant::now();
        while json(&folder, &show)["grants"] != expected {
            assert!(began.elapsed() < PATIENCE, "{expected}: {}", host.log());
        }
    };
    grants("publish elsewhere; state");
    // What is wrong is said, and what was there goes on.
    folder.write("sandbar.toml", "[plugins.swap]\npublsh = []\n");
    host.wait_until("it is said", |log| log.contains("did you mean `publish`?"));
    grants("publish elsewhere; state");
    folder.write("sandbar.toml", format!("group = \"other\"\n{CONFIG}"));
    host.wait_until("it is said", |log| {
        log.contains("`group` in sandbar.toml takes effect at the next start")
    });
    grants("publish out.>; state");
    // A pin that the file does not have.
    folder.write(
        "sandbar.toml",
        format!("{CONFIG}digest = \"sha256:{}\"\n", "0".repeat(64)),
    );
    host.wait_until("it is refused", |log| log.contains("pins another"));
    assert_eq!(asks(&folder), "version one");
    let history = history(&folder, "swap");
    let by: Vec<&str> = history.iter().map(|(by, ..)| by.as_str()).collect();
    assert_eq!(
        by,
        ["start", "configuration", "configuration", "configuration"]
    );
}

#[test]
fn nothing_changes_by_itself_where_nothing_is_watched() {
    let folder = folder();
    let host = folder.host(["--no-watch"]);
    comes(&folder, &host, "version one");
    folder.write("plugins/swap.wasm", version(&[TWO]));
    done(&folder, &["plugins", "deploy", "swap", "two.wasm"]);
    assert_eq!(asks(&folder), "version two");
    done(&folder, &["plugins", "rollback", "swap"]);
    assert_eq!(asks(&folder), "version one");
    let versions = history(&folder, "swap").len();
    assert_eq!(versions, 3, "nobody has looked at the file");
}

/// How long the host is left alone with half of a file.
#[expect(
    clippy::disallowed_methods,
    reason = "another process has the time to do something wrong; nothing is right because of it"
)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}
