//! A server that fails while two hosts work on it: nothing that was confirmed is lost, nothing happens twice.
//!
//! Each test has a server of its own, which it may break. Nothing is asserted about speed; what is counted are messages,
//! and the work that the server has with them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sandbar::backend::{BackendError, Delivery, PostgresOptions, PublishError, Verdict};
use sandbar_tests::contract::{Broker, Failure, Outcome, SOON, message, texts, writing};
use sandbar_tests::ledger;
use sandbar_tests::servers::postgres::Postgres;
use tokio::time::{Instant, timeout};

use super::{host, hosts, options};

/// Publishes and handles `count` messages on two hosts while something happens, and counts them afterwards.
async fn survive<F: Future<Output = Outcome>>(
    server: &Postgres,
    count: usize,
    disturb: impl FnOnce(PostgresOptions) -> F,
) -> Outcome {
    let options = options(server);
    let (a, b) = hosts(&options).await?;
    ledger::declare(&a).await?;
    let all = async {
        let (first, second, third, fourth) = tokio::join!(
            ledger::publish(&a, 0..count / 2),
            ledger::publish(&b, count / 2..count),
            ledger::work(&a, count),
            ledger::work(&b, count),
        );
        first.and(second).and(third).and(fourth)
    };
    let (done, disturbed) = tokio::join!(all, disturb(options));
    done?;
    disturbed?;
    ledger::verify(&b, count).await
}

/// All connections are cut, again and again, wherever their transactions are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_lose_and_repeat_nothing() -> Outcome {
    let Some(server) = Postgres::start(&[]) else {
        return Ok(());
    };
    let cut = async |_| -> Outcome {
        for _ in 0..30 {
            server.psql(
                "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                 WHERE application_name = 'sandbar'",
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    };
    survive(&server, 4_000, cut).await
}

/// The server crashes and comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn crashes_of_the_server_lose_and_repeat_nothing() -> Outcome {
    let Some(server) = Postgres::start(&[]) else {
        return Ok(());
    };
    let crash = async |_| -> Outcome {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(400)).await;
            tokio::task::block_in_place(|| server.crash());
        }
        Ok(())
    };
    survive(&server, 4_000, crash).await
}

/// The server is gone for longer than anybody waits: who publishes and receives is told, and all goes on when it is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_gone_is_said_and_found_again() -> Outcome {
    let Some(server) = Postgres::start(&[]) else {
        return Ok(());
    };
    let broker = host(&options(&server)).await?;
    let queue = broker.queue("q", &["t"]).await?;
    broker.send("t", &["1"]).await?;
    tokio::task::block_in_place(|| server.stop());
    let gone = broker.publish(message("t", "lost")?).await;
    assert!(
        matches!(gone, Err(PublishError::Unavailable(_))),
        "{gone:?}"
    );
    let gone = broker.backend.receive(&queue, 1, SOON).await;
    assert!(
        matches!(gone, Err(BackendError::Unavailable(_))),
        "{gone:?}"
    );
    let gone = broker.backend.health().await;
    assert!(
        matches!(gone, Err(BackendError::Unavailable(_))),
        "{gone:?}"
    );
    assert!(broker.store.state_get("p", "k").await.is_err());
    tokio::task::block_in_place(|| server.again());
    let until = Instant::now() + SOON;
    while let Err(error) = broker.publish(message("t", "2")?).await {
        assert!(Instant::now() < until, "{error}");
    }
    let mut got = Vec::new();
    while got.len() < 2 {
        match broker.backend.receive(&queue, 9, SOON).await {
            Ok(batch) => {
                got.extend(texts(&batch));
                broker.ack(batch).await?;
            }
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
    }
    assert_eq!(got, ["1", "2"]);
    broker.nothing(&queue).await
}

/// Closing ends in time, whether the server is gone or frozen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn closing_is_bounded_without_a_server() -> Outcome {
    let Some(server) = Postgres::start(&[]) else {
        return Ok(());
    };
    let (gone, frozen) = hosts(&options(&server)).await?;
    frozen.queue("q", &["t"]).await?;
    server.freeze();
    let publishing = {
        let frozen = frozen.clone();
        let message = message("t", "x")?;
        tokio::spawn(async move { frozen.publish(message).await })
    };
    timeout(SOON * 2, frozen.backend.close()).await?;
    assert!(timeout(SOON, publishing).await??.is_err());
    server.thaw();
    tokio::task::block_in_place(|| server.stop());
    timeout(SOON * 2, gone.backend.close()).await?;
    Ok(())
}

/// A server that stands still for longer than its answers may take: nothing hangs for ever, nothing is lost or repeated.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_loses_and_repeats_nothing() -> Outcome {
    let Some(server) = Postgres::start(&[]) else {
        return Ok(());
    };
    let options = PostgresOptions {
        deadline: Duration::from_secs(1),
        ..options(&server)
    };
    let broker = host(&options).await?;
    ledger::declare(&broker).await?;
    let done = AtomicBool::new(false);
    let freeze = async {
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            server.freeze();
            tokio::time::sleep(options.deadline * 2).await;
            server.thaw();
        }
        done.store(true, Ordering::Relaxed);
    };
    let work = async {
        let mut published = 0;
        while !done.load(Ordering::Relaxed) {
            ledger::publish(&broker, published..published + 200).await?;
            published += 200;
        }
        ledger::work(&broker, published).await?;
        Ok::<usize, Failure>(published)
    };
    let ((), count) = tokio::join!(freeze, work);
    ledger::verify(&broker, count?).await
}

