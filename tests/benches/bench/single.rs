//! One message at a time: how long a request waits for its reply when nothing else is going on, beside the flushes of the
//! disk that it cannot do without.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::{Backend, EmbeddedBackend, EmbeddedOptions, MemoryBackend};
use sandbar::control::Host;
use sandbar::message::{Message, Payload};
use tokio::runtime::Runtime;

use super::driver::{Handler, host, stop};
use super::measure::now;
use super::raw::commit_size;
use super::report::{Bar, Section, Table};
use super::settings::Settings;
use super::stats::{Spread, bytes, time, times};

/// Requests, or pairs of flushes, between two changes of what is measured.
const BLOCK: usize = 20;
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn run(settings: &Settings) -> Section {
    let mut section = Section::new(
        "One message at a time",
        "A client's request to `echo` until it has the reply, 200 B. On the embedded backend the request is durable before \
         the reply is sent, and so is its end with the reply: two commits. They are compared with appending what one commit \
         appends and `fdatasync`, twice, in the same folder, in turn with the requests. In a file that has its size already \
         the same is faster, because the file system has nothing of its own to write; the backend makes use of that.",
    );
    let runtime = super::runtime(super::cores());
    let mut table = Table::new(["request → reply"].into_iter().chain(Spread::HEADINGS));
    for (name, handler) in [
        (
            "memory, native action, one after the other",
            Handler::Native,
        ),
        ("memory, echo plugin, one after the other", Handler::echo()),
    ] {
        let spread = memory(&runtime, handler, settings.pick(20_000, 500));
        table.row([name.to_owned()].into_iter().chain(spread.cells()));
    }
    let size = runtime.block_on(commit_size());
    for (about, pause, blocks) in [
        ("one after the other", Duration::ZERO, settings.pick(40, 3)),
        (
            "one each 25 ms",
            Duration::from_millis(25),
            settings.pick(20, 2),
        ),
    ] {
        let [requests, flushes, sized] = embedded(&runtime, size, pause, blocks);
        for (name, spread) in [
            ("embedded, echo plugin", &requests),
            ("two flushes", &flushes),
            ("two flushes, file with its size", &sized),
        ] {
            let name = format!("{name}, {about}");
            table.row([name].into_iter().chain(spread.cells()));
        }
        let (ours, limit) = (requests.median(), flushes.median());
        section.note(format!(
            "Embedded, {about}: p50 is {} of two flushes.",
            times(ours / limit)
        ));
        if pause.is_zero() {
            section.bar(Bar {
                name: "One message at a time, embedded backend, p50",
                limit: ("two flushes of the disk", limit),
                ours,
                target: limit * 1.2,
                wanted: "≤ 1.2× two flushes",
                unit: time,
                more: false,
            });
        }
    }
    section.table(table);
    section.note(format!(
        "One commit of one message appends {} to the write-ahead log.",
        bytes(size as f64)
    ));
    section
}

fn memory(runtime: &Runtime, handler: Handler, count: usize) -> Spread {
    runtime.block_on(async {
        let backend = Arc::new(MemoryBackend::new());
        let host = host(&backend, handler).await;
        requests(&host, count / 10, Duration::ZERO).await;
        let spread = requests(&host, count, Duration::ZERO).await;
        stop(host, &backend).await;
        spread
    })
}

/// Requests and pairs of flushes, in turn.
fn embedded(runtime: &Runtime, size: u64, pause: Duration, blocks: usize) -> [Spread; 3] {
    let folder = tempfile::tempdir_in(sandbar_tests::guests::target()).unwrap();
    let open = EmbeddedBackend::open(folder.path(), EmbeddedOptions::default());
    let backend = Arc::new(runtime.block_on(open).unwrap());
    let host = runtime.block_on(host(&backend, Handler::echo()));
    let mut logs = [
        Log::new(folder.path(), size),
        Log::sized(folder.path(), size),
    ];
    runtime.block_on(requests(&host, BLOCK, pause));
    logs.iter_mut()
        .for_each(|log| drop(log.flushes(BLOCK, pause)));
    let (mut ours, mut limit, mut sized) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..blocks {
        ours.push(runtime.block_on(requests(&host, BLOCK, pause)));
        let [log, with_size] = &mut logs;
        limit.push(log.flushes(BLOCK, pause));
        sized.push(with_size.flushes(BLOCK, pause));
    }
    runtime.block_on(async {
        stop(host, &backend).await;
        backend.close().await;
    });
    [Spread::all(&ours), Spread::all(&limit), Spread::all(&sized)]
}

async fn requests(host: &Host, count: usize, pause: Duration) -> Spread {
    let mut spread = Spread::default();
    for number in 0..count {
        let content: Vec<u8> = (0..200).map(|place| (number + place) as u8).collect();
        let message = Message::new("echo".parse().unwrap(), Payload::new(content.clone()));
        tokio::time::sleep(pause).await;
        let began = now();
        let reply = host.client().request(message, PATIENCE).await.unwrap();
        spread.add(began.elapsed());
        assert!(reply.ok() && reply.payload.content == content, "void");
    }
    assert_eq!(host.client().late_replies(), 0, "void, a reply came twice");
    spread
}

/// A file that is written as the write-ahead log is.
struct Log {
    file: File,
    commit: Vec<u8>,
    at: u64,
}

impl Log {
    /// It grows.
    fn new(folder: &Path, size: u64) -> Self {
        let file = File::create_new(folder.join("flushes")).unwrap();
        let (commit, at) = (vec![0x5a; size as usize], 0);
        Self { file, commit, at }
    }

    /// It has its size already.
    fn sized(folder: &Path, size: u64) -> Self {
        let mut file = File::create_new(folder.join("sized")).unwrap();
        file.write_all(&vec![0; 48 << 20]).unwrap();
        file.sync_all().unwrap();
        let (commit, at) = (vec![0x5a; size as usize], 0);
        Self { file, commit, at }
    }

    /// Times of two flushes each.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is no worker of the runtime"
    )]
    fn flushes(&mut self, count: usize, pause: Duration) -> Spread {
        let mut spread = Spread::default();
        for _ in 0..count {
            std::thread::sleep(pause);
            let began = now();
            for _ in 0..2 {
                self.file.write_all_at(&self.commit, self.at).unwrap();
                self.at += self.commit.len() as u64;
                self.file.sync_data().unwrap();
            }
            spread.add(began.elapsed());
        }
        spread
    }
}
