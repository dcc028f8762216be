//! Hosts and commands as processes: they start without compiling, beside each other, and after being killed.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use sandbar_tests::disk::Small;
use sandbar_tests::guests::version;
use sandbar_tests::languages::Language;
use sandbar_tests::process::{Finished, Folder, Host, signal};

use super::{entries, mode};

/// What is said at this level says how components were loaded.
const LOG: &str = "info,sandbar::guest=debug";

/// How often something was compiled, and how often it was not.
fn loaded(log: &str) -> (usize, usize) {
    let count = |text: &str| log.lines().filter(|line| line.contains(text)).count();
    (
        count(" compiled digest="),
        count(" taken from the cache digest="),
    )
}

fn host(folder: &Folder, arguments: &[&str]) -> Host {
    folder.host(["--log", LOG].iter().chain(arguments))
}

fn asks(folder: &Folder, data: &str, topic: &str, content: &str) -> Finished {
    let finished = folder.run(["request", topic, content, "--data", data]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    finished
}

#[test]
fn the_second_start_compiles_nothing() {
    let folder = Folder::new();
    folder.guest("echo", "plugins/echo.wasm");
    folder.guest("stock", "plugins/stock.wasm");
    folder.write("sandbar.toml", "[plugins.stock]\nstate = true\n");
    for (compiled, cached) in [(2, 0), (0, 2), (0, 2)] {
        let host = host(&folder, &[]);
        assert_eq!(loaded(&host.log()), (compiled, cached), "{}", host.log());
        assert_eq!(
            asks(&folder, "sandbar-data", "echo", "hello").stdout,
            "hello\n"
        );
        host.signal("TERM");
        assert_eq!(host.ended().code, Some(0));
    }
    let cache = folder.path().join("sandbar-data/cache");
    assert_eq!(mode(&cache), 0o700);
    assert_eq!(entries(&cache).len(), 2);
    let said = folder.run(["doctor", "--only", "cache"]);
    assert!(
        said.stdout.contains("2 compiled components, ")
            && said.stdout.contains(" of 1GiB, in sandbar-data/cache"),
        "{said:?}"
    );
}

#[test]
fn versions_that_were_served_before_are_not_compiled_again() {
    let folder = Folder::new();
    folder.write("plugins/swap.wasm", version(&[]));
    folder.write("two.wasm", version(&[("version one", "version two")]));
    folder.write(
        "sandbar.toml",
        "[plugins.swap]\nstate = true\npublish = [\"out.>\"]\n",
    );
    let host = host(&folder, &[]);
    let plugins = |arguments: &[&str]| {
        let finished = folder.run(["plugins"].iter().chain(arguments));
        assert_eq!(finished.code, Some(0), "{finished:?}");
    };
    plugins(&["deploy", "swap", "two.wasm"]);
    assert_eq!(loaded(&host.log()).0, 2);
    for (number, expected) in [
        ("1", "version one"),
        ("2", "version two"),
        ("1", "version one"),
    ] {
        plugins(&["rollback", "swap", "--to", number]);
        let reply = asks(&folder, "sandbar-data", "swap.ask", "");
        assert!(reply.stdout.contains(expected), "{reply:?}");
    }
    // A file that changes is a reload as well.
    folder.write(
        "plugins/swap.wasm",
        version(&[("version one", "version two")]),
    );
    host.wait_for("serving a new version");
    folder.write(
        "plugins/swap.wasm",
        version(&[("version one", "version 333")]),
    );
    host.wait_for("serving a new version");
    assert_eq!(loaded(&host.log()).0, 3, "{}", host.log());
}

#[test]
fn commands_use_what_hosts_compiled_and_the_other_way_round() {
    let folder = Folder::new();
    folder.guest("echo", "echo.wasm");
    let run = |arguments: &[&str]| {
        let finished = folder.run(["--log", LOG].iter().chain(arguments));
        assert_eq!(finished.code, Some(0), "{finished:?}");
        loaded(&finished.stderr)
    };
    // There is no data folder yet, so it is in the user's.
    assert_eq!(run(&["check", "echo.wasm"]), (1, 0));
    assert_eq!(run(&["check", "echo.wasm"]), (0, 1));
    assert_eq!(run(&["inspect", "echo.wasm"]), (0, 1));
    assert!(!folder.path().join("sandbar-data").exists());
    let of_user = folder.path().join("user-cache/sandbar");
    assert_eq!((mode(&of_user), entries(&of_user).len()), (0o700, 1));
    let host = host(&folder, &["echo.wasm"]);
    assert_eq!(loaded(&host.log()), (1, 0));
    drop(host);
    fs::remove_dir_all(of_user).unwrap();
    assert_eq!(run(&["check", "echo.wasm"]), (0, 1));
    assert_eq!(run(&["inspect", "echo.wasm"]), (0, 1));
}

#[test]
fn a_cache_can_be_elsewhere_or_nowhere() {
    let folder = Folder::new();
    folder.guest("echo", "plugins/echo.wasm");
    folder.write(
        "sandbar.toml",
        "[cache]\ndir = \"compiled/here\"\nsize = \"8MiB\"\n",
    );
    drop(host(&folder, &[]));
    assert_eq!(entries(&folder.path().join("compiled/here")).len(), 1);
    folder.write("sandbar.toml", "[cache]\nenabled = false\n");
    for _ in 0..2 {
        let host = host(&folder, &[]);
        assert_eq!(loaded(&host.log()), (1, 0));
    }
    assert!(!folder.path().join("sandbar-data/cache").exists());
    let said = folder.run(["doctor", "--only", "cache"]);
    assert!(
        said.stdout.contains("off; every start compiles"),
        "{said:?}"
    );
    folder.write("sandbar.toml", "[cache]\nsize = 0\n");
    let said = folder.run(["config", "check"]);
    assert_eq!(said.code, Some(64), "{said:?}");
    assert!(said.stderr.contains("`size` is 0"), "{said:?}");
}

#[test]
fn hosts_that_start_at_once_share_a_folder() {
    let folder = Folder::new();
    folder.guest("echo", "plugins/echo.wasm");
    folder.guest("swap", "plugins/swap.wasm");
    folder.write(
        "sandbar.toml",
        "[cache]\ndir = \"shared\"\n[plugins.swap]\nstate = true\npublish = [\"out.>\"]\n",
    );
    for round in 0..5 {
        fs::remove_dir_all(folder.path().join("shared")).ok();
        let hosts: Vec<String> = (0..4).map(|host| format!("data-{round}-{host}")).collect();
        std::thread::scope(|scope| {
            for data in &hosts {
                let folder = &folder;
                scope.spawn(move || {
                    let host = host(folder, &["--data", data]);
                    assert_eq!(asks(folder, data, "echo", data).stdout, format!("{data}\n"));
                    assert!(!host.log().contains("WARN"), "{}", host.log());
                });
            }
        });
        let shared = folder.path().join("shared");
        // Two entries and the key; nothing is left over.
        assert_eq!(fs::read_dir(&shared).unwrap().count(), 3);
        let later = host(&folder, &["--data", &hosts[0]]);
        assert_eq!(loaded(&later.log()), (0, 2));
    }
}

fn unfinished(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(".new")).collect()
}