/// Hosts live with the connections that they get; who gets none is told what to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_connections_is_survived() -> Outcome {
    // Three of them are kept for superusers.
    let Some(server) = Postgres::start(&[("max_connections", "14")]) else {
        return Ok(());
    };
    server.psql("CREATE ROLE plain LOGIN; GRANT CREATE ON DATABASE postgres TO plain");
    let options = PostgresOptions {
        schema: server.schema(),
        ..PostgresOptions::at(&server.url().replace("sandbar@", "plain@"))
    };
    let broker = host(&options).await?;
    let queue = broker.queue("q", &["t"]).await?;
    broker.send("t", &["1"]).await?;
    // Others take every connection that is free, and those that the host loses.
    let greedy: Vec<_> = (0..8).map(|_| server.try_session_as("plain")).collect();
    server.psql("SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE application_name = 'sandbar'");
    let more: Vec<_> = (0..11).map(|_| server.try_session_as("plain")).collect();
    let error = PostgresOptions { ..options.clone() };
    let error = host(&error).await.err().ok_or("it was opened")?;
    assert!(
        error
            .to_string()
            .ends_with("raise max_connections, or give each host fewer"),
        "{error}"
    );
    let refused = broker.publish(message("t", "maybe")?).await;
    drop(greedy);
    drop(more);
    let until = Instant::now() + SOON;
    while let Err(error) = broker.publish(message("t", "2")?).await {
        assert!(Instant::now() < until, "{error}");
    }
    let mut expected = vec!["1", "2"];
    if refused.is_ok() {
        expected.insert(1, "maybe");
    }
    let mut got = Vec::new();
    while got.len() < expected.len() {
        match broker.backend.receive(&queue, 9, SOON).await {
            Ok(batch) => {
                got.extend(texts(&batch));
                broker.ack(batch).await?;
            }
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
    }
    assert_eq!(got, expected);
    broker.nothing(&queue).await
}

/// Somebody's forgotten transaction, and four that read for long, keep the server from cleaning up: the work for each message
/// stays what it was, and what each of them leaves behind is little.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_snapshot_makes_no_message_dearer() -> Outcome {
    const COUNT: usize = 20_000;
    /// Each message is looked up a handful of times; without a floor it would be hundreds.
    const READS: usize = 40;
    /// A message is inserted, claimed and deleted: two versions of its row are dead then.
    const DEAD: usize = 2;
    let Some(server) = Postgres::start(&[]) else {
        return Ok(());
    };
    let options = options(&server);
    let broker = host(&options).await?;
    let queue = broker.queue("q", &["t"]).await?;
    let forgotten =
        server.session("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM pg_class");
    let read = format!(
        "BEGIN ISOLATION LEVEL REPEATABLE READ; \
         DECLARE c CURSOR FOR SELECT * FROM {}.messages; FETCH 1 FROM c",
        options.schema
    );
    let readers: Vec<_> = (0..4).map(|_| server.session(&read)).collect();
    let publish = publish_all(&broker, COUNT);
    let receive = async {
        let mut got = Vec::with_capacity(COUNT);
        while got.len() < COUNT {
            // Small batches, so that there are many claims.
            let batch = broker.backend.receive(&queue, 50, SOON).await?;
            assert!(!batch.is_empty(), "only {} came", got.len());
            got.extend(texts(&batch));
            let state = writing(&[], &[(&got.len().to_string(), Some("x"))]);
            let mut state = Some(state);
            let settle = |one: Delivery| {
                let effects = state.take().unwrap_or_default();
                one.settle(Verdict::Ack, effects)
            };
            let settlements = batch.into_iter().map(settle).collect();
            for result in broker.backend.settle(settlements).await {
                result?;
            }
        }
        Ok::<Vec<String>, Failure>(got)
    };
    let (published, got) = tokio::join!(publish, receive);
    published?;
    let mut got = got?;
    broker.nothing(&queue).await?;
    got.sort();
    got.dedup();
    assert_eq!(got.len(), COUNT, "each message once");
    // Closing the connections makes the server count what they did.
    broker.backend.close().await;
    let reads = server.psql(&format!(
        "SELECT idx_tup_read FROM pg_stat_user_indexes \
         WHERE schemaname = '{}' AND indexrelname = 'messages_pkey'",
        options.schema
    ));
    let reads: usize = reads.parse()?;
    println!("{} index entries read for each message", reads / COUNT);
    assert!(reads >= COUNT, "the server has counted");
    assert!(
        reads <= COUNT * READS,
        "{reads} index entries for {COUNT} messages"
    );
    let dead = || -> Result<usize, Failure> {
        let sql = format!(
            "SELECT n_dead_tup FROM pg_stat_user_tables WHERE schemaname = '{}' AND relname = 'messages'",
            options.schema
        );
        Ok(server.psql(&sql).parse()?)
    };
    let left = dead()?;
    println!("{} dead rows for each message", left as f64 / COUNT as f64);
    assert!(left >= COUNT, "the server has counted");
    // What it counts is not exact.
    assert!(
        left <= COUNT * DEAD + COUNT / 10,
        "{left} dead rows for {COUNT} messages"
    );
    let sizes = server.psql(&format!(
        "SELECT n_tup_ins > 0, n_tup_upd FROM pg_stat_user_tables \
         WHERE schemaname = '{}' AND relname = 'state_sizes'",
        options.schema
    ));
    assert_eq!(sizes, "t|0", "sizes of state are added, never updated");
    drop((forgotten, readers));
    let until = Instant::now() + SOON;
    while dead()? > 0 {
        assert!(Instant::now() < until, "dead rows stay: {}", dead()?);
        server.psql(&format!("VACUUM {}.messages", options.schema));
    }
    Ok(())
}

async fn publish_all(broker: &Broker, count: usize) -> Outcome {
    let all: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    for chunk in all.chunks(100) {
        broker
            .send("t", &chunk.iter().map(String::as_str).collect::<Vec<_>>())
            .await?;
    }
    Ok(())
}
