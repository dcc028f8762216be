//! Commits whose answer never came: whatever became of them, each message is there once.
//!
//! The connection is lost at a chosen place, by a proxy; the server is a real one, and its crash a real crash.

use std::cell::Cell;
use std::sync::Arc;

use sandbar::backend::{PostgresBackend, PostgresOptions, Receipt};
use sandbar_tests::contract::{Broker, Failure, Outcome, message};
use sandbar_tests::servers::postgres::Postgres;
use sandbar_tests::servers::proxy::{Proxy, Trap};

use super::options;

const BEFORE_COMMIT: Trap = Trap {
    after: "INSERT INTO commits",
    at: "COMMIT",
    passed_on: false,
};
const BEFORE_ITS_ANSWER: Trap = Trap {
    passed_on: true,
    ..BEFORE_COMMIT
};

/// A broker behind a proxy that has written already, and what it publishes while the trap is set. If the proxy is `closed`,
/// the broker asks nobody before it is opened again.
async fn publish_into(
    server: &Postgres,
    trap: Trap,
    closed: bool,
    meanwhile: impl AsyncFnOnce(&Proxy, &str) -> Outcome,
) -> Result<(Broker, Receipt, Proxy), Failure> {
    let proxy = Proxy::start(([127, 0, 0, 1], server.port()).into()).await?;
    let options = PostgresOptions {
        schema: options(server).schema,
        // What is written once more is written by the same one.
        writers: 1,
        ..PostgresOptions::at(&format!("postgres://sandbar@{}/postgres", proxy.address()))
    };
    let schema = options.schema.clone();
    let backend = Arc::new(PostgresBackend::open(options).await?);
    let broker = Broker {
        backend: backend.clone(),
        store: backend,
    };
    let queue = broker.queue("q", &["t"]).await?;
    broker.send("t", &["before"]).await?;
    broker.ack(broker.take(&queue, 1).await?).await?;

    // Before it is set, so that nobody asks too soon.
    proxy.close(closed);
    proxy.set(trap);
    let disturb = async {
        proxy.lost().await;
        meanwhile(&proxy, &schema).await
    };
    let (receipt, disturbed) = tokio::join!(broker.publish(message("t", "1")?), disturb);
    disturbed?;
    let one = broker.one(&queue).await?;
    broker.ack(vec![one]).await?;
    broker.nothing(&queue).await?;
    Ok((broker, receipt?, proxy))
}

/// How many transactions of the writer were given up.
fn given_up(server: &Postgres, schema: &str) -> String {
    server.psql(&format!(
        "SELECT count(*) FROM {schema}.commits WHERE NOT done"
    ))
}

/// After a crash the server gives the number of a transaction that had not reached its disk to somebody else, who
/// commits: `pg_xact_status` then says `committed` of a transaction of which there is nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_a_crash_forgot_is_not_taken_for_one_of_its_number() -> Outcome {
    // Nothing reaches the disk by itself.
    let settings = [("wal_writer_delay", "10s"), ("autovacuum", "off")];
    let Some(server) = Postgres::start(&settings) else {
        return Ok(());
    };
    let given_away = Cell::new(false);
    let crash = async |proxy: &Proxy, schema: &str| -> Outcome {
        tokio::task::block_in_place(|| {
            let number = open_for_long(&server)?;
            server.crash();
            while server.psql("SELECT pg_current_xact_id()").parse::<u64>()? < number {}
            let status = server.psql(&format!("SELECT pg_xact_status('{number}')"));
            given_away.set(status == "committed");
            assert_eq!(given_up(&server, schema), "0");
            Ok::<_, Failure>(())
        })?;
        proxy.close(false);
        Ok(())
    };
    // Every ten seconds what was written ahead reaches the disk all the same; then the number is not given away.
    for _ in 0..5 {
        let (broker, _, _proxy) = publish_into(&server, BEFORE_COMMIT, true, &crash).await?;
        broker.backend.close().await;
        if given_away.get() {
            return Ok(());
        }
    }
    Err("no number was given away".into())
}

