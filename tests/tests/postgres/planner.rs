//! What the planner of the server makes of the statements when it knows the wrong thing about the tables.

use std::time::Duration;

use sandbar::backend::{Delivery, Effects, Settlement, Verdict};
use sandbar_tests::contract::{
    Broker, Failure, Outcome, SOON, again, keyed, message, texts, writing,
};
use sandbar_tests::servers::postgres::Postgres;

use super::{host, options};

/// Small batches, so that a statement that goes through all of a table is seen.
const BATCH: usize = 20;

/// A host whose connections were made just after the tables were found empty gets many messages: statements that were
/// planned then look rows up one by one all the same, whatever they are for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn statements_planned_for_empty_tables_look_rows_up() -> Outcome {
    const COUNT: usize = 4_000;
    /// Each message is looked up a handful of times in each of its three lives; going through a table makes it hundreds.
    const READS: usize = 25;
    // The server itself never finds out, so that every plan stays what it was at first.
    let Some(server) = Postgres::start(&[("autovacuum", "off")]) else {
        return Ok(());
    };
    let options = options(&server);
    let schema = &options.schema;
    let broker = host(&options).await?;
    broker.queue("q", &["t"]).await?;
    pass(&broker, COUNT).await?;
    broker.backend.close().await;
    for table in ["messages", "parked", "later"] {
        server.psql(&format!("VACUUM {schema}.{table}"));
    }
    let known = format!(
        "SELECT count(*) FROM pg_class WHERE relnamespace = '{schema}'::regnamespace \
         AND relname IN ('messages', 'parked', 'later') AND reltuples = 0 AND relpages > 0"
    );
    assert_eq!(server.psql(&known), "3", "they are known to be empty");
    server.psql("SELECT pg_stat_reset()");

    let broker = host(&options).await?;
    pass(&broker, COUNT).await?;
    // Closing the connections makes the server count what they did.
    broker.backend.close().await;
    for (table, least) in [("messages", COUNT), ("parked", 1), ("later", 1)] {
        let reads = server.psql(&format!(
            "SELECT sum(idx_tup_read) FROM pg_stat_user_indexes WHERE schemaname = '{schema}' AND relname = '{table}'"
        ));
        let reads: usize = reads.parse()?;
        println!("{table}: {reads} index entries read for {COUNT} messages");
        assert!(reads >= least, "the server has counted");
        assert!(
            reads <= COUNT * READS,
            "{reads} index entries of {table} read for {COUNT} messages"
        );
    }
    Ok(())
}

/// Publishes messages, half of them with keys, and handles all of them: some at once, some after a retry, some after a
/// later one.
async fn pass(broker: &Broker, count: usize) -> Outcome {
    let all: Vec<usize> = (0..count).collect();
    for chunk in all.chunks(BATCH) {
        let outgoing = |number: &usize| match number % 2 {
            0 => message("t", &number.to_string()),
            _ => keyed("t", &format!("k{number}"), &number.to_string()),
        };
        let batch: Result<Vec<_>, _> = chunk.iter().map(outgoing).collect();
        for result in broker.backend.publish(batch?).await {
            result?;
        }
    }
    let queue = broker.backend.get_queue(&"q".parse()?).await?;
    let mut done = 0;
    while done < count {
        let batch = broker.backend.receive(&queue, BATCH, SOON).await?;
        assert!(!batch.is_empty(), "only {done} have ended");
        let settlements: Result<Vec<Settlement>, Failure> = batch
            .into_iter()
            .map(|one| {
                let (settlement, ended) = settled(one)?;
                done += usize::from(ended);
                Ok(settlement)
            })
            .collect();
        for result in broker.backend.settle(settlements?).await {
            result?;
        }
    }
    broker.nothing(&queue).await
}

/// What becomes of a delivery, and whether that is its end.
fn settled(one: Delivery) -> Result<(Settlement, bool), Failure> {
    let number: usize = texts(std::slice::from_ref(&one)).concat().parse()?;
    let after = match (one.attempt, number / 2 % 4) {
        (1, 0) => Some(Duration::ZERO),
        (1, 1) => Some(Duration::from_millis(5)),
        _ => None,
    };
    Ok(match after {
        Some(after) => {
            let verdict = again(&one, after);
            (one.settle(verdict, Effects::default()), false)
        }
        None => {
            let key = number.to_string();
            (
                one.settle(Verdict::Ack, writing(&[], &[(&key, Some("x"))])),
                true,
            )
        }
    })
}
