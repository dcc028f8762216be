//! D1 and D2: how soon a host is as quick as before when its PostgreSQL server has failed, and how quick it is while others keep
//! that server from cleaning up. Each figure stands beside one of the same host and server, measured just before.
//!
//! That nothing is lost or repeated is asserted by the tests; here everything that was sent comes back, or the run ends.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sandbar::backend::{
    Backend as _, Effects, PostgresBackend, PostgresOptions, PublishError, Verdict,
};
use sandbar::topic::TopicName;
use sandbar_tests::servers::postgres::{Postgres, Session};
use tokio::runtime::Runtime;

use super::super::driver::{Handler, Load, Run, Work, drive, host, stop};
use super::super::measure::now;
use super::super::report::{Bar, Section, Table};
use super::super::settings::Settings;
use super::super::stats::{Runs, rate, thousands, time, times};

/// Messages that are sent during a fault, at most.
const MOST: usize = 1 << 20;
/// How long it may take until all of them have come back.
const PATIENCE: Duration = Duration::from_secs(300);

/// What is done to the server.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// Five connections of the host are ended each second, one after the other.
    Cut,
    /// It crashes and starts again, five times.
    Crash,
    /// Others have every connection, and the host loses those that it has.
    NoConnections,
}

/// A server with a role that has no connections reserved for it, and one host on it.
struct Fixture {
    server: Arc<Postgres>,
    options: PostgresOptions,
    backend: Arc<PostgresBackend>,
}

/// What a fault did.
struct Outcome {
    before: Load,
    /// How long it lasted, until everything that was sent meanwhile had come back.
    lasted: Duration,
    during: usize,
    after: Load,
}

impl Fault {
    fn name(self) -> &'static str {
        match self {
            Self::Cut => "five connections a second ended",
            Self::Crash => "five crashes and restarts of the server",
            Self::NoConnections => "no connection left for three seconds",
        }
    }

    /// Does it, for as long as it takes.
    fn happen(self, server: &Postgres, seconds: u64) {
        let own = "FROM pg_stat_activity WHERE application_name = 'sandbar'";
        match self {
            Self::Cut => {
                for _ in 0..seconds * 5 {
                    server.psql(&format!(
                        "SELECT pg_terminate_backend(pid) {own} ORDER BY random() LIMIT 1"
                    ));
                    pause(Duration::from_millis(200));
                }
            }
            Self::Crash => {
                for _ in 0..5 {
                    pause(Duration::from_millis(seconds * 100));
                    server.crash();
                }
            }
            Self::NoConnections => {
                let plain = || server.try_session_as("plain");
                let mut greedy: Vec<Option<Session>> = (0..40).map(|_| plain()).collect();
                server.psql(&format!("SELECT count(pg_terminate_backend(pid)) {own}"));
                greedy.extend((0..40).map(|_| plain()));
                pause(Duration::from_secs(3));
            }
        }
    }
}

fn pause(time: Duration) {
    std::thread::park_timeout(time);
}

impl Fixture {
    async fn new() -> Option<Self> {
        let settings = [
            ("shared_buffers", "256MB"),
            ("max_wal_size", "4GB"),
            ("max_connections", "30"),
        ];
        let server = Arc::new(Postgres::start(&settings)?);
        server.psql("CREATE ROLE plain LOGIN; GRANT CREATE ON DATABASE postgres TO plain");
        let options = PostgresOptions {
            schema: server.schema(),
            ..PostgresOptions::at(&server.url().replace("sandbar@", "plain@"))
        };
        let backend = Arc::new(PostgresBackend::open(options.clone()).await.unwrap());
        Some(Self {
            server,
            options,
            backend,
        })
    }

