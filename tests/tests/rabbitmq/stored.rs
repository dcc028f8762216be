//! What a host keeps beside the server: state changes once for each message, and what is published because of it is not
//! lost.

use std::time::Duration;

use sandbar::backend::{Destination, Effects, Outgoing, SettleError, Verdict};
use sandbar::store::{LetterFilter, LetterPart, Reason, ReplayTo};
use sandbar_tests::contract::{Outcome, texts, writing};
use sandbar_tests::servers::proxy::Proxy;
use sandbar_tests::servers::rabbitmq::RabbitMq;

use super::fixture::{PATIENCE, ack, delivered, numbered, open, queue, reconnected};
use super::frozen::through;

/// The acknowledgement of a message that changed state is lost: the message comes again, and isn't handled again.
#[tokio::test(flavor = "multi_thread")]
async fn state_changes_once_although_the_acknowledgement_is_lost() -> Outcome {
    let Some(server) = RabbitMq::shared().await else {
        return Ok(());
    };
    let direct = server.vhost();
    let proxy = Proxy::start(server.address()).await?;
    let opened = open(&through(&proxy, &direct)?).await?;
    let requests = queue(&opened, "q", "t").await?;
    let replies = queue(&opened, "replies", "reply").await?;
    let mut source = opened.source(&requests).await?;
    opened.broker.send("t", &["1"]).await?;
    let delivery = delivered(&mut source).await?.remove(0);
    let read = opened.broker.store.state_get("p", "count").await?;
    let mut effects = writing(&[("count", read.version)], &[("count", Some("1"))]);
    effects.publishes.push(numbered("reply", 1)?);
    proxy.blackhole();
    // State is committed and what is published is written down; then the acknowledgement gets nowhere.
    let settled = opened
        .broker
        .settle(delivery.settle(Verdict::Ack, effects))
        .await;
    println!("settled: {settled:?}");
    let value = opened.broker.store.state_get("p", "count").await?.value;
    assert_eq!(value.as_deref(), Some(&b"1"[..]));
    reconnected(&mut source).await?;
    let reply = opened.broker.one(&replies).await?;
    assert_eq!(texts(std::slice::from_ref(&reply)), ["1"]);
    ack(&opened, reply).await?;

    // What is published now comes next: the first message was acknowledged without being delivered.
    opened.broker.send("t", &["2"]).await?;
    let next = delivered(&mut source).await?;
    assert_eq!(texts(&next), ["2"]);
    opened.broker.ack(next).await?;
    opened.broker.nothing(&replies).await
}

/// What was published because of state waits on the disk of the host, and is sent by its next process.
#[tokio::test(flavor = "multi_thread")]
async fn effects_of_state_survive_the_host() -> Outcome {
    let Some(server) = RabbitMq::shared().await else {
        return Ok(());
    };
    let direct = server.vhost();
    let proxy = Proxy::start(server.address()).await?;
    let options = |url: &str| super::fixture::options(url);
    let folder = tempfile::tempdir()?;
    let url = through(&proxy, &direct)?;
    {
        let backend = sandbar::backend::RabbitMqBackend::open(folder.path(), options(&url)).await?;
        let backend = std::sync::Arc::new(backend);
        let broker = sandbar_tests::contract::Broker {
            backend: backend.clone(),
            store: backend,
        };
        let requests = broker.queue("q", &["t"]).await?;
        broker.queue("replies", &["reply"]).await?;
        broker.send("t", &["1"]).await?;
        let delivery = broker.one(&requests).await?;
        let mut effects = writing(&[], &[("k", Some("1"))]);
        effects.publishes.push(numbered("reply", 1)?);
        proxy.blackhole();
        let settled = broker.settle(delivery.settle(Verdict::Ack, effects)).await;
        println!("settled: {settled:?}");
        tokio::time::timeout(Duration::from_secs(60), broker.backend.close()).await?;
    }
    let backend = sandbar::backend::RabbitMqBackend::open(folder.path(), options(&direct)).await?;
    let backend = std::sync::Arc::new(backend);
    let broker = sandbar_tests::contract::Broker {
        backend: backend.clone(),
        store: backend,
    };
    let replies = broker.queue("replies", &["reply"]).await?;
    let reply = broker.one(&replies).await?;
    assert_eq!(texts(std::slice::from_ref(&reply)), ["1"]);
    broker
        .settle(reply.settle(Verdict::Ack, Effects::default()))
        .await?;
    broker.nothing(&replies).await
}

/// What the server would never take is refused before state is committed, and the message comes again.
#[tokio::test(flavor = "multi_thread")]
async fn what_can_never_be_published_is_not_committed() -> Outcome {
    let Some(server) = RabbitMq::shared().await else {
        return Ok(());
    };
    let opened = open(&server.vhost()).await?;
    let requests = queue(&opened, "q", "t").await?;
    opened.broker.send("t", &["1"]).await?;
    let delivery = opened.broker.one(&requests).await?;
    let mut effects = writing(&[], &[("k", Some("1"))]);
    effects.publishes.push(Outgoing {
        delay: Duration::from_secs(1_000 * 24 * 60 * 60),
        ..numbered("later", 1)?
    });
    let settled = opened
        .broker
        .settle(delivery.settle(Verdict::Ack, effects))
        .await;
    assert!(
        matches!(settled, Err(SettleError::Refused(_))),
        "{settled:?}"
    );
    assert_eq!(opened.broker.store.state_get("p", "k").await?.value, None);
    let again = opened.broker.one(&requests).await?;
    ack(&opened, again).await
}

/// A message that was published by a commit and that nobody can get any more is a dead letter, which can be replayed.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_committed_and_cannot_be_published_is_a_dead_letter() -> Outcome {
    let Some(server) = RabbitMq::shared().await else {
        return Ok(());
    };
    let opened = open(&server.vhost()).await?;
    let requests = queue(&opened, "q", "t").await?;
    let topic = queue(&opened, "other", "lost").await?;
    opened.broker.send("t", &["1"]).await?;
    let delivery = opened.broker.one(&requests).await?;
    let mut effects = writing(&[], &[("k", Some("1"))]);
    effects.publishes.push(Outgoing {
        to: Destination::Queue("deleted".parse()?),
        key: Some("key".into()),
        ..numbered("lost", 7)?
    });
    opened
        .broker
        .settle(delivery.settle(Verdict::Ack, effects))
        .await?;
    let store = &opened.broker.store;
    let letters = tokio::time::timeout(PATIENCE, async {
        loop {
            let page = store.letters(&LetterFilter::default(), None, 10).await?;
            if !page.letters.is_empty() {
                return Ok::<_, sandbar::store::StoreError>(page.letters);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let letters = letters.await??;
    assert_eq!(letters.len(), 1);
    assert_eq!(
        (letters[0].topic.as_str(), letters[0].reason),
        ("lost", Reason::NoHandler)
    );
    assert!(
        letters[0].error.contains("`deleted`"),
        "{}",
        letters[0].error
    );

    let part = LetterPart {
        until: u64::MAX,
        limit: 10,
        ..LetterPart::default()
    };
    let replayed = store.replay_letters(&part, &ReplayTo::Origin).await?;
    assert_eq!((replayed.done, replayed.refused), (1, Vec::new()));
    let found = opened.broker.one(&topic).await?;
    assert_eq!(texts(std::slice::from_ref(&found)), ["7"]);
    assert_eq!(found.key.as_deref(), Some("key"));
    ack(&opened, found).await
}
