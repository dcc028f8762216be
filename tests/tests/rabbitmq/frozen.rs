//! B2: a server that is silent. Its connections stay open, so that only a deadline tells.

use std::time::Duration;

use sandbar::backend::{Effects, SettleError, Verdict};
use sandbar_tests::contract::{Failure, Outcome, message, texts};
use sandbar_tests::servers::proxy::Proxy;
use sandbar_tests::servers::rabbitmq::{RabbitMq, url};
use tokio::time::Instant;

use super::fixture::{ack, delivered, open, queue, reconnected, stalled};

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_is_noticed_and_consumers_come_back() -> Outcome {
    let Some(server) = RabbitMq::start().await else {
        return Ok(());
    };
    let opened = open(&server.url()).await?;
    let queue = queue(&opened, "q", "t").await?;
    let mut source = opened.source(&queue).await?;
    opened.broker.send("t", &["1", "2"]).await?;
    let mut held = delivered(&mut source).await?;
    while held.len() < 2 {
        held.extend(delivered(&mut source).await?);
    }
    server.freeze();
    let frozen = Instant::now();
    stalled(&mut source).await?;
    println!("noticed after {:?}", frozen.elapsed());
    // Longer than any deadline: attempts to connect have to be given up as well.
    let long = std::env::var_os("SANDBAR_LONG").is_some();
    tokio::time::sleep(Duration::from_secs(if long { 60 } else { 15 })).await;
    let publishing = opened.broker.send("t", &["lost"]).await;
    println!("publishing meanwhile: {publishing:?}");
    assert!(publishing.is_err(), "nobody confirmed it");
    server.thaw();
    let thawed = Instant::now();
    reconnected(&mut source).await?;
    println!("consuming again {:?} after the end", thawed.elapsed());

    // What was held belongs to the old consumer.
    let settled = held.remove(0).settle(Verdict::Ack, Effects::default());
    assert_eq!(opened.broker.settle(settled).await, Err(SettleError::Stale));
    drop(held);
    opened.broker.send("t", &["3"]).await?;
    let mut got = Vec::new();
    while !got.contains(&"3".to_owned()) {
        for delivery in delivered(&mut source).await? {
            assert_eq!(delivery.attempt, 1, "no attempt was lost");
            got.extend(texts(std::slice::from_ref(&delivery)));
            ack(&opened, delivery).await?;
        }
    }
    got.retain(|text| text != "lost");
    assert_eq!(got, ["1", "2", "3"]);
    opened.broker.backend.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_goes_dead_is_replaced() -> Outcome {
    let Some(server) = RabbitMq::shared().await else {
        return Ok(());
    };
    let proxy = Proxy::start(server.address()).await?;
    let opened = open(&through(&proxy, &server.vhost())?).await?;
    let queue = queue(&opened, "q", "t").await?;
    let mut source = opened.source(&queue).await?;
    opened.broker.send("t", &["1"]).await?;
    let held = delivered(&mut source).await?.remove(0);
    let before = proxy.connections();
    proxy.blackhole();
    let dead = Instant::now();
    stalled(&mut source).await?;
    reconnected(&mut source).await?;
    println!("replaced after {:?}", dead.elapsed());
    assert!(proxy.connections() > before);
    let settled = held.settle(Verdict::Ack, Effects::default());
    assert_eq!(opened.broker.settle(settled).await, Err(SettleError::Stale));
    let again = delivered(&mut source).await?.remove(0);
    assert_eq!(texts(std::slice::from_ref(&again)), ["1"]);
    ack(&opened, again).await
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_is_bounded_although_the_server_is_silent() -> Outcome {
    let Some(server) = RabbitMq::shared().await else {
        return Ok(());
    };
    let proxy = Proxy::start(server.address()).await?;
    let opened = open(&through(&proxy, &server.vhost())?).await?;
    let queue = queue(&opened, "q", "t").await?;
    let _source = opened.source(&queue).await?;
    opened.broker.send("t", &["1"]).await?;
    proxy.blackhole();
    let closing = opened.broker.backend.close();
    tokio::time::timeout(Duration::from_secs(60), closing).await?;
    Ok(())
}

/// The same virtual host by way of a proxy.
pub(crate) fn through(proxy: &Proxy, direct: &str) -> Result<String, Failure> {
    let vhost = direct.rsplit('/').next().ok_or("no virtual host")?;
    Ok(url(proxy.address(), vhost))
}

/// A message that nobody gets while the server is away is an error, with its place and without the password.
#[tokio::test]
async fn a_server_that_is_not_there_is_named() -> Outcome {
    let opened = open("amqp://user:secret@127.0.0.1:1/%2f").await?;
    let refused = opened.broker.publish(message("t", "x")?).await;
    let text = refused.err().ok_or("nobody took it")?.to_string();
    assert!(
        text.contains("127.0.0.1:1") && !text.contains("secret"),
        "{text}"
    );
    let health = opened.broker.backend.health().await;
    assert!(health.is_err_and(|error| error.to_string().contains("127.0.0.1:1")));
    tokio::time::timeout(Duration::from_secs(30), opened.broker.backend.close()).await?;
    Ok(())
}
