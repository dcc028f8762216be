//! Several hosts on one server, and queues that are not classic ones.

use std::time::Duration;

use sandbar::backend::{KeyOrder, QueueSpec, RabbitMqOptions, SourceEvent};
use sandbar_tests::contract::{self, Broker, Failure, Outcome, texts};
use sandbar_tests::servers::rabbitmq::RabbitMq;

use super::fixture::{PATIENCE, ack, delivered, open, open_with, options, queue};

#[tokio::test(flavor = "multi_thread")]
async fn hosts_share_a_queue_and_attempts_are_counted_across_them() -> Outcome {
    let Some(server) = RabbitMq::shared().await else {
        return Ok(());
    };
    let url = server.vhost();
    let first = open(&url).await?;
    let second = open(&url).await?;
    let declared = queue(&first, "q", "t").await?;
    assert_eq!(queue(&second, "q", "t").await?, declared);
    first.broker.send("t", &["1"]).await?;
    let failed = first.broker.one(&declared).await?;
    assert_eq!(failed.attempt, 1);
    first
        .broker
        .retry(failed, Duration::from_millis(100))
        .await?;
    // The first host is gone, and has what it holds given to the other one.
    first.broker.backend.close().await;
    let again = second.broker.one(&declared).await?;
    assert_eq!(again.attempt, 2);
    second.broker.retry(again, Duration::ZERO).await?;
    let again = second.broker.one(&declared).await?;
    assert_eq!(
        (
            texts(std::slice::from_ref(&again)).concat().as_str(),
            again.attempt
        ),
        ("1", 3)
    );
    ack(&second, again).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_was_bound_to_before_is_known_to_the_next_one() -> Outcome {
    let Some(server) = RabbitMq::shared().await else {
        return Ok(());
    };
    let url = server.vhost();
    let before = open(&url).await?;
    before.broker.queue("q", &["a", "b"]).await?;
    before.broker.backend.close().await;
    let after = open(&url).await?;
    let queue = after.broker.queue("q", &["b", "c"]).await?;
    let groups = |group: &str| {
        contract::spec("q", &["c"]).map(|spec| QueueSpec {
            group: group.to_owned(),
            ..spec
        })
    };
    for topic in ["a", "b", "c"] {
        let message = contract::message(topic, topic)?.message.multicast();
        after
            .broker
            .publish(sandbar::backend::Outgoing::new(message))
            .await?;
    }
    let taken = after.broker.take(&queue, 2).await?;
    assert_eq!(texts(&taken), ["b", "c"]);
    after.broker.ack(taken).await?;
    // The same queue in another group.
    after.broker.declare(groups("other")?).await?;
    let first = after.broker.queue("first", &["c"]).await?;
    after.broker.send("c", &["to one group"]).await?;
    let taken = after.broker.take(&queue, 1).await?;
    after.broker.ack(taken).await?;
    after.broker.nothing(&first).await
}

/// Whoever declares gets what was kept for it, also while other hosts look through what is kept.
#[tokio::test(flavor = "multi_thread")]
async fn hosts_that_declare_at_once_leave_nothing_kept() -> Outcome {
    const EACH: usize = 1_000;
    let Some(server) = RabbitMq::shared().await else {
        return Ok(());
    };
    let url = server.vhost();
    let sender = open(&url).await?;
    let topics = ["a", "b", "c"];
    for number in 0..EACH {
        for topic in topics {
            sender
                .broker
                .publish(super::fixture::numbered(topic, number)?)
                .await?;
        }
    }
    let mut hosts = Vec::new();
    for topic in topics {
        hosts.push((topic, open(&url).await?));
    }
    let declaring = hosts.iter().map(|(topic, host)| queue(host, topic, topic));
    let queues = futures_util::future::try_join_all(declaring).await?;
    for ((topic, host), queue) in hosts.iter().zip(&queues) {
        let mut found = 0;
        while found < EACH {
            let batch = host.broker.backend.receive(queue, 500, PATIENCE).await?;
            assert!(!batch.is_empty(), "{found} of {EACH} came on {topic}");
            found += batch.len();
            host.broker.ack(batch).await?;
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_host_consumes_a_queue_with_a_single_active_consumer() -> Outcome {
    let Some(server) = RabbitMq::shared().await else {
        return Ok(());
    };
    let url = server.vhost();
    let single = || RabbitMqOptions {
        single_active: true,
        ..options(&url)
    };
    let active = open_with(single()).await?;
    let standby = open_with(single()).await?;
    let order = active.broker.backend.capabilities().key_order;
    assert_eq!(order, KeyOrder::Everywhere);
    let declared = queue(&active, "q", "t").await?;
    queue(&standby, "q", "t").await?;
    let mut first = active.source(&declared).await?;
    active.broker.send("t", &["1"]).await?;
    let one = delivered(&mut first).await?.remove(0);
    ack(&active, one).await?;
    let mut second = standby.source(&declared).await?;
    active.broker.send("t", &["2", "3"]).await?;
    let mut held = delivered(&mut first).await?;
    while held.len() < 2 {
        held.extend(delivered(&mut first).await?);
    }
    let idle = tokio::time::timeout(Duration::from_millis(500), second.next(10)).await;
    assert!(idle.is_err(), "the other one stands by");
    // What it held goes to the one that takes over, in order.
    active.broker.backend.close().await;
    let mut got = Vec::new();
    while got.len() < 2 {
        match tokio::time::timeout(PATIENCE, second.next(10)).await? {
            SourceEvent::Delivered(batch) => {
                got.extend(texts(&batch));
                standby.broker.ack(batch).await?;
            }
            event => println!("{event:?}"),
        }
    }
    assert_eq!(got, ["2", "3"]);
    Ok(())
}

/// The contract on quorum queues, as far as the kind of queue could make a difference.
mod quorum {
    use super::*;

    async fn broker() -> Result<Option<super::super::fixture::Opened>, Failure> {
        let Some(server) = RabbitMq::shared().await else {
            return Ok(None);
        };
        let options = RabbitMqOptions {
            quorum: true,
            ..options(&server.vhost())
        };
        Ok(Some(open_with(options).await?))
    }

    macro_rules! cases {
        ($($case:ident)*) => {$(
            #[tokio::test]
            async fn $case() -> Outcome {
                match broker().await? {
                    Some(opened) => {
                        let broker: Broker = opened.broker.clone();
                        contract::$case(broker).await
                    }
                    None => Ok(()),
                }
            }
        )*};
    }
    cases! {
        publish_then_receive
        redelivery_on_retry_after_its_delay
        redelivery_on_drop
        a_delayed_message_comes_when_due
        a_late_subscriber_sees_earlier_messages
        a_queue_keeps_its_order
        a_key_keeps_its_order_through_retries
        unicast_goes_to_one_group
        declaring_twice_is_the_same
        a_dead_letter_is_kept_and_forwarded
        deleting_a_topic_forgets_what_it_kept
    }
}
