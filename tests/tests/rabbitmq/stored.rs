//! What a host keeps beside the server: state changes once for each message, and what is published because of it is not
//! lost.

use std::time::Duration;

use sandbar::backend::{Effects, Verdict};
use sandbar_tests::contract::{Outcome, texts, writing};
use sandbar_tests::servers::proxy::Proxy;
use sandbar_tests::servers::rabbitmq::RabbitMq;

use super::fixture::{ack, delivered, numbered, open, queue, reconnected};
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
