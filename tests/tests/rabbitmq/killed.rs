//! B1 and B4: kill -9 of the server under load, and what was delivered before.
//!
//! `SANDBAR_LONG=1` kills ten times instead of three.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sandbar::backend::{Effects, Outgoing, SettleError, Verdict};
use sandbar::control::{Host, HostOptions};
use sandbar::dispatch::{Dispatcher, Kind};
use sandbar::message::Message;
use sandbar_tests::contract::{Failure, Outcome, texts};
use sandbar_tests::servers::rabbitmq::RabbitMq;
use tokio::time::Instant;

use super::fixture::{
    Opened, PATIENCE, ack, delivered, number, numbered, open, queue, reconnected,
};

/// How often each message was handled, by its number.
type Handled = Arc<Mutex<HashMap<usize, usize>>>;

fn counting(handled: &Handled) -> Result<Dispatcher, Failure> {
    let mut dispatcher = Dispatcher::default();
    let handled = handled.clone();
    dispatcher.action(Kind::Command, "work".parse()?, move |request| {
        let number = String::from_utf8_lossy(&request.content()).parse();
        if let Ok(number) = number {
            *handled.lock().unwrap().entry(number).or_default() += 1;
        }
        async move { Ok(Some(sandbar::message::Payload::new(request.content()))) }
    })?;
    Ok(dispatcher)
}

/// A request whose reply goes to the topic `done`; one in ten is delayed.
fn work(number: usize) -> Result<Outgoing, Failure> {
    let outgoing = numbered("work", number)?;
    let message: Message = outgoing.message.with_reply_topic("done".parse()?);
    let delay = match number % 10 {
        0 => Duration::from_millis(300),
        _ => Duration::ZERO,
    };
    Ok(Outgoing {
        delay,
        ..Outgoing::new(message)
    })
}

/// Publishes one number after the other until it is told to stop; returns how many were taken.
async fn load(client: Arc<Opened>, stop: Arc<AtomicBool>) -> Result<usize, Failure> {
    let mut next = 0;
    while !stop.load(Ordering::Relaxed) {
        client.publish_surely(work(next)?).await;
        next += 1;
    }
    Ok(next)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_under_load_loses_nothing() -> Outcome {
    let kills = match std::env::var_os("SANDBAR_LONG") {
        Some(_) => 10,
        None => 3,
    };
    let Some(server) = RabbitMq::stopped() else {
        return Ok(());
    };
    // The host is there before its broker.
    let serving = open(&server.url()).await?;
    let handled = Handled::default();
    let options = HostOptions {
        native: Some(counting(&handled)?),
        ..HostOptions::default()
    };
    let (backend, store) = (serving.broker.backend.clone(), serving.broker.store.clone());
    let starting = tokio::spawn(Host::start(backend, store, options));
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(!starting.is_finished(), "it waits for the server");
    server.boot().await;
    let booted = Instant::now();
    let host = tokio::time::timeout(PATIENCE, starting).await???;
    println!("serving {:?} after the server was there", booted.elapsed());

    let client = Arc::new(open(&server.url()).await?);
    let done = queue(&client, "done", "done").await?;
    let stop = Arc::new(AtomicBool::new(false));
    let loading = tokio::spawn(load(client.clone(), stop.clone()));
    let replies = Arc::new(Mutex::new(HashMap::<usize, usize>::new()));
    let repeated = Arc::new(AtomicUsize::new(0));
    let collecting = {
        let (client, replies, repeated) = (client.clone(), replies.clone(), repeated.clone());
        let mut source = client.source(&done).await?;
        tokio::spawn(async move {
            while let Ok(batch) = delivered(&mut source).await {
                for delivery in batch {
                    let number = number(&delivery).unwrap();
                    *replies.lock().unwrap().entry(number).or_default() += 1;
                    if ack(&client, delivery).await.is_err() {
                        repeated.fetch_add(1, Ordering::Relaxed);
                    }
                }
            }
        })
    };
    let count = || handled.lock().unwrap().len();
    let more_than = async |before: usize| {
        let more = async {
            while count() <= before {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, more).await
    };
    for kill in 0..kills {
        more_than(count() + 50).await?;
        server.kill();
        let before = count();
        server.boot().await;
        let booted = Instant::now();
        more_than(before).await?;
        println!(
            "kill {kill}: {before} handled; goes on {:?} after the server was there",
            booted.elapsed()
        );
    }
    stop.store(true, Ordering::Relaxed);
    let sent = loading.await??;
    let all = async {
        while count() < sent || replies.lock().unwrap().len() < sent {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let ended = tokio::time::timeout(PATIENCE, all).await;
    let missing = |seen: &HashMap<usize, usize>| {
        let lost = (0..sent).filter(|number| !seen.contains_key(number));
        lost.collect::<Vec<usize>>()
    };
    let (work, answers) = (
        handled.lock().unwrap().clone(),
        replies.lock().unwrap().clone(),
    );
    assert!(
        ended.is_ok(),
        "lost {:?}, without a reply {:?}",
        missing(&work),
        missing(&answers)
    );
    let twice = |seen: &HashMap<usize, usize>| seen.values().map(|times| times - 1).sum::<usize>();
    println!(
        "{sent} sent, {} handled more than once, {} replies more than once, {} acknowledgements lost",
        twice(&work),
        twice(&answers),
        repeated.load(Ordering::Relaxed)
    );
    // At most what was in flight at each kill, and what was published without a confirmation.
    let bound = kills * (2 * 256 + 1);
    assert!(twice(&work) <= bound, "{} of {bound}", twice(&work));
    assert_eq!(serving.broker.store.dead_letters(10).await?, []);
    collecting.abort();
    host.stop(PATIENCE).await;
    serving.broker.backend.close().await;
    client.broker.backend.close().await;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn settling_with_a_token_of_before_is_refused() -> Outcome {
    let Some(server) = RabbitMq::start().await else {
        return Ok(());
    };
    let opened = open(&server.url()).await?;
    let queue = queue(&opened, "q", "t").await?;
    let mut source = opened.source(&queue).await?;
    opened.broker.send("t", &["1"]).await?;
    let held = delivered(&mut source).await?.remove(0);
    let token = held.token();
    server.kill();
    server.boot().await;
    reconnected(&mut source).await?;
    let again = delivered(&mut source).await?.remove(0);
    assert_eq!(texts(std::slice::from_ref(&again)), ["1"]);
    assert_ne!(again.token(), token);
    // The old token doesn't end the new delivery, and what it would have caused doesn't happen.
    let effects = sandbar_tests::contract::publishing(vec![numbered("t", 2)?]);
    let settled = opened
        .broker
        .settle(held.settle(Verdict::Ack, effects))
        .await;
    assert_eq!(settled, Err(SettleError::Stale));
    let extended = opened.broker.backend.extend(&[token], PATIENCE).await;
    assert_eq!(extended, [Err(SettleError::Stale)]);
    let settlement = again.settle(Verdict::Ack, Effects::default());
    assert_eq!(opened.broker.settle(settlement).await, Ok(()));
    opened.broker.nothing(&queue).await
}