    /// Baseline, fault and what follows, on one host that lives through all of it.
    async fn fault(&self, fault: Fault, work: &Work, seconds: u64) -> Outcome {
        drive(&self.backend, &share(work, 10)).await;
        let before = drive(&self.backend, work).await;
        let over = Arc::new(AtomicBool::new(false));
        let run = Run::new(&self.backend, MOST, 200).await;
        let began = now();
        let (server, end) = (self.server.clone(), over.clone());
        let happening = tokio::task::spawn_blocking(move || {
            fault.happen(&server, seconds);
            end.store(true, Ordering::SeqCst);
        });
        let during = through(&self.backend, &run, &over).await;
        happening.await.unwrap();
        let lasted = began.elapsed();
        drive(&self.backend, &share(work, 10)).await;
        let after = drive(&self.backend, work).await;
        Outcome {
            before,
            lasted,
            during,
            after,
        }
    }

    /// Rows that are dead and still there.
    fn dead(&self) -> f64 {
        let sql = format!(
            "SELECT coalesce(sum(n_dead_tup), 0) FROM pg_stat_user_tables WHERE schemaname = '{}'",
            self.options.schema
        );
        self.server.psql(&sql).parse().unwrap()
    }
}

/// The same, so many times less of it.
fn share(work: &Work, parts: usize) -> Work {
    Work {
        count: work.count / parts,
        ..work.clone()
    }
}

/// Sends until it is over, whatever fails, and waits for all that was accepted; returns how many messages that were.
async fn through(backend: &Arc<PostgresBackend>, run: &Run, over: &AtomicBool) -> usize {
    let topic: TopicName = "echo".parse().unwrap();
    let (mut sent, mut missing) = (0, HashSet::new());
    let (mut accepted, began) = (0, now());
    while !over.load(Ordering::SeqCst) || !missing.is_empty() {
        let left = missing.len();
        assert!(
            began.elapsed() < PATIENCE,
            "void, {left} replies are missing"
        );
        if !over.load(Ordering::SeqCst) && left < 2_000 && sent < MOST {
            let numbers = sent..MOST.min(sent + 100);
            sent = numbers.end;
            let moment = now();
            let outgoing = |number| run.outgoing(number, topic.clone(), moment);
            let batch = numbers.clone().map(outgoing).collect();
            for (number, result) in numbers.zip(backend.publish(batch).await) {
                match result {
                    Ok(_) => {
                        accepted += 1;
                        missing.insert(number);
                    }
                    Err(PublishError::Unavailable(_)) => {}
                    Err(error) => panic!("void, {error}"),
                }
            }
        }
        collect(backend, run, &mut missing).await;
    }
    // Its connection may be one of those that were ended.
    while let Err(error) = backend.delete_queue(&run.queue().name).await {
        assert!(began.elapsed() < PATIENCE, "void, {error}");
    }
    accepted
}

/// Takes what is there. What was refused may have been accepted all the same, and what could not be settled comes again.
async fn collect(backend: &Arc<PostgresBackend>, run: &Run, missing: &mut HashSet<usize>) {
    let wait = Duration::from_millis(20);
    let Ok(batch) = backend.receive(run.queue(), 512, wait).await else {
        return;
    };
    let mut settlements = Vec::new();
    for delivery in batch {
        missing.remove(&run.check(&delivery));
        settlements.push(delivery.settle(Verdict::Ack, Effects::default()));
    }
    backend.settle(settlements).await;
}

