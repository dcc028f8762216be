//! What several hosts write: state that both of them change, messages that are kept, values that cannot be stored.
//!
//! State on one host is the contract suite's.

use std::time::Duration;

use sandbar::backend::{Effects, PostgresOptions, PublishError, SettleError, Verdict};
use sandbar_tests::contract::{Failure, Outcome, SOON, keyed, message, name, texts, writing};
use sandbar_tests::ledger;
use sandbar_tests::servers::postgres::Postgres;
use tokio::time::Instant;

use super::{host, hosts, options};

/// State that another host changed is a conflict, for values as for their absence, and effects are counted once.
#[tokio::test]
async fn hosts_count_together() -> Outcome {
    const COUNT: usize = 600;
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    let (a, b) = hosts(&options(server)).await?;
    ledger::declare(&a).await?;
    let (first, second) = tokio::join!(
        ledger::publish(&a, 0..COUNT / 2),
        ledger::publish(&b, COUNT / 2..COUNT)
    );
    first?;
    second?;
    let (first, second) = tokio::join!(ledger::work(&a, COUNT), ledger::work(&b, COUNT));
    first?;
    second?;
    ledger::verify(&a, COUNT).await
}

/// Two handlers on two hosts that each read what the other one writes: one of them has to do it again.
#[tokio::test]
async fn reads_are_guarded_as_well_as_writes() -> Outcome {
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    let (a, b) = hosts(&options(server)).await?;
    let queue = a.queue("q", &["t"]).await?;
    for round in 0..10 {
        a.send("t", &["1", "2"]).await?;
        let (left, right) = (format!("left.{round}"), format!("right.{round}"));
        let one = a.one(&queue).await?;
        let two = b.one(&queue).await?;
        let read = a.store.state_get("p", &left).await?.version;
        let one = one.settle(
            Verdict::Ack,
            writing(&[(&left, read)], &[(&right, Some("x"))]),
        );
        let read = b.store.state_get("p", &right).await?.version;
        let two = two.settle(
            Verdict::Ack,
            writing(&[(&right, read)], &[(&left, Some("x"))]),
        );
        let ends = tokio::join!(a.settle(one), b.settle(two));
        let conflict = Err(SettleError::Conflict);
        assert!(
            ends == (Ok(()), conflict.clone()) || ends == (conflict, Ok(())),
            "{ends:?}"
        );
        a.ack(a.take(&queue, 1).await?).await?;
    }
    Ok(())
}

