//! The cases recorded from the seed's dispatcher (`tests/conformance/`), through native actions and through the plugin
//! `conform`, on each backend of our own: the same replies, except where ours differ on purpose.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::{
    Backend, Destination, Effects, Outgoing, PublishError, Queue, QueueSpec, Verdict,
};
use sandbar::client::RequestError;
use sandbar::control::{Host, HostOptions, ServedPlugin};
use sandbar::dispatch::{Dispatcher, Kind, Request, ResponseError};
use sandbar::message::{Message, Payload, Status};
use sandbar::plugin::PluginSpec;
use sandbar::store::Store;
use sandbar::wire::{self, Form};
use sandbar_tests::guests::guest;
use sandbar_tests::servers;
use serde_json::{Value, json};
use uuid::Uuid;

#[path = "conformance/table.rs"]
mod table;

/// Tells the handler what to do; taken out of replies before they are compared.
const INSTRUCTION: &str = "conform";

/// What ours replies instead, and why; `None` where it replies the same.
fn deviation(case: &str) -> Option<(Value, &'static str)> {
    const NO_REPR: &str = "an error is told in its own words, without the name of its type";
    let reply = |status: u16, content: &str| json!({"status": status, "content": content});
    Some(match case {
        "returns_plain_value" => (
            json!({"status": 200, "content": {"x": 1}}),
            "handlers are typed: what one returns is its reply, so nothing is dropped",
        ),
        "response_exception_default" => (reply(400, "boom"), NO_REPR),
        "response_exception_500" => (reply(500, "boom"), NO_REPR),
        "response_exception_418" => (
            reply(600, "boom"),
            "an error is rejected or failed; any other status is a reply, and 418 is unknown",
        ),
        "exception" => (reply(500, "bad"), NO_REPR),
        "params_unavailable" => (
            reply(500, "a message has no params"),
            "the seed's text holds the whole message; ours never holds internals",
        ),
        "bad_user_header" => (
            reply(
                400,
                "header `user` is \"zzz\", which is not a UUID; send a UUID or leave the header out",
            ),
            "the seed drops the message without an answer",
        ),
        "unknown_topic" => (
            reply(500, "no handler for topic `nope`"),
            "the seed drops the message without an answer",
        ),
        _ => return None,
    })
}

/// Cases whose message is kept as a dead letter, with the reason.
fn dead_letter(case: &str) -> Option<&'static str> {
    Some(match case {
        "response_exception_500"
        | "exception"
        | "exception_without_reply_topic"
        | "params_unavailable" => "failed",
        "bad_user_header" => "malformed",
        "unknown_topic" => "no-handler",
        _ => return None,
    })
}

/// Who does what the cases say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Through {
    Native,
    Plugin,
}

fn text(payload: &Payload) -> String {
    String::from_utf8_lossy(&payload.content).into_owned()
}

/// The same as the plugin `conform`, as a native action.
fn conform(request: &Request) -> Result<Option<Payload>, ResponseError> {
    let instruction = request.headers().get(INSTRUCTION).unwrap_or_default();
    let instruction: Value = serde_json::from_str(instruction).unwrap();
    let status = instruction["status"].as_i64();
    let message = || instruction["message"].as_str().unwrap().to_owned();
    match instruction["do"].as_str().unwrap() {
        "echo" => {
            let mut payload = Payload::new(request.content());
            payload.status = Status::from_code(status.unwrap_or(200));
            if let Some(headers) = instruction["replace_headers"].as_object() {
                for (name, _) in request.headers().iter() {
                    payload.headers.insert(name, "").unwrap();
                }
                for (name, value) in headers {
                    payload
                        .headers
                        .insert(name, value.as_str().unwrap())
                        .unwrap();
                }
            }
            if let [name, value] = instruction["set_header"]
                .as_array()
                .map_or(&[][..], Vec::as_slice)
            {
                payload
                    .headers
                    .insert(name.as_str().unwrap(), value.as_str().unwrap())
                    .unwrap();
            }
            Ok(Some(payload))
        }
        "none" => Ok(None),
        "value" => Ok(Some(Payload::json(&instruction["value"]).unwrap())),
        "response_exception" => match status.unwrap_or(400) {
            400 => Err(ResponseError::Rejected(message())),
            500 => Err(ResponseError::Failed(message())),
            other => Ok(Some(
                Payload::text(message()).with_status(Status::from_code(other)),
            )),
        },
        "exception" => Err(ResponseError::Failed(message())),
        "params" => match request.params()? {},
        "user" => Ok(Some(Payload::json(&request.user()).unwrap())),
        other => panic!("the cases say nothing of {other:?}"),
    }
}

