//! What the handlers do beside answering, and what runs around them.

use orders::PLUGIN;
use sandbar_guest::testing::Host;
use sandbar_guest::{Json, Strategy, Uuid, log::Level};
use serde_json::{Value, json};

fn host() -> Host {
    Host::new(PLUGIN)
        .grant_state()
        .grant_publish("order.*")
        .config("shop", "corner")
        .answer("stock.reserve", |content| content)
}

fn order() -> Json<Value> {
    Json(json!({"id": "o-1", "item": "bolt", "count": 2}))
}

#[test]
fn an_order_is_kept_and_announced() {
    let mut host = host();
    let outcome = host
        .message("order.create", order())
        .user(Uuid::from_u128(1))
        .send();
    assert_eq!(outcome.reply().unwrap().header("shop"), Some("corner"));
    assert!(host.state().contains_key("order/o-1"));
    let [created] = host.published() else {
        panic!("one message expected: {:?}", host.published())
    };
    assert_eq!(
        (created.topic.as_str(), created.json()),
        ("order.created", Ok(order().0))
    );
    let [line] = host.logs() else {
        panic!("one line expected")
    };
    assert_eq!((line.level, line.message.as_str()), (Level::Info, "200"));
}

#[test]
fn both_handlers_of_the_event_run() {
    let mut host = host();
    let outcomes = host.message("order.created", order()).send_each();
    let handlers: Vec<_> = outcomes
        .iter()
        .map(|it| (it.handler(), it.is_ok()))
        .collect();
    assert_eq!(handlers, [("count", true), ("confirm", true)]);
    assert_eq!(host.state()["sold/bolt"], b"2");
    let [confirmed] = host.published() else {
        panic!("one message expected: {:?}", host.published())
    };
    assert_eq!(confirmed.key.as_deref(), Some("o-1"));
    assert_eq!(
        confirmed.json(),
        Ok(json!({"order": "o-1", "text": "2 × bolt"}))
    );
}

#[test]
fn the_report_says_what_was_sold() {
    let mut host = host().stored("sold/bolt", "7").stored("sold/nut", "1");
    assert!(host.periodic("report").send().is_ok());
    let [report] = host.published() else {
        panic!("one message expected: {:?}", host.published())
    };
    assert_eq!(
        (report.topic.as_str(), report.strategy),
        ("order.report", Strategy::Multicast)
    );
    assert_eq!(report.json(), Ok(json!([["bolt", 7], ["nut", 1]])));
}

#[test]
fn stock_that_does_not_answer_is_asked_again() {
    // Nobody is there to be asked.
    let mut host = Host::new(PLUGIN)
        .grant_state()
        .answer("stock.reserve", |_| {
            Err::<(), _>(sandbar_guest::Error::retry("slow"))
        });
    let outcome = host
        .message("order.create", order())
        .user(Uuid::from_u128(1))
        .send();
    assert!(outcome.error().unwrap().is_retry(), "{outcome:?}");
    assert!(host.state().is_empty());
}
