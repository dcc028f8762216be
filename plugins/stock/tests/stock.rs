//! What stock says, and what is left of it.

use sandbar_guest::testing::Host;
use sandbar_guest::{Json, Status};
use serde_json::{Value, json};
use stock::PLUGIN;

fn host() -> Host {
    Host::new(PLUGIN).grant_state().stored("item/bolt", "5")
}

/// Each step is a topic, its content, and the status and content (or the beginning of the text) of the answer.
fn check(host: &mut Host, steps: &[(&str, Value, Status, Value)]) {
    for (topic, content, status, expected) in steps {
        let outcome = host.send(topic, Json(content));
        assert_eq!(outcome.status(), *status, "{topic} {content}: {outcome:?}");
        match expected.as_str() {
            None => assert_eq!(
                outcome.json::<Value>().as_ref(),
                Ok(expected),
                "{topic} {content}"
            ),
            Some(start) => {
                let text = outcome.error().map(|error| error.text().to_owned());
                assert!(
                    text.as_deref().is_some_and(|text| text.starts_with(start)),
                    "{text:?}"
                );
            }
        }
    }
}

#[test]
fn items_come_and_go() {
    let mut host = host();
    let bolts = |available: i64| json!({"item": "bolt", "available": available});
    check(
        &mut host,
        &[
            (
                "stock.get",
                json!({"item": "bolt"}),
                Status::Success,
                bolts(5),
            ),
            (
                "stock.add",
                json!({"item": "bolt", "count": 2}),
                Status::Success,
                bolts(7),
            ),
            (
                "stock.reserve",
                json!({"order": "o-1", "item": "bolt", "count": 3}),
                Status::Success,
                bolts(4),
            ),
            // Asked again, as a sender does that got no answer.
            (
                "stock.reserve",
                json!({"order": "o-1", "item": "bolt", "count": 3}),
                Status::Success,
                bolts(4),
            ),
            (
                "stock.reserve",
                json!({"order": "o-2", "item": "bolt", "count": 5}),
                Status::Error,
                json!("count: 5 of `bolt` were asked for and 4 are left"),
            ),
            (
                "stock.reserve",
                json!({"order": "o-2", "item": "bolt", "count": 4}),
                Status::Success,
                bolts(0),
            ),
            (
                "stock.add",
                json!({"item": "nut", "count": 1}),
                Status::Success,
                json!({"item": "nut", "available": 1}),
            ),
        ],
    );
    assert_eq!(host.state()["item/bolt"], b"0");
}

#[test]
fn what_is_wrong_is_rejected_and_what_is_broken_fails() {
    check(
        &mut host().stored("item/rust", "flakes"),
        &[
            (
                "stock.get",
                json!({"item": "gold"}),
                Status::Error,
                json!("item: `gold` is not known"),
            ),
            (
                "stock.reserve",
                json!({"order": "o", "item": "gold", "count": 1}),
                Status::Error,
                json!("item: `gold`"),
            ),
            (
                "stock.add",
                json!({"item": "a/b", "count": 1}),
                Status::Error,
                json!("item: \"a/b\" is no name"),
            ),
            (
                "stock.add",
                json!({"item": "bolt", "count": -1}),
                Status::Error,
                json!("count: "),
            ),
            (
                "stock.add",
                json!({"item": "bolt"}),
                Status::Error,
                json!("missing field `count`"),
            ),
            (
                "stock.get",
                json!({"item": "rust"}),
                Status::SystemError,
                json!("state value malformed: item/rust"),
            ),
        ],
    );
}