struct Fixture {
    host: Host,
    backend: Arc<dyn Backend>,
    store: Arc<dyn Store>,
    /// What is bound to the reply topic of the cases.
    replies: Queue,
    /// The queue of whoever handles topic `t`.
    handler: &'static str,
    _folder: tempfile::TempDir,
}

async fn fixture(kind: &str, through: Through) -> Option<Fixture> {
    let folder = tempfile::tempdir().unwrap();
    let opened = servers::open(kind, folder.path()).await?;
    let mut options = HostOptions::default();
    let handler = match through {
        Through::Plugin => {
            let spec = PluginSpec::from_file(&guest("conform"));
            options.plugins.push(ServedPlugin::new(spec));
            "sandbar.conform"
        }
        Through::Native => {
            let mut dispatcher = Dispatcher::default();
            let action = |request| async move { conform(&request) };
            dispatcher
                .action(Kind::Command, "t".parse().unwrap(), action)
                .unwrap();
            options.native = Some(dispatcher);
            "sandbar.native"
        }
    };
    let (backend, store) = (opened.backend, opened.store);
    let host = Host::start(backend.clone(), store.clone(), options)
        .await
        .unwrap();
    let spec = QueueSpec::new("replies".parse().unwrap(), vec!["r".parse().unwrap()]);
    let replies = backend.declare_queue(spec).await.unwrap().queue;
    Some(Fixture {
        host,
        backend,
        store,
        replies,
        handler,
        _folder: folder,
    })
}

