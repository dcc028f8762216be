//! Latency at fixed arrival rates: messages are due at moments that do not depend on what came back, and each is timed
//! from the moment when it was due, so that a slow system cannot slow its clients down (no coordinated omission).

use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::{Backend, EmbeddedBackend, EmbeddedOptions, MemoryBackend};
use sandbar::store::Store;
use sandbar::topic::TopicName;
use tokio::runtime::Runtime;

use super::driver::{Handler, Run, host, stop};
use super::measure::now;
use super::report::{Section, Table};
use super::settings::Settings;
use super::stats::{Spread, rate, time};

const BATCH: usize = 512;

pub(crate) fn run(settings: &Settings) -> Section {
    let mut section = Section::new(
        "Latency at fixed arrival rates",
        "From the moment when a message is due until its reply is received, 200 B, however many are waiting. The driver \
         sleeps between two messages, and how late it wakes is part of the times; the last column says how much.",
    );
    let runtime = super::runtime(super::cores());
    let seconds = settings.pick(10.0, 0.5);
    let headings = ["backend", "msg/s", "handler"];
    let mut table = Table::new(
        headings
            .into_iter()
            .chain(Spread::HEADINGS)
            .chain(["driver late, p50"]),
    );
    let mut row = |backend: &str, per_second: f64, handler: &str, [ours, late]: [Spread; 2]| {
        let cells = [backend.to_owned(), rate(per_second), handler.to_owned()];
        let late = [time(late.median())];
        table.row(cells.into_iter().chain(ours.cells()).chain(late));
    };
    for (backend, rates) in [
        ("memory", &[1_000.0, 10_000.0, 30_000.0, 100_000.0][..]),
        ("embedded", &[1_000.0, 10_000.0, 30_000.0]),
    ] {
        for &per_second in rates {
            for (name, handler) in [("native", Handler::Native), ("plugin", Handler::echo())] {
                let load = |runtime| match backend {
                    "memory" => memory(runtime, handler, per_second, seconds),
                    _ => embedded(runtime, handler, per_second, seconds),
                };
                row(backend, per_second, name, load(&runtime));
            }
        }
    }
    section.table(table);
    section
}

fn memory(runtime: &Runtime, handler: Handler, per_second: f64, seconds: f64) -> [Spread; 2] {
    let backend = Arc::new(MemoryBackend::new());
    warm(runtime, &backend, handler, per_second, seconds)
}

fn embedded(runtime: &Runtime, handler: Handler, per_second: f64, seconds: f64) -> [Spread; 2] {
    let folder = tempfile::tempdir_in(sandbar_tests::guests::target()).unwrap();
    let open = EmbeddedBackend::open(folder.path(), EmbeddedOptions::default());
    let backend = Arc::new(runtime.block_on(open).unwrap());
    let spreads = warm(runtime, &backend, handler, per_second, seconds);
    runtime.block_on(backend.close());
    spreads
}

fn warm<B: Backend + Store + 'static>(
    runtime: &Runtime,
    backend: &Arc<B>,
    handler: Handler,
    per_second: f64,
    seconds: f64,
) -> [Spread; 2] {
    let host = runtime.block_on(host(backend, handler));
    paced(runtime, backend, per_second, seconds / 10.0);
    let spreads = paced(runtime, backend, per_second, seconds);
    runtime.block_on(stop(host, backend));
    spreads
}

/// Publishes at that rate; the times to the replies, and how late each was sent.
#[expect(
    clippy::disallowed_methods,
    reason = "this is no worker of the runtime"
)]
pub(crate) fn paced<B: Backend + 'static>(
    runtime: &Runtime,
    backend: &Arc<B>,
    per_second: f64,
    seconds: f64,
) -> [Spread; 2] {
    let count = (per_second * seconds) as usize;
    let run = runtime.block_on(Run::new(backend, count, 200));
    let receiver = {
        let (run, backend) = (run.clone(), backend.clone());
        runtime.spawn(async move { run.receive(&backend, None).await })
    };
    let topic: TopicName = "echo".parse().unwrap();
    let mut late = Spread::default();
    let began = now() + Duration::from_millis(5);
    let due = |number: usize| began + Duration::from_secs_f64(number as f64 / per_second);
    let mut next = 0;
    while next < count {
        let mut moment = now();
        if moment < due(next) {
            std::thread::sleep(due(next) - moment);
            moment = now();
        }
        let mut batch = Vec::new();
        while next < count && due(next) <= moment && batch.len() < BATCH {
            late.add(moment - due(next));
            batch.push(run.outgoing(next, topic.clone(), due(next)));
            next += 1;
        }
        let backend = backend.clone();
        runtime.spawn(async move {
            for result in backend.publish(batch).await {
                result.unwrap();
            }
        });
    }
    let spread = runtime.block_on(receiver).unwrap();
    runtime.block_on(run.end(backend));
    [spread, late]
}
