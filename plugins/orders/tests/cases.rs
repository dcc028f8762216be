//! The cases in `cases/`, natively: orders in one testing host, and the real stock in another one that answers it.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should stop")]

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use sandbar_guest::testing::{Host, Outcome};
use sandbar_guest::{Error, Response, Result};
use serde_json::Value;

/// All cases by the names of their files.
fn cases() -> BTreeMap<String, Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let files = std::fs::read_dir(folder).unwrap();
    let cases = files.map(|file| {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        (
            path.display().to_string(),
            serde_json::from_str(&text).unwrap(),
        )
    });
    cases.collect()
}

fn orders(stock: &Value) -> Host {
    let shop = Host::new(orders::PLUGIN)
        .grant_state()
        .grant_publish("order.*");
    let Some(items) = stock.as_object() else {
        return shop.answer("stock.reserve", |_| -> Result<()> {
            Err(Error::failed("a secret"))
        });
    };
    let mut host = Host::new(stock::PLUGIN).grant_state();
    for (item, count) in items {
        host = host.stored(format!("item/{item}"), count.to_string());
    }
    let host = RefCell::new(host);
    shop.answer("stock.reserve", move |content| {
        let outcome = host
            .borrow_mut()
            .send("stock.reserve", Response::new(content));
        match outcome.error() {
            Some(error) => Err(error.clone()),
            None => Ok(outcome.reply().map(|reply| Response::new(reply.content()))),
        }
    })
}

/// Sends a message, and sends it again as long as that is what the plugin asks for.
fn send(host: &mut Host, message: &Value) -> Outcome {
    let topic = message["topic"].as_str().unwrap();
    let content = match &message["content"] {
        Value::Null => Response::default(),
        content => Response::json(content).unwrap(),
    };
    let mut attempt = 1;
    loop {
        let mut delivery = host.message(topic, content.clone()).attempt(attempt);
        for (name, value) in message["headers"].as_object().unwrap() {
            delivery = delivery.header(name, value.as_str().unwrap());
        }
        let outcome = delivery.send();
        if !outcome.error().is_some_and(Error::is_retry) || attempt == 5 {
            return outcome;
        }
        attempt += 1;
    }
}

#[test]
fn every_case_gets_its_reply() {
    let cases = cases();
    assert!(cases.len() >= 10, "{} cases", cases.len());
    for (file, case) in cases {
        let mut host = orders(&case["stock"]);
        for message in case["given"].as_array().into_iter().flatten() {
            assert!(send(&mut host, message).is_ok(), "{file}");
        }
        let before = host.state().clone();
        let outcome = send(&mut host, &case["request"]);
        assert_eq!(
            outcome.status().code(),
            case["reply"]["status"],
            "{file}: {outcome:?}"
        );
        match (&case["reply"]["content"], outcome.error()) {
            (expected, Some(error)) => {
                let expected = expected.as_str().unwrap();
                assert!(error.text().starts_with(expected), "{file}: {error}");
                assert_eq!(*host.state(), before, "{file}: a failure leaves nothing");
            }
            (expected, None) => {
                assert_eq!(outcome.json::<Value>().as_ref(), Ok(expected), "{file}");
                assert_eq!(
                    outcome.reply().unwrap().header("shop"),
                    Some("sandbar"),
                    "{file}"
                );
            }
        }
    }
}