/// The number of the transaction that waits for its client; others are over in no time.
fn open_for_long(server: &Postgres) -> Result<u64, Failure> {
    for _ in 0..200 {
        let number = server.psql(
            "SELECT backend_xid FROM pg_stat_activity \
             WHERE application_name = 'sandbar' AND state = 'idle in transaction' AND backend_xid IS NOT NULL \
             AND state_change < clock_timestamp() - interval '200 ms'",
        );
        if let Ok(number) = number.parse() {
            return Ok(number);
        }
    }
    Err("no transaction is held".into())
}

/// The server did not notice that its client is gone: the transaction is ended, and done once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_still_open_is_given_up_and_done_once_more() -> Outcome {
    let Some(server) = Postgres::start(&[]) else {
        return Ok(());
    };
    let nothing = async |_: &Proxy, _: &str| Ok(());
    let (broker, _, _proxy) = publish_into(&server, BEFORE_COMMIT, false, nothing).await?;
    let schemas = server.psql("SELECT schemaname FROM pg_tables WHERE tablename = 'commits'");
    assert_eq!(given_up(&server, &schemas), "1");
    broker.backend.close().await;
    // Who ends leaves nothing to ask for.
    assert_eq!(
        server.psql(&format!("SELECT count(*) FROM {schemas}.commits")),
        "0"
    );
    assert_eq!(
        server.psql(&format!("SELECT count(*) FROM {schemas}.writers")),
        "0"
    );
    Ok(())
}

/// It was committed, and only the answer is missing: nothing is done once more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_an_answer_is_not_done_once_more() -> Outcome {
    let Some(server) = Postgres::start(&[]) else {
        return Ok(());
    };
    let nothing = async |_: &Proxy, _: &str| Ok(());
    let (broker, receipt, _proxy) =
        publish_into(&server, BEFORE_ITS_ANSWER, false, nothing).await?;
    broker.check_count(receipt, 1);
    let schema = server.psql("SELECT schemaname FROM pg_tables WHERE tablename = 'commits'");
    assert_eq!(given_up(&server, &schema), "0");
    broker.backend.close().await;
    Ok(())
}

/// A writer whose number was removed meanwhile (its host was taken for dead for an hour) says that it doesn't know, and
/// goes on under another one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_was_forgotten_says_so_and_goes_on() -> Outcome {
    let Some(server) = Postgres::start(&[]) else {
        return Ok(());
    };
    let proxy = Proxy::start(([127, 0, 0, 1], server.port()).into()).await?;
    let options = PostgresOptions {
        schema: options(&server).schema,
        writers: 1,
        ..PostgresOptions::at(&format!("postgres://sandbar@{}/postgres", proxy.address()))
    };
    let schema = options.schema.clone();
    let broker = super::host(&options).await?;
    let queue = broker.queue("q", &["t"]).await?;
    broker.send("t", &["1"]).await?;
    // Before it is set, so that nobody asks too soon.
    proxy.close(true);
    proxy.set(BEFORE_ITS_ANSWER);
    let forget = async {
        proxy.lost().await;
        tokio::task::block_in_place(|| {
            server.psql(&format!(
                "DELETE FROM {schema}.writers; DELETE FROM {schema}.commits"
            ))
        });
        proxy.close(false);
    };
    let (told, ()) = tokio::join!(broker.publish(message("t", "2")?), forget);
    let error = told.expect_err("nobody knows").to_string();
    assert!(
        error.contains("the server does not say what became of it"),
        "{error}"
    );
    broker.send("t", &["3"]).await?;
    let got = broker.take(&queue, 3).await?;
    broker.ack(got).await?;
    broker.nothing(&queue).await?;
    assert_eq!(
        server.psql(&format!("SELECT count(*) FROM {schema}.writers")),
        "1"
    );
    broker.backend.close().await;
    Ok(())
}
