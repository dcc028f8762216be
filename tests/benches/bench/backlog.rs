//! A backlog: what a message costs while many others wait, how fast those are handled, and how long opening takes.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::{
    Backend, Effects, EmbeddedBackend, EmbeddedOptions, Outgoing, QueueSpec, Verdict,
};
use sandbar::message::{Message, Payload};
use sandbar::topic::TopicName;

use super::driver::{Handler, Work, drive, host, stop};
use super::measure::now;
use super::memory::{headings, row};
use super::report::{Section, Table};
use super::settings::Settings;
use super::stats::{rate, time};

/// Messages in one publish or receive.
const BATCH: usize = 1024;
/// Of the backlog, so many are handled at most.
const DRAINED: usize = 100_000;

pub(crate) fn run(settings: &Settings) -> Section {
    let mut section = Section::new(
        "A backlog",
        "So many messages of 200 B wait in another queue of the same embedded backend. Opening is from closed to a \
         backend that can be used; the backlog is filled and emptied by the driver without a handler, each message \
         checked and settled.",
    );
    let counts: &[usize] = settings.pick(&[0, 100_000, 1_000_000], &[0, 10_000]);
    let headings = headings("waiting").into_iter();
    let mut table = Table::new(headings.chain(["filled", "opened in", "emptied"]));
    let runtime = super::runtime(super::cores());
    for count in counts {
        let work = Work::echo(settings.pick(100_000, 5_000));
        table.row(runtime.block_on(measure(*count, &work)));
    }
    section.table(table);
    section
}

async fn measure(count: usize, work: &Work) -> Vec<String> {
    let folder = tempfile::tempdir_in(sandbar_tests::guests::target()).unwrap();
    let backend = open(folder.path()).await;
    let topic: TopicName = "backlog".parse().unwrap();
    let spec = QueueSpec::new("backlog".parse().unwrap(), vec![topic.clone().into()]);
    let queue = backend.declare_queue(spec).await.unwrap().queue;
    let began = now();
    for first in (0..count).step_by(BATCH) {
        let messages = (first..count.min(first + BATCH)).map(|number| {
            let mut content = vec![b'x'; 200];
            content[..8].copy_from_slice(&number.to_le_bytes());
            Outgoing::new(Message::new(topic.clone(), Payload::new(content)))
        });
        for result in backend.publish(messages.collect()).await {
            result.unwrap();
        }
    }
    let filled = began.elapsed();
    backend.close().await;
    drop(backend);
    let began = now();
    let backend = open(folder.path()).await;
    let opened = began.elapsed();
    let host = host(&backend, Handler::echo()).await;
    let warm_up = Work {
        count: work.count / 10,
        ..work.clone()
    };
    drive(&backend, &warm_up).await;
    let load = drive(&backend, work).await;
    stop(host, &backend).await;
    let began = now();
    let drained = count.min(DRAINED);
    let mut next = 0;
    while next < drained {
        let wait = Duration::from_secs(30);
        let batch = backend.receive(&queue, BATCH, wait).await.unwrap();
        assert!(!batch.is_empty(), "void, message {next} is missing");
        let mut settlements = Vec::with_capacity(batch.len());
        for delivery in batch {
            let form = sandbar::wire::Form::Native;
            let message = sandbar::wire::decode(form, &delivery.packet).unwrap();
            let number = message.payload.content[..8].try_into().unwrap();
            assert_eq!(usize::from_le_bytes(number), next, "void, not in order");
            next += 1;
            settlements.push(delivery.settle(Verdict::Ack, Effects::default()));
        }
        for result in backend.settle(settlements).await {
            result.unwrap();
        }
    }
    let emptied = began.elapsed();
    backend.close().await;
    let per_second = |count: usize, took: Duration| match count {
        0 => "–".to_owned(),
        _ => rate(count as f64 / took.as_secs_f64()),
    };
    let mut row = row(&count.to_string(), &[load]);
    row.extend([
        per_second(count, filled),
        time(super::measure::nanos(opened)),
        per_second(next, emptied),
    ]);
    row
}

async fn open(folder: &Path) -> Arc<EmbeddedBackend> {
    let opened = EmbeddedBackend::open(folder, EmbeddedOptions::default()).await;
    Arc::new(opened.unwrap())
}
