//! The whole path on the embedded backend, everything durable, beside its own statements alone.

use std::sync::Arc;

use sandbar::backend::{Backend, EmbeddedBackend, EmbeddedOptions};
use tokio::runtime::Runtime;

use super::driver::{Handler, Load, Work, drive, host, stop};
use super::measure::alternate;
use super::memory::{headings, row};
use super::raw::{Plan, write};
use super::report::{Bar, Section, Table};
use super::settings::Settings;
use super::stats::{Runs, Spread, rate, thousands, time, times};

/// Messages of one round of the raw statements.
const ROUND: u64 = 512;

pub(crate) fn run(settings: &Settings) -> Section {
    let mut section = Section::new(
        "Embedded backend, end to end",
        "Publish → echo → reply received, 200 B, up to 8,192 messages on their way, SQLite. Every \
         step is durable: the message before its publisher is told, its end together with the reply, and the receipt of \
         the reply, for the driver's queue is durable too. The driver is included.",
    );
    let runtime = super::runtime(super::cores());
    let work = Work::echo(settings.pick(200_000, 10_000));
    let rounds = work.count as u64 / ROUND;
    let raw = |plan, size, rounds| runtime.block_on(write(plan, size, rounds));
    let path = |handler| load(&runtime, handler, &work);
    let measured = alternate(
        settings.pick(5, 2),
        [
            &mut || raw(Plan::Three, ROUND, rounds),
            &mut || raw(Plan::Two, ROUND, rounds),
            &mut || raw(Plan::Three, ROUND * 4, rounds / 4),
            &mut || raw(Plan::Overlapped, ROUND, rounds),
            &mut || path(Handler::Native),
            &mut || path(Handler::echo()),
        ],
    );
    report(&mut section, &measured);
    section
}

fn report(
    section: &mut Section,
    [three, two, large, overlapped, natives, plugins]: &[Vec<Load>; 6],
) {
    let mut table = Table::new(headings("path"));
    table.row(row("native action", natives));
    table.row(row("echo plugin", plugins));
    section.table(table);
    let ours = Runs::of(plugins, |load| load.rate);
    let mut headings = vec!["raw statements", "msg/s, median", "best", "CPU per message"];
    headings.extend(["plugin, of it"]);
    headings.extend(Spread::HEADINGS);
    let mut table = Table::new(headings);
    let names = [
        "512 messages: insert; delete with replies; delete replies",
        "512 messages: insert; delete with replies",
        "2,048 messages: insert; delete with replies; delete replies",
        "512 messages, all of it in one transaction, rounds overlap",
    ];
    for (name, runs) in names.into_iter().zip([three, two, large, overlapped]) {
        let rates = Runs::of(runs, |run| run.rate);
        let cpu = Runs::of(runs, |run| run.cpu_us).median();
        let mut row = vec![name.to_owned()];
        row.extend(rates.rates());
        let (plugin, raw) = ours.beside(&rates);
        row.extend([time(cpu * 1e3), times(plugin / raw)]);
        row.extend(Spread::all(runs.iter().map(|run| &run.spread)).cells());
        table.row(row);
    }
    section.table(table);
    section.note(
        "The times of the path are from publishing to the reply of one message, those of the raw statements for a round. \
         The raw statements run through the backend's own writer, on rows that were made beforehand; each `;` is a \
         transaction. The path makes its transactions of what is waiting, so it may make larger ones. Each raw transaction is flushed by SQLite itself (`synchronous=FULL`) before the next one begins, as a program does that \
         waits for its commits; ours are flushed beside the writing of the next, before anything is confirmed.",
    );
    let (plugin, limit) = ours.beside(&Runs::of(three, |run| run.rate));
    section.bar(Bar {
        name: "Messages a second, embedded backend, all durable",
        limit: ("the same statements in raw SQL", limit),
        ours: plugin,
        target: limit * 0.7,
        wanted: "≥ 0.7× raw SQL",
        unit: thousands,
        more: true,
    });
    section.note(format!(
        "Target in absolute figures: ≥ 40,000 msg/s; the median is {}.",
        rate(ours.median())
    ));
}

/// One run in a new data folder, after a warm-up.
pub(crate) fn load(runtime: &Runtime, handler: Handler, work: &Work) -> Load {
    runtime.block_on(async {
        let folder = tempfile::tempdir_in(sandbar_tests::guests::target()).unwrap();
        let options = EmbeddedOptions::default();
        let backend = EmbeddedBackend::open(folder.path(), options).await.unwrap();
        let backend = Arc::new(backend);
        let host = host(&backend, handler).await;
        let count = work.count / 10;
        let warm_up = Work {
            count,
            ..work.clone()
        };
        drive(&backend, &warm_up).await;
        let load = drive(&backend, work).await;
        stop(host, &backend).await;
        backend.close().await;
        load
    })
}
