//! The whole path on a PostgreSQL server, everything durable, beside the same statements alone: without and with state,
//! before a backlog, and with a snapshot that keeps the server from cleaning up.

use std::sync::Arc;

use sandbar::backend::{Backend as _, Outgoing, PostgresBackend, PostgresOptions, QueueSpec};
use sandbar::message::{Message, Payload};
use sandbar::topic::TopicName;
use sandbar_tests::servers::postgres::Postgres;
use tokio::runtime::Runtime;

use super::bulk::{Bulk, raw};
use super::driver::{Handler, Load, Work, drive, host, stop};
use super::measure::alternate;
use super::memory::{headings, row};
use super::report::{Bar, Section, Table};
use super::settings::Settings;
use super::stateful::stateful;
use super::stats::{Runs, Spread, rate, thousands, time, times};

pub(crate) mod faults;

/// Messages in one statement of the raw SQL.
const ROUND: usize = 512;
/// Connections of the raw SQL: as many as the backend writes with.
const CONNECTIONS: usize = 3;

/// What the server has to do beside the messages that are measured.
#[derive(Debug, Clone, Copy)]
enum Burden {
    /// So many messages wait in another queue of the same table.
    Backlog(usize),
    /// A transaction that was begun before stays open.
    Snapshot,
}

pub(crate) fn run(settings: &Settings) -> Section {
    let mut section = Section::new(
        "PostgreSQL backend, end to end",
        "Publish → echo → reply received, 200 B, up to 8,192 messages on their way, on a private server with its defaults \
         (`fsync` and `synchronous_commit` on) and 256 MiB of shared buffers. Every step is durable, as on the embedded \
         backend. Server, host and driver share the cores.",
    );
    let settings_of_server = [("shared_buffers", "256MB"), ("max_wal_size", "4GB")];
    let Some(server) = Postgres::start(&settings_of_server) else {
        section.note("Not measured: PostgreSQL is not installed.");
        return section;
    };
    let runtime = super::runtime(super::cores());
    let work = Work::echo(settings.pick(100_000, 5_000));
    let path = |handler| load(&server, &runtime, handler, &work, Burden::Backlog(0));
    let bulk = |connections, state| {
        let bulk = Bulk {
            connections,
            size: ROUND,
            rounds: work.count / ROUND / connections,
            state,
        };
        runtime.block_on(raw(&server, &bulk))
    };
    let measured = alternate(
        settings.pick(5, 1),
        [
            &mut || bulk(1, false),
            &mut || bulk(CONNECTIONS, false),
            &mut || path(Handler::Native),
            &mut || path(Handler::echo()),
            &mut || bulk(1, true),
            &mut || bulk(CONNECTIONS, true),
            &mut || runtime.block_on(stateful(&server, work.count)),
        ],
    );
    report(&mut section, &measured);
    let mut table = Table::new(headings("echo plugin, with"));
    let large: &[usize] = settings.pick(&[0, 100_000, 1_000_000], &[0, 10_000]);
    for count in large {
        let load = load(
            &server,
            &runtime,
            Handler::echo(),
            &work,
            Burden::Backlog(*count),
        );
        let name = format!("{} messages in another queue", thousands(*count as f64));
        table.row(row(&name, &[load]));
    }
    let load = load(&server, &runtime, Handler::echo(), &work, Burden::Snapshot);
    table.row(row(
        "an old snapshot, pinned before the first message",
        &[load],
    ));
    section.table(table);
    section
}

fn report(
    section: &mut Section,
    [one, many, natives, plugins, one_state, many_state, states]: &[Vec<Load>; 7],
) {
    let mut table = Table::new(headings("path"));
    table.row(row("native action", natives));
    table.row(row("echo plugin", plugins));
    table.row(row(
        "receive, read state, settle with a reply, a key for duplicates and a value",
        states,
    ));
    section.table(table);
    let mut headings = vec!["raw statements, 512 messages each", "msg/s, median", "best"];
    headings.extend(["CPU per message", "ours, of it"]);
    headings.extend(Spread::HEADINGS);
    let mut table = Table::new(headings);
    for (name, runs, ours) in [
        ("one connection", one, plugins),
        ("three connections", many, plugins),
        ("one connection, with state", one_state, states),
        ("three connections, with state", many_state, states),
    ] {
        let rates = Runs::of(runs, |run| run.rate);
        let (ours, raw) = Runs::of(ours, |run| run.rate).beside(&rates);
        let cpu = Runs::of(runs, |run| run.cpu_us).median();
        let mut row = vec![name.to_owned()];
        row.extend(rates.rates());
        row.extend([time(cpu * 1e3), times(ours / raw)]);
        row.extend(Spread::all(runs.iter().map(|run| &run.spread)).cells());
        table.row(row);
    }
    section.table(table);
    section.note(
        "A round is: insert; claim; delete with replies; claim the replies; delete them. Claims are read and checked. With \
         state the delete also reads two keys, checks that they still have no value, and writes both. Processor time is \
         that of this process, without the server.",
    );
    let rate_of = |runs: &[Load]| Runs::of(runs, |load| load.rate).median();
    let bar = |name, limit: &[&[Load]], ours| {
        let limit = limit.iter().map(|runs| rate_of(runs)).fold(0.0, f64::max);
        Bar {
            name,
            limit: ("the same statements in raw SQL", limit),
            ours: rate_of(ours),
            target: limit * 0.7,
            wanted: "≥ 0.7× raw SQL",
            unit: thousands,
            more: true,
        }
    };
    section.bar(bar(
        "Messages a second, PostgreSQL, all durable",
        &[one, many],
        plugins,
    ));
    section.bar(bar(
        "Messages a second, PostgreSQL, with state",
        &[one_state, many_state],
        states,
    ));
    section.note(format!(
        "Target in absolute figures: ≥ 25,000 msg/s; the medians are {}, and {} with state.",
        rate(rate_of(plugins)),
        rate(rate_of(states))
    ));
}

/// One run in a new schema, after a warm-up.
fn load(
    server: &Postgres,
    runtime: &Runtime,
    handler: Handler,
    work: &Work,
    burden: Burden,
) -> Load {
    runtime.block_on(async {
        let backend = open(server).await;
        let pinned = match burden {
            Burden::Backlog(count) => {
                fill(&backend, count).await;
                None
            }
            Burden::Snapshot => {
                let sql = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class";
                Some(server.session(sql))
            }
        };
        let host = host(&backend, handler).await;
        let warm_up = Work {
            count: work.count / 10,
            ..work.clone()
        };
        drive(&backend, &warm_up).await;
        let load = drive(&backend, work).await;
        stop(host, &backend).await;
        backend.close().await;
        drop(pinned);
        load
    })
}

/// A backend in a schema of its own.
pub(crate) async fn open(server: &Postgres) -> Arc<PostgresBackend> {
    let options = PostgresOptions {
        schema: server.schema(),
        ..PostgresOptions::at(&server.url())
    };
    Arc::new(PostgresBackend::open(options).await.unwrap())
}

/// Messages that nobody takes.
async fn fill(backend: &PostgresBackend, count: usize) {
    let topic: TopicName = "backlog".parse().unwrap();
    let spec = QueueSpec::new("backlog".parse().unwrap(), vec![topic.clone().into()]);
    backend.declare_queue(spec).await.unwrap();
    let payload = Payload::new(vec![b'x'; 200]);
    for first in (0..count).step_by(2_000) {
        let message = |_| Outgoing::new(Message::new(topic.clone(), payload.clone()));
        let batch = (first..count.min(first + 2_000)).map(message).collect();
        for result in backend.publish(batch).await {
            result.unwrap();
        }
    }
}