#[test]
fn whoever_is_killed_while_writing_leaves_nothing_for_long() {
    let folder = Folder::new();
    folder.guest("echo", "echo.wasm");
    folder.write("sandbar.toml", "[cache]\ndir = \"compiled\"\n");
    let dir = folder.path().join("compiled");
    let mut caught = 0;
    for _ in 0..200 {
        fs::remove_dir_all(&dir).ok();
        let mut child = folder
            .command(["check", "echo.wasm"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // The key is there before the entry is begun.
        while child.try_wait().unwrap().is_none() {
            if dir.join("key").exists() && !unfinished(&dir).is_empty() {
                signal(child.id(), "KILL");
                break;
            }
        }
        child.wait().unwrap();
        let left = unfinished(&dir);
        if left.is_empty() {
            continue;
        }
        caught += 1;
        let checked = folder.run(["--log", LOG, "check", "echo.wasm"]);
        assert_eq!(checked.code, Some(0), "{checked:?}");
        assert_eq!(loaded(&checked.stderr), (1, 0), "{checked:?}");
        assert_eq!(unfinished(&dir), Vec::<String>::new());
        if caught == 5 {
            return;
        }
    }
    panic!("only {caught} of 200 were killed while they wrote");
}

#[test]
fn a_disk_that_cannot_be_written_is_a_warning() {
    let folder = Folder::new();
    let Some(small) = Small::mount(&folder, "small", "4m") else {
        return;
    };
    folder.guest("echo", "plugins/echo.wasm");
    folder.guest("swap", "more/swap.wasm");
    let config = "[cache]\ndir = \"small/cache\"\n";
    folder.write("sandbar.toml", config);
    assert_eq!(loaded(&host(&folder, &[]).log()), (1, 0));
    small.remount_read_only();
    let plugin = "[plugins.swap]\nstate = true\npublish = [\"out.>\"]\n";
    folder.write("sandbar.toml", format!("{config}{plugin}"));
    // What is there is used, and what is not cannot be kept.
    let running = host(&folder, &["more/swap.wasm"]);
    let log = running.log();
    assert_eq!(loaded(&log), (1, 1), "{log}");
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("WARN")).collect();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(
        warnings[0]
            .contains("compiled components cannot be kept in small/cache: Read-only file system"),
        "{warnings:?}"
    );
    assert_eq!(
        asks(&folder, "sandbar-data", "echo", "hello").stdout,
        "hello\n"
    );
    drop(running);
    let said = folder.run(["doctor", "--only", "cache"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.stdout.starts_with("warn  cache"), "{said:?}");
    assert!(said.stdout.contains("it cannot be written"), "{said:?}");
}

#[test]
fn a_full_disk_is_a_warning() {
    let folder = Folder::new();
    let Some(_small) = Small::mount(&folder, "small", "64k") else {
        return;
    };
    folder.guest("echo", "plugins/echo.wasm");
    folder.write("sandbar.toml", "[cache]\ndir = \"small/cache\"\n");
    let running = host(&folder, &[]);
    let log = running.log();
    assert!(log.contains("No space left on device"), "{log}");
    assert_eq!(
        asks(&folder, "sandbar-data", "echo", "hello").stdout,
        "hello\n"
    );
    assert_eq!(
        unfinished(&folder.path().join("small/cache")),
        Vec::<String>::new()
    );
}

/// The component of an interpreter takes the longest by far.
#[test]
fn a_plugin_in_python_is_compiled_once() {
    let Some(component) = Language::Python.guest("echo") else {
        return;
    };
    let folder = Folder::new();
    fs::create_dir(folder.path().join("plugins")).unwrap();
    fs::copy(component, folder.path().join("plugins/echo.wasm")).unwrap();
    folder.write("sandbar.toml", "[defaults.limits]\nmemory = \"256MiB\"\n");
    for (compiled, cached) in [(1, 0), (0, 1)] {
        let host = host(&folder, &[]);
        assert_eq!(loaded(&host.log()), (compiled, cached), "{}", host.log());
        assert_eq!(
            asks(&folder, "sandbar-data", "echo", "hello").stdout,
            "hello\n"
        );
        // What takes so long is said.
        let said = host.log().contains("its component is being compiled");
        assert_eq!(said, compiled == 1, "{}", host.log());
        let size = fs::metadata(&entries(&folder.path().join("sandbar-data/cache"))[0]);
        // Shown with `--nocapture`; nothing of it is asserted.
        let log = host.log();
        let took: Vec<&str> = log
            .lines()
            .filter(|line| line.contains(" digest="))
            .collect();
        eprintln!("{took:?}, {} bytes", size.unwrap().len());
    }
}

/// A demonstration leaves nothing behind.
#[test]
fn nothing_is_kept_of_a_demo() {
    let folder = Folder::new();
    let mut command = folder.command(["demo", "--limit", "10", "--requests", "10"]);
    let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(status.unwrap().success());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// A new version is compiled while the others are served, on threads that make way; all others have the priority that the
/// host was started with.
#[test]
#[cfg(target_os = "linux")]
fn threads_that_compile_make_way_for_those_that_serve() {
    let folder = Folder::new();
    folder.guest("echo", "plugins/echo.wasm");
    let host = folder.host::<&str>([]);
    let (mut compiling, mut others) = (Vec::new(), Vec::new());
    let tasks = std::fs::read_dir(format!("/proc/{}/task", host.id())).unwrap();
    for task in tasks {
        // A thread may have ended meanwhile.
        let Ok(stat) = std::fs::read_to_string(task.unwrap().path().join("stat")) else {
            continue;
        };
        // The name may have spaces; the priority is the nineteenth field, and what follows the name is the third.
        let (name, rest) = stat.rsplit_once(") ").unwrap();
        let nice: i32 = rest.split(' ').nth(16).unwrap().parse().unwrap();
        let of = if name.contains("(compile-") {
            &mut compiling
        } else {
            &mut others
        };
        of.push(nice);
    }
    assert!(!compiling.is_empty() && !others.is_empty());
    let here = others.iter().min().unwrap();
    assert!(others.iter().all(|nice| nice == here), "{others:?}");
    let less = (here + 10).min(19);
    assert!(compiling.iter().all(|nice| *nice == less), "{compiling:?}");
}