/// All cases were recorded with one identifier; a broker may take them for copies of one message.
fn identifier(case: &Value) -> Uuid {
    let recorded: Uuid = case["request"]["identifier"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    Uuid::new_v5(&recorded, case["name"].as_str().unwrap().as_bytes())
}

fn request(case: &Value) -> Message {
    let recorded = &case["request"];
    let content = match &recorded["content"] {
        Value::Null => Vec::new(),
        content => serde_json::to_vec(content).unwrap(),
    };
    let mut payload = Payload::new(content);
    payload.status = Status::from_code(recorded["status"].as_i64().unwrap());
    for (name, value) in recorded["headers"].as_object().unwrap() {
        payload
            .headers
            .insert(name, value.as_str().unwrap())
            .unwrap();
    }
    payload
        .headers
        .insert(INSTRUCTION, &case["handler"].to_string())
        .unwrap();
    let topic = recorded["topic"].as_str().unwrap().parse().unwrap();
    let message = Message::new(topic, payload).with_identifier(identifier(case));
    match recorded["reply_topic"].as_str() {
        Some(topic) => message.with_reply_topic(topic.parse().unwrap()),
        None => message,
    }
}

/// A reply in the form of the recorded ones.
fn as_recorded(message: &Message) -> Value {
    let payload = &message.payload;
    let content = match payload.headers.get("content-type") {
        _ if payload.content.is_empty() => Value::Null,
        Some(text) if text.starts_with("text/") => Value::String(self::text(payload)),
        _ => payload.parse_json().unwrap(),
    };
    let ours = [INSTRUCTION, "content-type"];
    let headers = payload
        .headers
        .iter()
        .filter(|(name, _)| !ours.contains(name));
    json!({
        "topic": message.topic.as_str(),
        "identifier": message.identifier.to_string(),
        "reply_topic": message.reply_topic.as_ref().map(ToString::to_string),
        "strategy": message.strategy,
        "status": payload.status.code(),
        "ok": message.ok(),
        "headers": headers.collect::<BTreeMap<_, _>>(),
        "content": content,
        "version": Message::VERSION,
    })
}

/// What the reply must be: the recorded one with what deviates put on top.
fn expected(case: &Value) -> Value {
    let name = case["name"].as_str().unwrap();
    let Some((deviating, _)) = deviation(name) else {
        assert!(
            case["dispatch_error"].is_null(),
            "{name} ends in an error of the dispatcher"
        );
        let mut reply = case["reply"].clone();
        if let Some(reply) = reply.as_object_mut() {
            reply["identifier"] = json!(identifier(case));
        }
        return reply;
    };
    let mut reply = json!({
        "topic": "r",
        "identifier": identifier(case),
        "reply_topic": null,
        "strategy": "unicast",
        "headers": case["request"]["headers"],
        "version": 1,
    });
    for (field, value) in deviating.as_object().unwrap() {
        reply[field] = value.clone();
    }
    reply["ok"] = json!(reply["status"] == 200);
    let same = ["status", "content"]
        .iter()
        .all(|field| reply[*field] == case["reply"][*field]);
    assert!(
        !same,
        "{name} deviates in nothing; take it out of the table"
    );
    reply
}

impl Fixture {
    /// Everything that is in the reply queue when the message has been dealt with.
    async fn replies(&self, case: &str, wanted: bool, letters: usize) -> Vec<Arc<Message>> {
        let mut found = Vec::new();
        for _ in 0..400 {
            let wait = Duration::from_millis(50);
            for delivery in self.backend.receive(&self.replies, 10, wait).await.unwrap() {
                found.push(wire::decode(Form::Native, &delivery.packet).unwrap());
                let settled = delivery.settle(Verdict::Ack, Effects::default());
                self.backend
                    .settle(vec![settled])
                    .await
                    .pop()
                    .unwrap()
                    .unwrap();
            }
            let kept = self.store.dead_letters(1000).await.unwrap().len();
            if found.len() >= usize::from(wanted) && kept >= letters {
                return found;
            }
        }
        panic!("{case}: {} replies after 20 s", found.len());
    }

    async fn check(&self, case: &Value) {
        let name = case["name"].as_str().unwrap();
        let letters = self.store.dead_letters(1000).await.unwrap().len();
        let message = request(case);
        let mut outgoing = Outgoing::new(message.clone());
        if name == "unknown_topic" {
            // Nobody is bound to it: who asks is told at once, and what gets here all the same is answered.
            let refused = self
                .host
                .client()
                .request(message, Duration::from_secs(5))
                .await;
            let unroutable = Err(RequestError::Publish(PublishError::Unroutable(
                "nope".parse().unwrap(),
            )));
            assert_eq!(refused, unroutable, "{name}");
            outgoing.to = Destination::Queue(self.handler.parse().unwrap());
        }
        self.backend
            .publish(vec![outgoing])
            .await
            .pop()
            .unwrap()
            .unwrap();
        let expected = expected(case);
        let reason = dead_letter(name);
        let due = letters + usize::from(reason.is_some());
        let replies = self.replies(name, !expected.is_null(), due).await;
        let replies: Vec<Value> = replies.iter().map(|reply| as_recorded(reply)).collect();
        let wanted: Vec<Value> = Some(expected)
            .into_iter()
            .filter(|it| !it.is_null())
            .collect();
        assert_eq!(replies, wanted, "{name}");
        let kept = self.store.dead_letters(1000).await.unwrap();
        assert_eq!(kept.len(), due, "{name}");
        if let Some(reason) = reason {
            assert_eq!(kept[0].reason.as_str(), reason, "{name}");
        }
    }
}

fn recorded() -> Vec<Value> {
    let recorded = include_str!("../conformance/dispatch.json");
    let cases: Vec<Value> = serde_json::from_str(recorded).unwrap();
    assert_eq!(cases.len(), 24);
    cases
}

async fn check(kind: &str, through: Through) {
    let Some(fixture) = fixture(kind, through).await else {
        return;
    };
    for case in recorded() {
        fixture.check(&case).await;
    }
    // Cases without a reply ended before their host did, so that one that came late would be here.
    assert!(fixture.host.stop(Duration::from_secs(5)).await);
    let late = fixture
        .backend
        .receive(&fixture.replies, 10, Duration::ZERO)
        .await
        .unwrap();
    assert!(late.is_empty(), "{late:?}");
}

macro_rules! on_each_backend {
    ($($backend:ident)*) => {$(
        mod $backend {
            use super::{Through, check};

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn through_native_actions() {
                check(stringify!($backend), Through::Native).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn through_a_plugin() {
                check(stringify!($backend), Through::Plugin).await;
            }
        }
    )*};
}

on_each_backend!(memory embedded postgres);
