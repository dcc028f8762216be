//! What an operator or the server itself does to connections: ends them, or reads nothing from publishers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sandbar_tests::contract::{Failure, Outcome, texts};
use sandbar_tests::servers::rabbitmq::RabbitMq;

use super::fixture::{
    Opened, PATIENCE, ack, delivered, number, numbered, open, queue, reconnected,
};

/// How often all connections are closed, and how many messages are published meanwhile.
const TIMES: usize = 5;
const MESSAGES: usize = 300;

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_closed_under_load_are_made_again() -> Outcome {
    let Some(server) = RabbitMq::start().await else {
        return Ok(());
    };
    let opened = open(&server.url()).await?;
    let queue = queue(&opened, "q", "t").await?;
    let mut source = opened.source(&queue).await?;
    let mut times = vec![0; MESSAGES];
    for round in 0..TIMES {
        for message in (round..MESSAGES).step_by(TIMES) {
            opened.publish_surely(numbered("t", message)?).await;
        }
        let closed = server.erlang(
            "length([rabbit_networking:close_connection(P, \"maintenance\") || P <- rabbit_networking:connections()]).",
        );
        println!("closed: {closed}");
        reconnected(&mut source).await?;
    }
    let mut lost = 0;
    while times.contains(&0) {
        for delivery in delivered(&mut source).await? {
            assert_eq!(delivery.attempt, 1, "no attempt was lost");
            times[number(&delivery)?] += 1;
            // The connection may have ended once more since.
            lost += usize::from(ack(&opened, delivery).await.is_err());
        }
    }
    let twice = times.iter().filter(|times| **times > 1).count();
    println!("{MESSAGES} sent, {twice} came more than once, {lost} acknowledgements lost");
    opened.broker.backend.close().await;
    Ok(())
}

/// A server that is short of memory or disk reads nothing from publishers.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_messages_still_delivers_and_says_why() -> Outcome {
    let Some(server) = RabbitMq::start().await else {
        return Ok(());
    };
    let opened = open(&server.url()).await?;
    let queue = queue(&opened, "q", "t").await?;
    let mut source = opened.source(&queue).await?;
    opened.broker.send("t", &["1"]).await?;
    let held = delivered(&mut source).await?.remove(0);
    server.erlang("rabbit_alarm:set_alarm({{resource_limit, memory, node()}, []}).");
    let (broker, enough) = (opened.broker.clone(), Arc::new(AtomicBool::new(false)));
    let said = enough.clone();
    let publishing = tokio::spawn(async move {
        // What comes before the alarm has reached the connection is still taken.
        for number in 2.. {
            let sent = broker.send("t", &[&number.to_string()]).await;
            sent.map_err(|error| error.to_string())?;
            if said.load(Ordering::Relaxed) {
                break;
            }
        }
        Ok(())
    });
    let reason = tokio::time::timeout(PATIENCE, trouble(&opened)).await?;
    enough.store(true, Ordering::Relaxed);
    assert!(reason.contains("takes no messages"), "{reason}");
    // What consumes has a connection of its own.
    ack(&opened, held).await?;
    assert!(!publishing.is_finished(), "nobody confirmed it");
    server.erlang("rabbit_alarm:clear_alarm({resource_limit, memory, node()}).");
    publishing
        .await?
        .map_err(|error: String| Failure::from(error))?;
    let next = delivered(&mut source).await?;
    assert_eq!(texts(&next)[0], "2");
    opened.broker.ack(next).await?;
    opened.broker.backend.health().await?;
    opened.broker.backend.close().await;
    Ok(())
}

/// Waits until the broker says that it isn't well.
async fn trouble(opened: &Opened) -> String {
    loop {
        match opened.broker.backend.health().await {
            Err(error) => return error.to_string(),
            Ok(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
}
