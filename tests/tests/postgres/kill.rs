//! kill -9 of hosts that share a database: every accepted message is handled, and whatever it caused is there exactly
//! once.
//!
//! Real processes, a real server, real SIGKILL; the signal for each comes at a moment of its own.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use sandbar_tests::contract::Outcome;
use sandbar_tests::ledger;
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
    // A seed of its own for each run, printed so that a failure can be repeated.
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = seed;
    let start = || Worker::start(&server.url(), &options.schema);
    let mut workers = [start()?, start()?];
    let mut done = 0;
    for kill in 0..KILLS {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        tokio::time::sleep(Duration::from_millis(100 + (random >> 33) % 400)).await;
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
