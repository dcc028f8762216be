//! Who gets which answer, and who gets none. The seed's side of most of these is recorded in `tests/conformance/`.

use std::collections::VecDeque;
use std::time::Duration;

use sandbar::backend::{Destination, Outgoing};
use sandbar::client::RequestError;
use sandbar::dispatch::{Dispatcher, Kind, Response};
use sandbar::message::{Message, Payload, Status};
use sandbar_tests::contract::Broker;
use sandbar_tests::traffic::{SOON, message, publish, text, topic, wait_for};
use serde_json::Value;
use uuid::Uuid;

use super::{host, memory};

/// What the seed answered in a recorded case; null is nothing.
fn seed_replied(name: &str) -> Value {
    let recorded = include_str!("../../conformance/dispatch.json");
    let cases: Vec<Value> = serde_json::from_str(recorded).unwrap();
    let case = cases.iter().find(|case| case["name"] == name);
    case.unwrap()["reply"].clone()
}

/// A host that answers `t`, with a header that is not legal if the content says so.
async fn answering(broker: &Broker) -> sandbar::control::Host {
    let mut dispatcher = Dispatcher::default();
    let action = |request: sandbar::dispatch::Request| async move {
        let response = Response::new(request.content());
        Ok(match request.content().as_ref() {
            b"unencodable" => response.header("a b", "x"),
            _ => response,
        })
    };
    dispatcher
        .action(Kind::Command, topic("t").into(), action)
        .unwrap();
    host(broker, dispatcher).await
}

/// Puts a message into the queue of the actions, and returns its reply and the reason of its dead letter.
async fn answered(broker: &Broker, message: Message) -> (Status, String, &'static str) {
    let name = "sandbar.native".parse().unwrap();
    let asked = Outgoing {
        to: Destination::Queue(name),
        ..Outgoing::new(message.with_reply_topic(topic("replies")))
    };
    let mut sent = broker.backend.publish(vec![asked]).await;
    sent.pop().unwrap().unwrap();
    let reply = wait_for(&*broker.backend, "replies", 1).await;
    let letters = broker.store.dead_letters(9).await.unwrap();
    assert_eq!(letters.len(), 1, "it is kept");
    let reason = letters[0].reason.as_str();
    (reply[0].payload.status, text(&reply[0]), reason)
}

/// A message for which there is no handler is dropped without an answer. Ours: 500, and a dead letter; who asks where
/// nobody listens is told at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unknown_topic_is_silent() {
    assert_eq!(seed_replied("unknown_topic"), Value::Null);
    let broker = memory();
    let host = answering(&broker).await;
    let (status, text, reason) = answered(&broker, message("nope", "x")).await;
    assert_eq!(status, Status::SystemError);
    assert_eq!(
        (&*text, reason),
        ("no handler for topic `nope`", "no-handler")
    );
    // And who asks where nobody listens is told at once.
    let asked = host.client().request(message("nope", "x"), SOON).await;
    assert!(matches!(asked, Err(RequestError::Publish(_))), "{asked:?}");
}

/// A message whose `user` header is no UUID is dropped without an answer. Ours: 400, and a dead letter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_user_header_is_silent() {
    assert_eq!(seed_replied("bad_user_header"), Value::Null);
    let broker = memory();
    let _host = answering(&broker).await;
    let mut bad = message("t", "x");
    bad.payload.headers.insert("user", "zzz").unwrap();
    let (status, text, reason) = answered(&broker, bad).await;
    assert_eq!((status, reason), (Status::Error, "malformed"));
    assert!(text.contains("\"zzz\", which is not a UUID"), "{text}");
}

/// A message whose reply cannot be written is dropped without an answer. Ours: 500, and a dead letter.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unencodable_reply_is_silent() {
    let broker = memory();
    let _host = answering(&broker).await;
    let (status, text, reason) = answered(&broker, message("t", "unencodable")).await;
    assert_eq!((status, reason), (Status::SystemError, "failed"));
    assert!(
        text.starts_with("the reply was refused: header name"),
        "{text}"
    );
}

/// The answer is the representation of the exception, with the whole message in it. Ours: an error in its own words, and
/// a crash in plain ones; the operator sees the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_error_shows_internals() {
    for case in ["exception", "params_unavailable"] {
        let text = seed_replied(case)["content"].to_string();
        assert!(
            text.contains("(message=") || text.contains("ValueError("),
            "{text}"
        );
    }
    let broker = memory();
    let mut dispatcher = Dispatcher::default();
    let action = |_| async { panic!("a secret of the action") };
    dispatcher
        .action::<_, _, Response>(Kind::Command, topic("t").into(), action)
        .unwrap();
    let host = super::host_with(&broker, dispatcher, |options| {
        options.native_retry.max_attempts = 1;
    });
    let host = host.await;
    let reply = host.client().request(message("t", "x"), SOON).await;
    assert_eq!(text(&reply.unwrap()), "the handler crashed");
    // The operator sees it.
    let letters = broker.store.dead_letters(9).await.unwrap();
    assert!(letters[0].error.contains("a secret of the action"));
}

/// What a handler returns is dropped unless it is a response. Ours: what one returns is its reply.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plain_value_is_dropped() {
    assert_eq!(seed_replied("returns_plain_value")["content"], Value::Null);
    let broker = memory();
    let mut dispatcher = Dispatcher::default();
    let action = |_| async { Ok(Payload::json(&serde_json::json!({"x": 1}))?) };
    dispatcher
        .action(Kind::Command, topic("t").into(), action)
        .unwrap();
    let host = host(&broker, dispatcher).await;
    let reply = host.client().request(message("t", ""), SOON).await;
    assert_eq!(text(&reply.unwrap()), r#"{"x":1}"#);
}

/// The seed's client takes the next message of its queue for the reply to what it asked last.
fn seed_receives(queue: &mut VecDeque<(Uuid, &'static str)>) -> Option<&'static str> {
    queue.pop_front().map(|(_, content)| content)
}

/// A late reply of an earlier request is handed to a later one. Ours: replies are correlated by identifier, and a late
/// one is dropped and counted. (`request_reply.rs` does so from inside actions and guests as well.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_reply_is_handed_to_the_next_request() {
    let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
    // The first request has timed out; its reply came before that of the second.
    let mut queue = VecDeque::from([(first, "first"), (second, "second")]);
    assert_eq!(seed_receives(&mut queue), Some("first"), "the wrong one");

    let broker = memory();
    let host = answering(&broker).await;
    let client = host.client();
    broker.queue("slow", &["slow"]).await.unwrap();
    let question = message("slow", "").with_identifier(first);
    let asked = client.request(question, Duration::from_millis(10)).await;
    assert!(
        matches!(asked, Err(RequestError::Timeout { .. })),
        "{asked:?}"
    );
    let topic = client.reply_topic().unwrap().clone();
    let late = Message::new(topic, Payload::text("first"));
    publish(&*broker.backend, late.with_identifier(first)).await;
    let second = client.request(message("t", "second"), SOON).await;
    assert_eq!(text(&second.unwrap()), "second");
    assert_eq!(client.late_replies(), 1);
}
