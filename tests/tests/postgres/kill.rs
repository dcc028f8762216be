//! Hosts that share a database and are killed (kill -9), or stopped for longer than their leases: every accepted message is
//! handled, and whatever it caused is there exactly once.
//!
//! Real processes, a real server, real signals; each comes at a moment of its own.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sandbar_tests::contract::Outcome;
use sandbar_tests::ledger;
use sandbar_tests::process::signal;
use sandbar_tests::servers::postgres::Postgres;

use super::{host, options};

const COUNT: usize = 6_000;
const KILLS: u32 = 12;

/// A process that works on the ledger.
struct Worker(Child);

impl Worker {
    fn start(url: &str, schema: &str) -> std::io::Result<Self> {
        Command::new(env!("CARGO_BIN_EXE_ledger"))
            .args([url, schema])
            .stdin(Stdio::null())
            .spawn()
            .map(Self)
    }
}

/// A moment for the next signal; a seed of its own for each run, printed so that a failure can be repeated.
struct Moments(u64);

impl Moments {
    fn new() -> Self {
        let seed = u64::from(std::process::id());
        println!("seed {seed}");
        Self(seed)
    }

    async fn next(&mut self) {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        tokio::time::sleep(Duration::from_millis(100 + (self.0 >> 33) % 400)).await;
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // SIGKILL.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test]
async fn every_message_is_handled_once_across_kills_of_hosts() -> Outcome {
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    let options = options(server);
    let here = host(&options).await?;
    ledger::declare(&here).await?;
    ledger::publish(&here, 0..COUNT).await?;
    let mut moments = Moments::new();
    let start = || Worker::start(&server.url(), &options.schema);
    let mut workers = [start()?, start()?];
    let mut done = 0;
    for kill in 0..KILLS {
        moments.next().await;
        let handled = ledger::total(&here).await?;
        println!("kill {kill}: {handled} handled");
        assert!(handled >= done, "what was handled stays handled");
        done = handled;
        if let Some(worker) = workers.get_mut(kill as usize % 2) {
            *worker = start()?;
        }
    }
    ledger::work(&here, COUNT).await?;
    drop(workers);
    ledger::verify(&here, COUNT).await
}

/// A host that was stopped wakes up when others have long done its work: it is refused, and what it did is not there.
#[tokio::test]
async fn stopped_hosts_come_too_late() -> Outcome {
    const STOPS: usize = 6;
    const EACH: usize = 500;
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    let options = options(server);
    let here = host(&options).await?;
    ledger::declare(&here).await?;
    let workers = [
        Worker::start(&server.url(), &options.schema)?,
        Worker::start(&server.url(), &options.schema)?,
    ];
    let both = |name| workers.iter().for_each(|it| signal(it.0.id(), name));
    let sql = format!(
        "SELECT count(*) FROM {}.messages WHERE queue = (SELECT id FROM {0}.queues WHERE name = 'work') \
         AND ready_at > now()",
        options.schema
    );
    let in_flight = || server.psql(&sql).parse::<usize>();
    let (mut published, mut late) = (0, 0);
    for stop in 0..STOPS {
        ledger::publish(&here, published..published + EACH).await?;
        published += EACH;
        // Both stand still, so what is in flight is theirs; nobody else takes anything.
        both("STOP");
        let caught = in_flight()?;
        println!("{caught} messages were in flight");
        let (stopped, other) = (&workers[stop % 2], &workers[(stop + 1) % 2]);
        signal(other.0.id(), "CONT");
        // Done without the one that stands still, whose leases end meanwhile.
        ledger::work(&here, published).await?;
        assert_eq!(in_flight()?, 0);
        signal(stopped.0.id(), "CONT");
        late += caught;
    }
    assert!(late > 0, "nobody was stopped in the middle of its work");
    drop(workers);
    ledger::verify(&here, published).await
}