/// The rates after each fault, and under what keeps the server from cleaning up.
pub(crate) fn run(settings: &Settings) -> Section {
    let mut section = Section::new(
        "PostgreSQL backend, while and after the server fails",
        "D1: publish → echo → reply received, 200 B, at full speed on one host, before and after its server failed in one of \
         these ways under load. D2: the same with and without transactions that keep the server from cleaning up. Each round has a \
         server of its own.",
    );
    if Postgres::start(&[]).is_none() {
        section.note("Not measured: PostgreSQL is not installed.");
        return section;
    }
    let runtime = &super::super::runtime(super::super::cores());
    let work = Work::echo(settings.pick(100_000, 20_000));
    let seconds = settings.pick(60, 2);
    let mut table = Table::new([
        "what happens to the server",
        "msg/s before",
        "it lasted",
        "sent meanwhile",
        "msg/s after",
        "of the rate before",
    ]);
    let mut least: Option<(f64, f64)> = None;
    for fault in [Fault::Cut, Fault::Crash, Fault::NoConnections] {
        let rounds = (0..settings.pick(3, 1)).map(|_| {
            runtime.block_on(async {
                let fixture = Fixture::new().await.expect("it was there before");
                let serving = host(&fixture.backend, Handler::echo()).await;
                let outcome = fixture.fault(fault, &work, seconds).await;
                stop(serving, &fixture.backend).await;
                fixture.backend.close().await;
                outcome
            })
        });
        let outcomes: Vec<Outcome> = rounds.collect();
        let before = Runs::of(&outcomes, |it| it.before.rate).median();
        let after = Runs::of(&outcomes, |it| it.after.rate).median();
        let lasted = Runs::of(&outcomes, |it| it.lasted.as_nanos() as f64).median();
        let during: usize = outcomes.iter().map(|it| it.during).sum();
        table.row([
            fault.name().to_owned(),
            rate(before),
            time(lasted),
            thousands(during as f64),
            rate(after),
            times(after / before),
        ]);
        if least.is_none_or(|(before_, after_)| after / before < after_ / before_) {
            least = Some((before, after));
        }
    }
    section.table(table);
    if let Some((before, after)) = least {
        section.bar(Bar {
            name: "D1: the rate after the worst of these faults",
            limit: ("before it", before),
            ours: after,
            target: before * 0.95,
            wanted: "≥ 0.95× before",
            unit: thousands,
            more: true,
        });
    }
    old(&mut section, settings, runtime, &work);
    section
}

/// D2: an old snapshot and four long readers.
fn old(section: &mut Section, settings: &Settings, runtime: &Runtime, work: &Work) {
    let rounds = (0..settings.pick(3, 1)).map(|_| {
        runtime.block_on(async {
            let fixture = Fixture::new().await.expect("it was there before");
            let serving = host(&fixture.backend, Handler::echo()).await;
            drive(&fixture.backend, &share(work, 10)).await;
            let before = drive(&fixture.backend, work).await;
            let readers = readers(&fixture.server, &fixture.options.schema);
            let during = drive(&fixture.backend, work).await;
            stop(serving, &fixture.backend).await;
            // Closing has the server count what was done.
            fixture.backend.close().await;
            let dead = fixture.dead();
            drop(readers);
            let clean = format!("VACUUM {}.messages", fixture.options.schema);
            fixture.server.psql(&clean);
            let all = work.count * 2 + work.count / 10;
            (before.rate, during.rate, dead / all as f64)
        })
    });
    let rounds: Vec<(f64, f64, f64)> = rounds.collect();
    let before = Runs::of(&rounds, |it| it.0).median();
    let during = Runs::of(&rounds, |it| it.1).median();
    let dead = Runs::of(&rounds, |it| it.2).median();
    let mut table = Table::new([
        "what keeps the server from cleaning up",
        "msg/s before",
        "msg/s with it",
        "of the rate before",
        "dead rows for each message",
    ]);
    table.row([
        "an old snapshot and four long readers".to_owned(),
        rate(before),
        rate(during),
        times(during / before),
        format!("{dead:.2}"),
    ]);
    section.table(table);
    section.bar(Bar {
        name: "D2: the rate with an old snapshot and four long readers",
        limit: ("without them", before),
        ours: during,
        target: before * 0.75,
        wanted: "≥ 0.75× without",
        unit: thousands,
        more: true,
    });
}

/// A transaction that sees what was there, and four that read the messages, all of them for as long as this lives.
fn readers(server: &Postgres, schema: &str) -> Vec<Session> {
    let mut readers = vec![
        server.session("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class"),
    ];
    let read = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ; DECLARE c CURSOR FOR SELECT * FROM {schema}.messages; FETCH 1 FROM c"
    );
    readers.extend((0..4).map(|_| server.session(&read)));
    readers
}
