//! L1, short: a host that is started and stopped again and again on one folder, with traffic, leaves nothing behind that
//! grows: no file handle, no thread, no write-ahead log, and hardly any memory.
//!
//! Alone in its process, for all of these are counted for the whole of it. `SANDBAR_SOAK_LIVES=1000` makes it long.

use std::fs;
use std::path::Path;
use std::time::Duration;

use sandbar::backend::open;
use sandbar::control::{Host, HostOptions, ServedPlugin};
use sandbar::dispatch::{Dispatcher, Kind, Request, Response};
use sandbar::plugin::PluginSpec;
use sandbar_tests::guests::guest;
use sandbar_tests::settings::chosen;
use sandbar_tests::traffic::{SOON, eventually, message, publish, text, topic};

/// Lives before it is looked: caches and pools are full by then.
const WARM: usize = 4;
const LIVES: usize = 12;
const REQUESTS: usize = 20;
/// More than what an allocator holds back, less than what one life uses.
const SLACK_KIB: u64 = 32 << 10;

/// What a process uses.
#[derive(Debug, Clone, Copy)]
struct Usage {
    files: usize,
    threads: usize,
    resident_kib: u64,
}

fn usage() -> Usage {
    let count = |folder: &str| fs::read_dir(folder).unwrap().count();
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.unwrap().trim().trim_end_matches(" kB");
    Usage {
        files: count("/proc/self/fd"),
        threads: count("/proc/self/task"),
        resident_kib: resident.parse().unwrap(),
    }
}

/// The same once files and threads are no longer about to be closed: connections that only read are closed behind the
/// back of who has read.
#[expect(
    clippy::disallowed_methods,
    reason = "no runtime is there whose thread it could block"
)]
fn usage_at_rest() -> Usage {
    let mut last = usage();
    let mut same = 0;
    for _ in 0..2_000 {
        std::thread::sleep(Duration::from_millis(5));
        let now = usage();
        same = match (now.files, now.threads) == (last.files, last.threads) {
            true => same + 1,
            false => 0,
        };
        last = now;
        if same == 40 {
            break;
        }
    }
    last
}

/// From the start of a host to its end, with messages that succeed, fail and crash the plugin.
async fn live(folder: &Path) {
    let opened = open("embedded", folder).await.unwrap();
    let mut native = Dispatcher::default();
    let action = |request: Request| async move { Ok(Response::new(request.content())) };
    native
        .action(Kind::Command, topic("t").into(), action)
        .unwrap();
    let served = |name: &str| {
        let mut served = ServedPlugin::new(PluginSpec::from_file(&guest(name)));
        served.retry.max_attempts = 1;
        served
    };
    let options = HostOptions {
        plugins: vec![served("echo"), served("misbehave")],
        native: Some(native),
        ..HostOptions::default()
    };
    let host = Host::start(opened.backend.clone(), opened.store.clone(), options);
    let host = host.await.unwrap();
    for number in 0..REQUESTS {
        let content = number.to_string();
        for to in ["echo", "t"] {
            let reply = host.client().request(message(to, &content), SOON).await;
            assert_eq!(text(&reply.unwrap()), content);
        }
    }
    for to in ["bad.trap", "bad.fail", "bad.memory"] {
        publish(&*opened.backend, message(to, "x")).await;
    }
    eventually("everything has ended", async || {
        let overview = opened.backend.overview().await.unwrap();
        overview.queues.iter().all(|queue| queue.depth() == 0)
    })
    .await;
    assert!(host.stop(SOON).await);
    opened.backend.close().await;
}

#[test]
fn nothing_grows_from_life_to_life() {
    let lives = chosen("SANDBAR_SOAK_LIVES", LIVES);
    let folder = tempfile::tempdir().unwrap();
    let mut warm = None;
    for number in 1..=lives {
        // A runtime for each, so that its threads have ended when it is looked.
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(live(folder.path()));
        drop(runtime);
        let log = fs::metadata(folder.path().join("sandbar.db-wal"));
        assert_eq!(log.map_or(0, |log| log.len()), 0, "the log is moved away");
        if number % WARM == 0 {
            let usage = usage_at_rest();
            println!("life {number}: {usage:?}");
            warm.get_or_insert(usage);
        }
    }
    let (warm, last) = (warm.unwrap(), usage_at_rest());
    assert!(last.files <= warm.files, "{warm:?}, then {last:?}");
    assert!(last.threads <= warm.threads, "{warm:?}, then {last:?}");
    assert!(
        last.resident_kib <= warm.resident_kib + SLACK_KIB,
        "{warm:?}, then {last:?}"
    );
}
