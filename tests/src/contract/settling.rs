//! That a delivery ends once, together with what it caused.
//!
//! State has a file of its own.

use std::time::Duration;

use sandbar::backend::{Effects, Outgoing, PublishError, QueueSpec, SettleError, Verdict};

use super::{Broker, Outcome, letter, message, name, publishing, spec, texts};

/// A delivery is settled exactly once.
pub async fn settling_twice_is_stale(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["t"]).await?;
    broker.send("t", &["1"]).await?;
    let settlement = broker
        .one(&queue)
        .await?
        .settle(Verdict::Ack, Effects::default());
    assert_eq!(broker.settle(settlement.clone()).await, Ok(()));
    assert_eq!(
        broker.settle(settlement.clone()).await,
        Err(SettleError::Stale)
    );
    broker.send("t", &["2"]).await?;
    let delivery = broker.one(&queue).await?;
    let verdict = super::again(&delivery, Duration::ZERO);
    let settled = delivery.settle(verdict, Effects::default());
    let both = broker.backend.settle(vec![settled.clone(), settled]).await;
    assert_eq!(both, [Ok(()), Err(SettleError::Stale)]);
    assert_eq!(broker.one(&queue).await?.attempt, 2);
    Ok(())
}

/// What a settlement publishes is visible with it and not before.
pub async fn effects_appear_with_the_acknowledgement(broker: Broker) -> Outcome {
    let requests = broker.queue("requests", &["t"]).await?;
    let replies = broker.queue("replies", &["_reply.x", "event"]).await?;
    broker.send("t", &["1"]).await?;
    let delivery = broker.one(&requests).await?;
    let effects = publishing(vec![
        message("_reply.x", "reply")?,
        message("event", "event")?,
    ]);
    let settlement = delivery.settle(Verdict::Ack, effects);
    broker.nothing(&replies).await?;
    broker.settle(settlement).await?;
    assert_eq!(texts(&broker.take(&replies, 2).await?), ["reply", "event"]);
    broker.nothing(&requests).await
}

/// A settlement that comes too late does nothing at all.
pub async fn a_stale_settlement_has_no_effect(broker: Broker) -> Outcome {
    let lease = Duration::from_millis(50);
    let requests = broker
        .declare(QueueSpec {
            lease,
            ..spec("requests", &["t"])?
        })
        .await?;
    let replies = broker.queue("replies", &["reply"]).await?;
    broker.send("t", &["1"]).await?;
    let first = broker.one(&requests).await?;
    let second = broker.one(&requests).await?;
    let mut effects = super::writing(&[], &[("k", Some("v"))]);
    effects.publishes.push(message("reply", "late")?);
    let late = broker.settle(first.settle(Verdict::Ack, effects)).await;
    assert_eq!(late, Err(SettleError::Stale));
    broker.nothing(&replies).await?;
    assert_eq!(broker.store.state_get("p", "k").await?.value, None);
    drop(second);
    Ok(())
}

/// When something that it publishes is refused, nothing of a settlement happens and the message comes again.
pub async fn a_refused_effect_releases_the_delivery(broker: Broker) -> Outcome {
    let requests = broker.queue("requests", &["t"]).await?;
    let replies = broker.queue("replies", &["reply"]).await?;
    broker.send("t", &["1"]).await?;
    let delivery = broker.one(&requests).await?;
    let unroutable = Outgoing {
        mandatory: true,
        ..message("nowhere", "x")?
    };
    let effects = publishing(vec![message("reply", "reply")?, unroutable]);
    let refused = broker.settle(delivery.settle(Verdict::Ack, effects)).await;
    let reason = PublishError::Unroutable("nowhere".parse()?);
    assert_eq!(refused, Err(SettleError::Refused(reason)));
    if broker.promises("all effects or none", |can| can.transactional) {
        broker.nothing(&replies).await?;
    }
    assert_eq!(broker.one(&requests).await?.attempt, 1);
    Ok(())
}

/// A dead letter is kept with its reason, goes to the dead-letter queue, and frees its key.
pub async fn a_dead_letter_is_kept_and_forwarded(broker: Broker) -> Outcome {
    let dead_letter = Some(name("dead")?);
    let declared = broker
        .backend
        .declare_queue(QueueSpec {
            dead_letter,
            ..spec("q", &["t"])?
        })
        .await?;
    let dead = declared.dead_letter.ok_or("no dead-letter queue")?;
    for text in ["1", "2"] {
        broker.publish(super::keyed("t", "k", text)?).await?;
    }
    let mut letters = Vec::new();
    for text in ["1", "2"] {
        let delivery = broker.one(&declared.queue).await?;
        assert_eq!(texts(std::slice::from_ref(&delivery)), [text]);
        let letter = letter(&delivery, text);
        letters.insert(0, letter.clone());
        let effects = publishing(vec![message("t.failed", text)?]);
        broker
            .settle(delivery.settle(Verdict::DeadLetter(Box::new(letter)), effects))
            .await?;
    }
    broker.nothing(&declared.queue).await?;
    for text in ["1", "2"] {
        let forwarded = broker.take(&dead, 1).await?;
        assert_eq!(texts(&forwarded), [text]);
        assert!(forwarded.iter().all(|delivery| delivery.attempt == 1));
        broker.ack(forwarded).await?;
    }
    assert_eq!(broker.store.dead_letters(10).await?, letters);
    assert_eq!(broker.store.dead_letters(1).await?.len(), 1);
    let failed = broker.queue("failed", &["t.failed"]).await?;
    assert_eq!(texts(&broker.take(&failed, 2).await?), ["1", "2"]);
    Ok(())
}
