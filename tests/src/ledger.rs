//! Work whose effects can be counted: each numbered message adds one to a sum in the state and is published on, in one
//! settlement. Whatever happens to hosts and brokers meanwhile, afterwards each number has been published on exactly
//! once and the sums agree.
//!
//! It doesn't disturb anybody; that is for the tests.

use std::time::Duration;

use sandbar::backend::{Delivery, Effects, PublishError, QueueSpec, Verdict};
use sandbar::store::StateEffects;
use tokio::time::Instant;

use crate::contract::{Broker, Failure, Outcome, message, spec, texts};

/// How long everything together may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Sums in the state, so that hosts disturb each other now and then.
const SUMS: usize = 16;

/// Declares the queues. A message comes again soon after its host is gone.
///
/// # Errors
/// When the broker refuses.
pub async fn declare(broker: &Broker) -> Outcome {
    let lease = Duration::from_secs(1);
    broker
        .declare(QueueSpec {
            lease,
            ..spec("work", &["work"])?
        })
        .await?;
    broker.queue("out", &["out"]).await?;
    Ok(())
}

/// Publishes the numbers of a range, each as often as it takes until it is accepted.
///
/// # Errors
/// When that takes too long.
pub async fn publish(broker: &Broker, numbers: std::ops::Range<usize>) -> Outcome {
    let until = Instant::now() + PATIENCE;
    let mut left: Vec<String> = numbers.map(|number| number.to_string()).collect();
    while !left.is_empty() {
        let now: Vec<String> = left.split_off(left.len().saturating_sub(50));
        let batch: Result<Vec<_>, _> = now.iter().map(|text| message("work", text)).collect();
        let results = broker.backend.publish(batch?).await;
        for (text, result) in now.into_iter().zip(results) {
            match result {
                Ok(_) => {}
                Err(PublishError::Unavailable(_)) if Instant::now() < until => left.push(text),
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(())
}

/// Handles messages until all of `count` have been handled, by whomever.
///
/// # Errors
/// When that takes too long or something else happens than a broker that cannot be reached.
pub async fn work(broker: &Broker, count: usize) -> Outcome {
    let until = Instant::now() + PATIENCE;
    let queue = sandbar::backend::Queue {
        name: "work".parse()?,
    };
    while Instant::now() < until {
        let batch = broker
            .backend
            .receive(&queue, 20, Duration::from_millis(200))
            .await;
        let batch = match batch {
            Ok(batch) => batch,
            Err(sandbar::backend::BackendError::Unavailable(_)) => {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if batch.is_empty() {
            if total(broker).await.is_ok_and(|total| total >= count) {
                return Ok(());
            }
            continue;
        }
        let mut settlements = Vec::new();
        for delivery in batch {
            // What cannot be read now comes again.
            if let Ok(effects) = effects(broker, &delivery).await {
                settlements.push(delivery.settle(Verdict::Ack, effects));
            }
        }
        // What is refused comes again.
        broker.backend.settle(settlements).await;
    }
    Err(format!("{:?} of {count} after {PATIENCE:?}", total(broker).await).into())
}

async fn effects(broker: &Broker, delivery: &Delivery) -> Result<Effects, Failure> {
    let text = texts(std::slice::from_ref(delivery)).concat();
    let number: usize = text.parse()?;
    let key = format!("sum.{}", number % SUMS);
    let read = broker.store.state_get("ledger", &key).await?;
    let sum = match &read.value {
        Some(value) => std::str::from_utf8(value)?.parse::<usize>()?,
        None => 0,
    };
    let state = StateEffects {
        plugin: "ledger".into(),
        reads: vec![(key.as_str().into(), read.version)],
        writes: vec![(key.into(), Some((sum + 1).to_string().into()))],
    };
    Ok(Effects {
        publishes: vec![message("out", &text)?],
        state: Some(Box::new(state)),
    })
}

/// How many messages have been handled, as the state says.
///
/// # Errors
/// When it cannot be read.
pub async fn total(broker: &Broker) -> Result<usize, Failure> {
    let mut total = 0;
    for sum in 0..SUMS {
        let read = broker
            .store
            .state_get("ledger", &format!("sum.{sum}"))
            .await?;
        if let Some(value) = read.value {
            total += std::str::from_utf8(&value)?.parse::<usize>()?;
        }
    }
    Ok(total)
}

/// Makes sure that each number below `count` was handled exactly once.
///
/// # Errors
/// When one was lost or repeated.
pub async fn verify(broker: &Broker, count: usize) -> Outcome {
    let queue = sandbar::backend::Queue {
        name: "out".parse()?,
    };
    let mut seen = vec![false; count];
    let mut got = 0;
    while got < count {
        let batch = broker.take(&queue, 1.max((count - got).min(200))).await?;
        for text in texts(&batch) {
            let number: usize = text.parse()?;
            let seen = seen.get_mut(number).ok_or("a number that nobody sent")?;
            assert!(!std::mem::replace(seen, true), "{number} was handled twice");
            got += 1;
        }
        broker.ack(batch).await?;
    }
    broker.nothing(&queue).await?;
    assert_eq!(total(broker).await?, count, "the sums in the state");
    assert_eq!(broker.store.dead_letters(10).await?, [], "no dead letters");
    Ok(())
}
