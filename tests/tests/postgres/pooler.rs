//! Behind a pooler that gives each transaction another connection, nothing of a session may be relied upon.
//!
//! Only what could break there is tried.

use std::time::Duration;

use sandbar::backend::{Outgoing, PostgresOptions};
use sandbar_tests::contract::{Outcome, SOON, keyed, message, texts};
use sandbar_tests::ledger;
use sandbar_tests::servers::pgbouncer::PgBouncer;
use sandbar_tests::servers::postgres::Postgres;

use super::hosts;

#[tokio::test]
async fn hosts_work_behind_a_pooler() -> Outcome {
    const COUNT: usize = 400;
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    let Some(pooler) = PgBouncer::start(server) else {
        return Ok(());
    };
    let options = PostgresOptions {
        schema: server.schema(),
        pooled: true,
        poll: Duration::from_millis(50),
        ..PostgresOptions::at(&pooler.url())
    };
    let (a, b) = hosts(&options).await?;
    let queue = a.queue("q", &["t"]).await?;
    let waiting = {
        let (b, queue) = (b.clone(), queue.clone());
        tokio::spawn(async move { b.backend.receive(&queue, 1, SOON).await })
    };
    a.publish(keyed("t", "k", "1")?).await?;
    let first = waiting.await??;
    assert_eq!(texts(&first), ["1"]);
    a.publish(keyed("t", "k", "2")?).await?;
    a.nothing(&queue).await?;
    b.ack(first).await?;
    a.ack(a.take(&queue, 1).await?).await?;
    let delay = Duration::from_millis(20);
    a.publish(Outgoing {
        delay,
        ..message("t", "3")?
    })
    .await?;
    assert_eq!(texts(&b.take(&queue, 1).await?), ["3"]);

    ledger::declare(&a).await?;
    ledger::publish(&a, 0..COUNT).await?;
    let (first, second) = tokio::join!(ledger::work(&a, COUNT), ledger::work(&b, COUNT));
    first?;
    second?;
    ledger::verify(&b, COUNT).await?;
    a.backend.close().await;
    b.backend.close().await;
    Ok(())
}
