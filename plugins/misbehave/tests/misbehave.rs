//! The handlers that can be run without a sandbox do what their names say; the others are for the host's tests.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should stop")]

use misbehave::PLUGIN;
use sandbar_guest::testing::Host;
use sandbar_guest::{Error, Status};
use serde_json::{Value, json};
use std::time::Duration;

/// A host that allows everything that any handler asks for.
fn host() -> Host {
    Host::new(PLUGIN).grant_state().grant_publish("out.>")
}

/// The error that a handler ends with.
fn error(topic: &str, content: &str) -> Error {
    host().send(topic, content).error().unwrap().clone()
}

#[test]
fn each_ends_as_its_name_says() {
    assert_eq!(error("bad.reject", "r"), Error::rejected("r"));
    assert_eq!(error("bad.fail", "f"), Error::failed("f"));
    assert_eq!(error("bad.retry", ""), Error::retry("not yet"));
    let later = Error::retry_after("not yet", Duration::from_millis(50));
    assert_eq!(error("bad.retry", "50"), later);
    assert_eq!(error("bad.retry-forever", ""), Error::retry("never"));
    assert!(
        error("bad.publish-forbidden", "")
            .text()
            .contains("forbidden.topic")
    );
    assert!(
        error("bad.publish-many", "65")
            .text()
            .starts_with("publish limit")
    );
    assert!(error("bad.huge-reply", "1048577").is_failed());
    assert_eq!(
        host().message("bad.retry", "").attempt(3).send().text(),
        "3"
    );
    assert_eq!(host().send("bad.huge-reply", "1000").text().len(), 1_000);
    assert_eq!(host().send("bad.status", "400").status(), Status::Error);
    assert_eq!(host().send("bad.status", "404").status(), Status::Unknown);
}

#[test]
fn headers_are_changed() {
    let mut host = host();
    let outcome = host.message("bad.headers", "x").header("trace", "t").send();
    let reply = outcome.reply().unwrap();
    assert_eq!(
        (reply.header("m"), reply.header("trace")),
        (Some("1"), None)
    );
}

#[test]
fn effects_of_a_failure_are_discarded() {
    let mut host = host();
    assert!(!host.send("bad.publish-then-fail", "x").is_ok());
    assert!(host.published().is_empty() && host.state().is_empty());
}

#[test]
fn one_of_two_event_handlers_fails_while_told_so() {
    let mut host = host();
    let topics = |host: &Host| -> Vec<String> {
        host.published().iter().map(|it| it.topic.clone()).collect()
    };
    assert!(host.send("bad.event-fails", "yes").is_ok());
    let ends: Vec<bool> = host
        .message("bad.event", "")
        .send_each()
        .iter()
        .map(|it| it.is_ok())
        .collect();
    assert_eq!(
        (ends, topics(&host)),
        (vec![true, false], vec!["out.a".to_owned()])
    );
    assert!(host.send("bad.event-fails", ()).is_ok());
    assert!(host.send("bad.event", "").is_ok());
    assert_eq!(topics(&host), ["out.a", "out.a", "out.b"]);
}

#[test]
fn reports() {
    let mut host = host().config("k", "v").answer("a.b", |content| content);
    assert_eq!(
        host.send("bad.request", "a.b hello you").text(),
        "hello you"
    );
    host.send("bad.state", "one");
    let state: Value = host.send("bad.state", "two").json().unwrap();
    let expected = json!({
        "before": "one", "after": "two", "count": 2, "gone": null,
        "not_a_number": "state value is not a number", "keys": ["count", "last"],
    });
    assert_eq!(state, expected);
    let context: Value = host.send("bad.context", "c").json().unwrap();
    assert_eq!(context["config"], json!([["k", "v"]]));
    assert_eq!(context["topic"], "bad.context");
    let wasi: Value = host.send("bad.wasi", ()).json().unwrap();
    assert_eq!(wasi["map"], json!({"key": "value"}));
}

#[test]
fn a_tick_counts_unless_it_is_told_to_fail() {
    let mut host = host();
    assert!(host.periodic("tick").header("due", "now").send().is_ok());
    assert_eq!(
        (
            host.published()[0].topic.as_str(),
            host.published()[0].content.as_slice()
        ),
        ("out.tick", b"now".as_slice())
    );
    assert!(host.send("bad.event-fails", "yes").is_ok());
    assert!(host.periodic("tick").send().error().unwrap().is_retry());
    assert_eq!(host.state()["ticks"], b"1");
}
