//! Subscribers on a broker: what comes, what comes again, to whom, and what is passed over.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use sandbar::backend::{Backend, BackendError, MemoryBackend, Outgoing, QueueSpec};
use sandbar::store::Reason;
use sandbar::subscriber::{BackendSubscriber, MemorySubscriber, Subscriber, SubscriberBuilder};
use sandbar::wire::{self, Form};
use sandbar_tests::contract::{NEVER, Outcome, SOON, spec};

use super::{handled, memory, message, next, on_each, publish, text, waiting};

#[tokio::test]
async fn what_is_dropped_comes_again_and_what_is_acknowledged_does_not() -> Outcome {
    on_each(async |backend, _| {
        let mut subscriber =
            BackendSubscriber::subscribe(backend.clone(), spec("q", &["t.*"])?).await?;
        publish(&*backend, &[message("t.a", "1")?, message("t.b", "2")?]).await?;
        let first = next(&mut subscriber).await?;
        assert_eq!((text(&first).as_str(), first.attempt()), ("1", 1));
        drop(first);
        let again = next(&mut subscriber).await?;
        assert_eq!((text(&again).as_str(), again.attempt()), ("1", 1));
        again.retry(Duration::ZERO, "not yet").await?;
        let mut batch = Vec::new();
        while batch.len() < 2 {
            batch.extend(tokio::time::timeout(SOON, subscriber.receive_batch(9)).await??);
        }
        for received in batch {
            let expected = if text(&received) == "1" { 2 } else { 1 };
            assert_eq!(received.attempt(), expected, "{}", text(&received));
            received.ack().await?;
        }
        assert!(waiting(&*backend, "q").await?.is_empty());
        Ok(())
    })
    .await
}

/// However long a message is handled, nobody else gets it meanwhile.
#[tokio::test]
async fn a_lease_is_kept_as_long_as_a_message_is_held() -> Outcome {
    let backend = memory();
    let lease = Duration::from_millis(90);
    let spec = QueueSpec {
        lease,
        ..spec("q", &["t"])?
    };
    let mut subscriber = BackendSubscriber::subscribe(backend.clone(), spec).await?;
    publish(&*backend, &[message("t", "slow")?]).await?;
    let held = next(&mut subscriber).await?;
    let other = tokio::time::timeout(lease * 5, subscriber.receive()).await;
    // A machine that is too slow to beat in time loses the lease, as it should.
    match other {
        Err(_) => held.ack().await?,
        Ok(again) => assert!(held.ack().await.is_err() && again.is_ok()),
    }
    Ok(())
}

#[tokio::test]
async fn what_is_published_with_an_acknowledgement_appears_with_it() -> Outcome {
    on_each(async |backend, _| {
        let mut subscriber =
            BackendSubscriber::subscribe(backend.clone(), spec("q", &["t"])?).await?;
        backend.declare_queue(spec("out", &["out"])?).await?;
        publish(&*backend, &[message("t", "1")?]).await?;
        let refused = Outgoing {
            mandatory: true,
            ..message("nowhere", "x")?.into()
        };
        let both = vec![message("out", "lost")?.into(), refused];
        assert!(next(&mut subscriber).await?.ack_with(both).await.is_err());
        assert!(waiting(&*backend, "out").await?.is_empty());
        let received = next(&mut subscriber).await?;
        received
            .ack_with(vec![message("out", "reply")?.into()])
            .await?;
        assert_eq!(waiting(&*backend, "out").await?, ["reply"]);
        Ok(())
    })
    .await
}

/// What cannot be read becomes a dead letter with its bytes, and the subscription goes on.
#[tokio::test]
async fn malformed_messages_stop_nothing() -> Outcome {
    on_each(async |backend, store| {
        let mut subscriber = SubscriberBuilder::new()
            .with_backend(backend.clone())
            .with_topics(["t".parse()?])
            .with_group_id(Some("g".to_owned()))
            .with_form(Form::Json)
            .build()
            .await?;
        let envelope = wire::to_json(&message("inner", "good")?)?;
        let good = message("t", &String::from_utf8(envelope)?)?;
        publish(&*backend, &[message("t", "junk")?, good]).await?;
        let received = next(&mut *subscriber).await?;
        assert_eq!(received.topic.as_str(), "inner");
        received.dead_letter(Reason::Rejected, "seen").await?;
        let letters = store.dead_letters(9).await?;
        let reasons: Vec<_> = letters.iter().map(|letter| letter.reason).collect();
        assert_eq!(reasons, [Reason::Rejected, Reason::Malformed]);
        assert_eq!(letters[1].queue, "g.subscriber");
        Ok(())
    })
    .await
}