/// Somebody who knows nothing of the locks of hosts writes a value between the look at it and the write: that is a conflict as
/// well, and the message comes again.
#[tokio::test]
async fn a_value_that_came_from_elsewhere_meanwhile_is_a_conflict() -> Outcome {
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    let options = options(server);
    let a = host(&options).await?;
    let queue = a.queue("q", &["t"]).await?;
    a.send("t", &["1"]).await?;
    let one = a.one(&queue).await?;
    let read = a.store.state_get("p", "k").await?.version;
    let one = one.settle(
        Verdict::Ack,
        writing(&[("k", read)], &[("k", Some("ours"))]),
    );
    let other = server.session(&format!(
        "BEGIN; INSERT INTO {}.state (plugin, key, version, value) VALUES ('p', 'k', 7, 'theirs')",
        options.schema
    ));
    let settling = a.backend.settle(vec![one]);
    let waits = "SELECT count(*) FROM pg_stat_activity \
                 WHERE wait_event = 'transactionid' AND query LIKE 'INSERT INTO state%'";
    let until = Instant::now() + SOON;
    while server.psql(waits) == "0" {
        assert!(Instant::now() < until, "it writes the same key");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    other.end("COMMIT");
    assert_eq!(settling.await, [Err(SettleError::Conflict)]);
    let found = a.store.state_get("p", "k").await?;
    assert_eq!(found.value.as_deref(), Some(&b"theirs"[..]));
    // Once more, with what is there now.
    let again = a.one(&queue).await?;
    let changes = writing(&[("k", found.version)], &[("k", Some("ours"))]);
    a.settle(again.settle(Verdict::Ack, changes)).await?;
    let found = a.store.state_get("p", "k").await?;
    assert_eq!(found.value.as_deref(), Some(&b"ours"[..]));
    a.nothing(&queue).await
}

/// Messages without a queue are bounded in number, and forgotten after their time.
#[tokio::test]
async fn kept_messages_are_bounded() -> Outcome {
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    let options = PostgresOptions {
        kept: 3,
        ..options(server)
    };
    let a = host(&options).await?;
    a.send("t", &["1", "2", "3"]).await?;
    let full = PublishError::Full(name("t")?);
    assert_eq!(a.publish(message("t", "4")?).await, Err(full));
    a.backend.close().await;
    let b = host(&PostgresOptions {
        kept_for: Duration::from_millis(1),
        ..options.clone()
    })
    .await?;
    let until = tokio::time::Instant::now() + SOON;
    let sql = format!("SELECT count(*) FROM {}.kept", options.schema);
    while server.psql(&sql) != "0" {
        assert!(tokio::time::Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let queue = b.queue("q", &["t"]).await?;
    b.nothing(&queue).await
}

/// What the database cannot store fails alone, and whatever a text may contain is stored.
#[tokio::test]
async fn values_that_cannot_be_stored_fail_alone() -> Outcome {
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    let a = host(&options(server)).await?;
    let queue = a.queue("q", &["t"]).await?;
    a.publish(keyed("t", "a\0b", "1")?).await?;
    a.send("t", &["2", "3"]).await?;
    let mut taken = a.take(&queue, 3).await?.into_iter();
    let mut next = || taken.next().ok_or("three");
    let dead = next()?;
    assert_eq!(dead.key.as_deref(), Some("a\0b"));
    let letter = sandbar_tests::contract::letter(&dead, "a\0b");
    let verdict = Verdict::DeadLetter(Box::new(letter));
    let dead = a
        .backend
        .settle(vec![dead.settle(verdict, Effects::default())]);
    let bad = writing(&[], &[("a\0b", Some("x"))]);
    let bad = a.backend.settle(vec![next()?.settle(Verdict::Ack, bad)]);
    let good = writing(&[], &[("k", Some("x"))]);
    let good = a.backend.settle(vec![next()?.settle(Verdict::Ack, good)]);
    assert_eq!(dead.await, [Ok(())]);
    assert!(matches!(
        bad.await.as_slice(),
        [Err(SettleError::Unavailable(_))]
    ));
    assert_eq!(good.await, [Ok(())]);
    let letters = a.store.dead_letters(9).await?;
    assert_eq!(letters.len(), 1);
    assert_eq!(letters[0].error, "a\u{fffd}b");
    assert_eq!(texts(&a.take(&queue, 1).await?), ["2"]);
    Ok(())
}

/// How much a plugin keeps is told by differences, so that no row is written again and again: a change that keeps the size
/// leaves nothing, and many differences become one.
#[tokio::test]
async fn sizes_grow_by_differences_that_are_summed_up() -> Outcome {
    const CHANGES: usize = 150;
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    let options = options(server);
    let a = host(&options).await?;
    let queue = a.queue("q", &["t"]).await?;
    let rows = || -> Result<usize, Failure> {
        let count = server.psql(&format!(
            "SELECT count(*) FROM {}.state_sizes",
            options.schema
        ));
        Ok(count.parse()?)
    };
    let write = async |value: &str| -> Outcome {
        a.send("t", &["x"]).await?;
        let one = a.one(&queue).await?;
        let effects = writing(&[], &[("k", Some(value))]);
        a.settle(one.settle(Verdict::Ack, effects)).await?;
        Ok(())
    };
    for value in ["1", "2", "3"] {
        write(value).await?;
    }
    assert_eq!(rows()?, 1, "the size did not change after the first");
    for number in 1..=CHANGES {
        write(&"x".repeat(1 + number)).await?;
    }
    assert_eq!(a.store.state_size("p").await?, Some(2 + CHANGES as u64));
    let until = Instant::now() + SOON;
    while rows()? > 100 {
        assert!(Instant::now() < until, "{} rows are left", rows()?);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(a.store.state_size("p").await?, Some(2 + CHANGES as u64));
    a.send("t", &["x"]).await?;
    let one = a.one(&queue).await?;
    a.settle(one.settle(Verdict::Ack, writing(&[], &[("k", None)])))
        .await?;
    assert_eq!(a.store.state_size("p").await?, Some(0));
    Ok(())
}
