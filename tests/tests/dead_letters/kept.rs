//! How long dead letters and what led to them are kept: across a restart, and no longer than configured.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::{Effects, EmbeddedBackend, EmbeddedOptions, Verdict};
use sandbar::store::{LetterFilter, Reason, Retention};
use sandbar_tests::contract::{Broker, Failure, Outcome, again, letter, message};

/// A moment of long ago, milliseconds since 1970-01-01 UTC.
const LONG_AGO: i64 = 1_000_000_000_000;

async fn open(folder: &Path, letters: Option<Retention>) -> Result<Broker, Failure> {
    let options = EmbeddedOptions {
        letters,
        ..EmbeddedOptions::default()
    };
    let backend = Arc::new(EmbeddedBackend::open(folder, options).await?);
    Ok(Broker {
        backend: backend.clone(),
        store: backend,
    })
}

/// Makes so many dead letters, the last of which ended at `newest`, each of the others a second before the next.
async fn bury(broker: &Broker, count: usize, newest: i64) -> Outcome {
    let queue = broker.queue("q", &["t"]).await?;
    let batch: Result<Vec<_>, Failure> = (0..count).map(|_| message("t", "x")).collect();
    for published in broker.backend.publish(batch?).await {
        published?;
    }
    let deliveries = broker.take(&queue, count).await?;
    let settlements = deliveries
        .into_iter()
        .enumerate()
        .map(|(position, delivery)| {
            let mut letter = letter(&delivery, &position.to_string());
            letter.at_ms = newest - i64::try_from(count - 1 - position).unwrap() * 1_000;
            delivery.settle(Verdict::DeadLetter(Box::new(letter)), Effects::default())
        });
    for settled in broker.backend.settle(settlements.collect()).await {
        settled?;
    }
    Ok(())
}

/// Waits until so many are left; what is kept too long is removed soon, not at once.
async fn until_left(broker: &Broker, expected: u64) -> Outcome {
    let mut left = u64::MAX;
    for _ in 0..2_000 {
        left = broker
            .store
            .count_letters(&LetterFilter::default())
            .await?
            .total();
        if left == expected {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err(format!("{left} letters are left instead of {expected}").into())
}

#[tokio::test]
async fn attempts_survive_a_restart() -> Outcome {
    let folder = tempfile::tempdir()?;
    for attempt in 1..=3_u32 {
        let broker = open(folder.path(), None).await?;
        let queue = broker.queue("q", &["t"]).await?;
        if attempt == 1 {
            broker.send("t", &["x"]).await?;
        }
        let delivery = broker.one(&queue).await?;
        assert_eq!(delivery.attempt, attempt);
        let verdict = again(&delivery, Duration::ZERO);
        broker
            .settle(delivery.settle(verdict, Effects::default()))
            .await?;
        broker.backend.close().await;
    }
    let broker = open(folder.path(), None).await?;
    let queue = broker.queue("q", &["t"]).await?;
    let delivery = broker.one(&queue).await?;
    let letter = letter(&delivery, "the end");
    let settled = delivery.settle(Verdict::DeadLetter(Box::new(letter)), Effects::default());
    broker.settle(settled).await?;
    broker.backend.close().await;

    let broker = open(folder.path(), None).await?;
    let page = broker
        .store
        .letters(&LetterFilter::default(), None, 10)
        .await?;
    let id = page.letters.first().ok_or("one letter")?.id;
    let kept = broker.store.letter(id).await?.ok_or("kept")?;
    let seen: Vec<(u32, Reason, &str)> = kept
        .history
        .last
        .iter()
        .map(|failed| (failed.attempt, failed.reason, failed.error.as_str()))
        .collect();
    assert_eq!(
        seen,
        [
            (1, Reason::Retry, "not yet"),
            (2, Reason::Retry, "not yet"),
            (3, Reason::Retry, "not yet"),
            (4, Reason::Rejected, "the end"),
        ]
    );
    Ok(())
}

#[tokio::test]
async fn letters_of_long_ago_are_removed_and_the_others_stay() -> Outcome {
    let folder = tempfile::tempdir()?;
    let broker = open(folder.path(), None).await?;
    // More than are removed at once.
    bury(&broker, 2_500, LONG_AGO).await?;
    bury(&broker, 3, sandbar::clock::now_ms()).await?;
    until_left(&broker, 2_503).await?;
    broker.backend.close().await;

    let broker = open(folder.path(), Some(Retention::default())).await?;
    until_left(&broker, 3).await?;
    broker.backend.close().await;
    // Without a limit nothing is removed, however old it is.
    let broker = open(folder.path(), None).await?;
    bury(&broker, 1, LONG_AGO).await?;
    until_left(&broker, 4).await
}

#[tokio::test]
async fn the_oldest_letters_make_room_for_new_ones() -> Outcome {
    let folder = tempfile::tempdir()?;
    let retention = Retention {
        keep: Duration::from_secs(1_000_000),
        most: 50,
    };
    let broker = open(folder.path(), Some(retention)).await?;
    let now = sandbar::clock::now_ms();
    for round in 0..4_i64 {
        bury(&broker, 40, now + round).await?;
    }
    until_left(&broker, 50).await?;
    let page = broker
        .store
        .letters(&LetterFilter::default(), None, 100)
        .await?;
    let newest = page.letters.first().ok_or("fifty")?;
    assert_eq!(newest.at_ms, now + 3);
    // Numbers are never given twice, also when the last letters are gone.
    let part = sandbar::store::LetterPart {
        until: u64::MAX,
        limit: 1_000,
        ..Default::default()
    };
    assert_eq!(broker.store.purge_letters(&part).await?.done, 50);
    broker.backend.close().await;
    let broker = open(folder.path(), Some(retention)).await?;
    bury(&broker, 1, now).await?;
    let page = broker
        .store
        .letters(&LetterFilter::default(), None, 100)
        .await?;
    let next = page.letters.first().ok_or("one")?.id;
    assert!(next > newest.id, "{next} after {}", newest.id);
    Ok(())
}

/// A database that is taken away while it is open is noticed, and so is its return.
#[tokio::test]
async fn a_database_that_is_gone_is_noticed() -> Outcome {
    let folder = tempfile::tempdir()?;
    let broker = open(folder.path(), None).await?;
    broker.backend.health().await?;
    let (file, away) = (folder.path().join("sandbar.db"), folder.path().join("away"));
    std::fs::rename(&file, &away)?;
    let gone = broker.backend.health().await.unwrap_err().to_string();
    assert!(
        gone.contains("was removed or moved while it is open"),
        "{gone}"
    );
    std::fs::write(&file, "another")?;
    let other = broker.backend.health().await.unwrap_err().to_string();
    assert!(other.contains("was replaced while it is open"), "{other}");
    std::fs::rename(&away, &file)?;
    broker.backend.health().await?;
    Ok(())
}