/// Subscribers of one group and name share its messages; of another name or group they get copies.
#[tokio::test]
async fn groups_share_and_names_tell_apart() -> Outcome {
    let backend = memory();
    let build = async |group: Option<&str>, name: &str| {
        let builder = SubscriberBuilder::new()
            .with_backend(backend.clone())
            .with_topics(["user.*".parse()?])
            .with_group_id(group.map(str::to_owned))
            .with_name(name);
        Ok::<_, sandbar_tests::contract::Failure>(builder.build().await?)
    };
    let mut first = build(Some("g"), "a").await?;
    let mut second = build(Some("g"), "a").await?;
    let mut named = build(Some("g"), "b").await?;
    let mut alone = build(None, "a").await?;
    assert_eq!(first.topics(), ["user.*".parse()?]);
    let all = ["1", "2"].map(|text| message("user.created", text).map(|m| m.multicast()));
    publish(&*backend, &all.into_iter().collect::<Result<Vec<_>, _>>()?).await?;
    let (one, two) = (next(&mut *first).await?, next(&mut *second).await?);
    assert_eq!([text(&one), text(&two)], ["1", "2"]);
    assert_eq!(handled(&mut *named, 2).await?, ["1", "2"]);
    assert_eq!(handled(&mut *alone, 2).await?, ["1", "2"]);
    // The queue of a group stays, the other one goes with its subscriber.
    drop((one, two));
    first.close().await;
    assert_eq!(waiting(&*backend, "g.a").await?, ["1", "2"]);
    alone.close().await;
    assert!(matches!(
        alone.receive().await,
        Err(BackendError::UnknownQueue(_))
    ));
    assert!(alone.next().await.is_none());
    Ok(())
}

#[tokio::test]
async fn topics_are_removed_with_their_subscriber() -> Outcome {
    on_each(async |backend, _| {
        let build = async |remove: bool| {
            SubscriberBuilder::new()
                .with_backend(backend.clone())
                .with_topics(["t".parse().unwrap()])
                .with_group_id(Some("g".to_owned()))
                .with_remove_topics_on_destroy(remove)
                .build()
                .await
        };
        for (remove, left) in [(false, vec!["1"]), (true, vec![])] {
            let mut subscriber = build(remove).await?;
            publish(&*backend, &[message("t", "1")?]).await?;
            subscriber.close().await;
            let mut subscriber = build(false).await?;
            let mut got = Vec::new();
            while let Ok(received) = tokio::time::timeout(NEVER, subscriber.receive()).await {
                let received = received?;
                got.push(text(&received));
                received.ack().await?;
            }
            assert_eq!(got, left, "removing: {remove}");
        }
        Ok(())
    })
    .await
}

/// A filter passes over messages without handing them out: they are acknowledged and counted.
#[tokio::test]
async fn what_a_filter_refuses_is_acknowledged_and_counted() -> Outcome {
    on_each(async |backend, _| {
        let mut subscriber = SubscriberBuilder::new()
            .with_backend(backend.clone())
            .with_topics(["t".parse()?])
            .with_group_id(Some("g".to_owned()))
            .with_filter(|message| message.payload.content != "2")
            .with_filter(|message| message.payload.content != "4")
            .with_queue(memory(), "inbox".parse()?)
            .build()
            .await?;
        let all = ["1", "2", "3", "4", "5"].map(|text| message("t", text));
        publish(&*backend, &all.into_iter().collect::<Result<Vec<_>, _>>()?).await?;
        assert_eq!(handled(&mut *subscriber, 3).await?, ["1", "3", "5"]);
        assert_eq!(subscriber.refused().count(), 2);
        subscriber.close().await;
        assert!(waiting(&*backend, "g.subscriber").await?.is_empty());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_list_of_messages_is_a_subscription() -> Outcome {
    let messages = [message("a", "1")?, message("b", "2")?, message("a.b", "3")?];
    let mut subscriber =
        MemorySubscriber::new(vec!["a".parse()?, "*.b".parse()?], messages).await?;
    let held = next(&mut subscriber).await?;
    let last = next(&mut subscriber).await?;
    assert_eq!([text(&held), text(&last)], ["1", "3"]);
    assert!(subscriber.next().await.is_none(), "nothing else is ready");
    last.dead_letter(Reason::Failed, "no").await?;
    assert_eq!(subscriber.dead_letters().await[0].error, "no");
    drop(held);
    let stream = Box::new(subscriber).into_stream();
    let texts: Vec<String> = stream
        .map(|received| text(&received))
        .take(1)
        .collect()
        .await;
    assert_eq!(texts, ["1"], "what was dropped came again");
    let too_many = vec![message("a", "x")?; MemoryBackend::CAPACITY + 1];
    let refused = MemorySubscriber::new(vec!["a".parse()?], too_many).await;
    assert!(matches!(refused, Err(BackendError::Invalid(_))));
    Ok(())
}

/// Its queue is gone, and with it every message; whoever waits learns it.
#[tokio::test]
async fn a_subscription_ends_with_its_broker() -> Outcome {
    let backend: Arc<dyn Backend> = memory();
    let mut subscriber = BackendSubscriber::subscribe(backend.clone(), spec("q", &["t"])?).await?;
    let waits = tokio::spawn(async move { subscriber.next().await.is_none() });
    tokio::task::yield_now().await;
    backend.close().await;
    assert!(tokio::time::timeout(SOON, waits).await??);
    Ok(())
}
