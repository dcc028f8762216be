//! From one plugin to a thousand: what each costs to start, to keep and to call, when every one is another component.

use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::{LocalBackend, MemoryBackend};
use sandbar::client::Client;
use sandbar::message::{Message, Payload};
use sandbar_tests::process::Folder;

use super::components::{many, topic};
use super::driver::{Handler, Load, Work, drive, host, stop};
use super::measure::{cpu_of, now, resident};
use super::memory::{headings, row};
use super::report::{Section, Table};
use super::settings::Settings;
use super::stats::bytes;

pub(crate) fn run(settings: &Settings) -> Section {
    let mut section = Section::new(
        "From one plugin to a thousand",
        "Each is `echo` under a topic of its own and a component of its own, compiled by itself. Messages go to all of them \
         in turn, on the memory backend; memory and idle processor time are those of the `sandbar` process on the embedded \
         backend.",
    );
    let counts: &[usize] = settings.pick(&[1, 10, 100, 1000], &[1, 10, 50]);
    let mut table = Table::new(headings("plugins").into_iter().chain(["started in"]));
    for count in counts {
        let (load, started) = load(*count, settings.pick(300_000, 10_000));
        let mut row = row(&count.to_string(), &[load]);
        row.push(format!("{:.2} s", started.as_secs_f64()));
        table.row(row);
    }
    section.table(table);
    let mut table = Table::new([
        "plugins",
        "ready in",
        "memory when ready",
        "after a message to each",
        "for each plugin",
        "idle processor time",
    ]);
    let mut least = 0.0;
    for count in counts {
        let kept = keep(*count, settings.pick(10, 1));
        if *count == 1 {
            least = kept.warm;
        }
        table.row([
            count.to_string(),
            format!("{:.2} s", kept.ready.as_secs_f64()),
            bytes(kept.idle),
            bytes(kept.warm),
            bytes((kept.warm - least) / (*count - 1).max(1) as f64),
            format!("{:.2} %", kept.processor * 100.0),
        ]);
    }
    section.table(table);
    section.note(
        "Targets: ≤ 256 KiB for each warm Rust instance, 1,000 plugins in ≤ 1 GiB, no processor time when idle. `for each \
         plugin` is what it adds to the memory with one plugin, its compiled code included.",
    );
    section
}

fn load(count: usize, messages: usize) -> (Load, Duration) {
    let runtime = super::runtime(super::cores());
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let specs = many(folder.path(), count);
        let backend = Arc::new(MemoryBackend::new());
        let began = now();
        let host = host(&backend, Handler::Plugins(specs)).await;
        let started = began.elapsed();
        let work = Work {
            topics: (0..count).map(|n| topic(n).parse().unwrap()).collect(),
            ..Work::echo(messages)
        };
        let warm_up = Work {
            count: (messages / 10).max(count * 5),
            ..work.clone()
        };
        drive(&backend, &warm_up).await;
        let load = drive(&backend, &work).await;
        stop(host, &backend).await;
        (load, started)
    })
}

/// What keeping plugins costs.
struct Kept {
    ready: Duration,
    /// Bytes, before the first message.
    idle: f64,
    /// Bytes, with a warm instance of each.
    warm: f64,
    /// Share of a core when nothing happens.
    processor: f64,
}

fn keep(count: usize, seconds: u64) -> Kept {
    let folder = Folder::new();
    let plugins = folder.path().join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    many(&plugins, count);
    let began = now();
    let host = folder.host(["--plugins", "plugins"]);
    let ready = began.elapsed();
    let kept = super::runtime(1).block_on(async {
        let data = folder.path().join("sandbar-data");
        let local = Arc::new(LocalBackend::connect(&data).await.unwrap());
        let process = local.owner();
        let idle = resident(process) as f64;
        let client = Client::connect(local.clone()).await.unwrap();
        for number in 0..count {
            let payload = Payload::new(number.to_string());
            let message = Message::new(topic(number).parse().unwrap(), payload.clone());
            let reply = client.request(message, Duration::from_secs(10)).await;
            assert_eq!(reply.unwrap().payload, payload, "void");
        }
        let (warm, before) = (resident(process) as f64, cpu_of(process));
        let wait = Duration::from_secs(seconds);
        tokio::time::sleep(wait).await;
        let processor = (cpu_of(process) - before).as_secs_f64() / wait.as_secs_f64();
        Kept {
            ready,
            idle,
            warm,
            processor,
        }
    });
    host.signal("TERM");
    assert_eq!(host.ended().code, Some(0));
    kept
}
