//! What one bad message does to the messages after it.

use sandbar::backend::{Destination, Outgoing};
use sandbar::dispatch::{Dispatcher, Kind, Response};
use sandbar::message::{Message, Payload};
use sandbar_tests::traffic::{SOON, eventually, message, publish, text, topic};

use super::{host, memory};

/// The seed's pump: the first error ends the loop.
fn seed_pump<'a>(
    messages: &'a [&'a str],
    mut handler: impl FnMut(&'a str) -> Result<(), ()>,
) -> Result<(), ()> {
    for message in messages {
        handler(message)?;
    }
    Ok(())
}

/// An exception in a handler or in between ends the seed's pump; the process stays up, deaf. Ours: a handler that panics
/// costs its own message, and the next one is handled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exception_kills_a_pump() {
    let mut handled = Vec::new();
    let pump = seed_pump(&["bad", "good"], |message| match message {
        "bad" => Err(()),
        message => {
            handled.push(message);
            Ok(())
        }
    });
    assert_eq!(
        (pump, handled),
        (Err(()), vec![]),
        "the rest is never handled"
    );

    let broker = memory();
    let mut dispatcher = Dispatcher::default();
    let action = |request: sandbar::dispatch::Request| async move {
        assert_ne!(request.content(), "bad", "a defect of the action");
        Ok(Response::new(request.content()))
    };
    dispatcher
        .action(Kind::Command, topic("t").into(), action)
        .unwrap();
    let host = super::host_with(&broker, dispatcher, |options| {
        options.native_retry.max_attempts = 1;
    });
    let host = host.await;
    for _ in 0..3 {
        publish(&*broker.backend, message("t", "bad")).await;
        let reply = host.client().request(message("t", "good"), SOON).await;
        assert_eq!(text(&reply.unwrap()), "good");
    }
    eventually("each bad one is a dead letter", async || {
        broker.store.dead_letters(9).await.unwrap().len() == 3
    })
    .await;
}

/// A message that cannot be decoded ends the consumer. Ours: it is kept with its bytes and the reason, and the
/// next one is handled.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_malformed_message_stops_a_subscription() {
    let broker = memory();
    let mut dispatcher = Dispatcher::default();
    dispatcher
        .action(Kind::Command, topic("t").into(), |_| async { Ok(()) })
        .unwrap();
    let host = host(&broker, dispatcher).await;
    let mut malformed = message("t", "x");
    malformed.payload.headers.insert("user", "nobody").unwrap();
    publish(&*broker.backend, malformed.clone()).await;
    let stray = Outgoing {
        to: Destination::Queue("sandbar.native".parse().unwrap()),
        ..Outgoing::new(Message::new(topic("stray"), Payload::default()))
    };
    let mut sent = broker.backend.publish(vec![stray]).await;
    sent.pop().unwrap().unwrap();
    let reply = host.client().request(message("t", "good"), SOON).await;
    assert!(reply.unwrap().ok());
    eventually("both are kept", async || {
        broker.store.dead_letters(9).await.unwrap().len() == 2
    })
    .await;
}
