//! The cases of the plugin `orders`, through real components in a host: the same files that its native tests run.

use std::path::Path;
use std::time::Duration;

use sandbar::backend::{Effects, QueueSpec, Verdict, open};
use sandbar::control::{Host, HostOptions, ServedPlugin};
use sandbar::dispatch::{Dispatcher, Kind, ResponseError};
use sandbar::message::{Message, Payload};
use sandbar::plugin::{Grants, PluginSpec};
use sandbar::topic::Pattern;
use sandbar::wire::{self, Form};
use sandbar_tests::guests::guest;
use serde_json::{Value, json};

fn patterns(topics: &[&str]) -> Vec<Pattern> {
    topics.iter().map(|topic| topic.parse().unwrap()).collect()
}

fn served(name: &str, grants: Grants) -> ServedPlugin {
    let mut plugin = ServedPlugin::new(PluginSpec::from_file(&guest(name)));
    plugin.spec.grants = Grants {
        state: true,
        ..grants
    };
    plugin
}

fn orders() -> ServedPlugin {
    let grants = Grants {
        publish: patterns(&["order.created", "order.confirmed", "order.report"]),
        request: patterns(&["stock.reserve"]),
        ..Grants::default()
    };
    served("orders", grants)
}

/// A host with `orders` and, unless it is broken, `stock` with these items.
async fn host(backend: &sandbar::backend::Opened, stock: &Value) -> Host {
    let mut options = HostOptions {
        plugins: vec![orders()],
        ..HostOptions::default()
    };
    match stock.as_object() {
        Some(_) => options.plugins.push(served("stock", Grants::default())),
        None => {
            let mut broken = Dispatcher::default();
            let fail = |_| async { Err::<(), _>(ResponseError::failed("a secret")) };
            broken
                .action(Kind::Command, "stock.reserve".parse().unwrap(), fail)
                .unwrap();
            options.native = Some(broken);
        }
    }
    let host = Host::start(backend.backend.clone(), backend.store.clone(), options)
        .await
        .unwrap();
    for (item, count) in stock.as_object().into_iter().flatten() {
        let content = json!({"item": item, "count": count});
        let add = json!({"topic": "stock.add", "content": content, "headers": {}});
        assert_eq!(ask(&host, &add).await.0, 200);
    }
    host
}

/// Status and content of the answer; what is no JSON is a text.
async fn ask(host: &Host, message: &Value) -> (u16, Value) {
    let mut payload = match &message["content"] {
        Value::Null => Payload::default(),
        content => Payload::json(content).unwrap(),
    };
    for (name, value) in message["headers"].as_object().unwrap() {
        payload
            .headers
            .insert(name, value.as_str().unwrap())
            .unwrap();
    }
    let message = Message::new(message["topic"].as_str().unwrap().parse().unwrap(), payload);
    let reply = host
        .client()
        .request(message, Duration::from_secs(20))
        .await
        .unwrap();
    let content = reply.payload.parse_json().unwrap_or_else(|_| {
        Value::String(String::from_utf8_lossy(&reply.payload.content).into_owned())
    });
    (reply.payload.status.code(), content)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_case_gets_its_reply() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/orders/cases");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    assert!(files.len() >= 10, "{files:?}");
    for file in files {
        let case: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let what = file.display();
        let folder = tempfile::tempdir().unwrap();
        let opened = open("memory", folder.path()).await.unwrap();
        let host = host(&opened, &case["stock"]).await;
        for message in case["given"].as_array().into_iter().flatten() {
            assert_eq!(ask(&host, message).await.0, 200, "{what}");
        }
        let (status, content) = ask(&host, &case["request"]).await;
        assert_eq!(status, case["reply"]["status"], "{what}: {content}");
        match (&case["reply"]["content"], &content) {
            (Value::String(start), Value::String(text)) => {
                assert!(text.starts_with(start), "{what}: {text}");
            }
            (expected, content) => assert_eq!(content, expected, "{what}"),
        }
        assert!(host.stop(Duration::from_secs(5)).await, "{what}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_order_is_reserved_counted_and_confirmed() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open("memory", folder.path()).await.unwrap();
    let spec = QueueSpec::new("mail".parse().unwrap(), patterns(&["order.confirmed"]));
    let mail = opened.backend.declare_queue(spec).await.unwrap().queue;
    let host = host(&opened, &json!({"bolt": 5})).await;
    let user = json!({"user": "b3057bc1-8723-4ec7-8b6f-b36efd0f7284"});
    for (id, count) in [("o-1", 2), ("o-2", 3)] {
        let content = json!({"id": id, "item": "bolt", "count": count});
        let message = json!({"topic": "order.create", "content": content, "headers": user});
        assert_eq!(ask(&host, &message).await, (200, content));
    }
    let question = json!({"topic": "stock.get", "content": {"item": "bolt"}, "headers": {}});
    assert_eq!(ask(&host, &question).await.1["available"], 0);
    let mut confirmed = Vec::new();
    while confirmed.len() < 2 {
        let deliveries = opened
            .backend
            .receive(&mail, 2, Duration::from_secs(20))
            .await
            .unwrap();
        assert!(!deliveries.is_empty(), "only {confirmed:?} came");
        for delivery in deliveries {
            let message = wire::decode(Form::Native, &delivery.packet).unwrap();
            assert_eq!(message.payload.headers.get("user"), user["user"].as_str());
            confirmed.push(message.payload.parse_json::<Value>().unwrap()["text"].clone());
            let settled = delivery.settle(Verdict::Ack, Effects::default());
            opened
                .backend
                .settle(vec![settled])
                .await
                .pop()
                .unwrap()
                .unwrap();
        }
    }
    confirmed.sort_by_key(ToString::to_string);
    assert_eq!(confirmed, ["2 × bolt", "3 × bolt"]);
    // The other handler of the event counts by itself.
    for _ in 0..2000 {
        let sold = opened
            .store
            .state_get("orders", "sold/bolt")
            .await
            .unwrap()
            .value;
        if sold.as_deref() == Some(b"5") {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("what was sold was not counted");
}
