//! The same messages to the same plugin in different languages: replies, state and what is published are the same.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::{Backend, Opened, Outgoing, open};
use sandbar::control::{Host, HostOptions, ServedPlugin};
use sandbar::message::{Message, Payload, Status, Strategy};
use sandbar::plugin::PluginSpec;
use sandbar::store::Store;
use sandbar::wire::{self, Form};
use sandbar_tests::guests::guest;
use sandbar_tests::languages::Language;
use sandbar_tests::traffic::{eventually, take, text, topic};
use serde_json::{Value, json};

/// For a guest that is compiled at that moment, perhaps beside others.
const PATIENCE: Duration = Duration::from_secs(60);

/// How many messages are on their way at once.
const CROWD: usize = 300;

/// A host with `echo` and `quakes` of one language.
struct Served {
    host: Host,
    backend: Arc<dyn Backend>,
    store: Arc<dyn Store>,
    _folder: tempfile::TempDir,
}

/// What is left when a host has handled the same messages as another one.
#[derive(Debug, PartialEq)]
struct Left {
    replies: Vec<Reply>,
    state: BTreeMap<String, Value>,
    alerts: Vec<Value>,
    /// What was rejected, and why: nobody is answered when an event is.
    dead: BTreeMap<String, Vec<(String, Value)>>,
}

/// A reply, as far as it can be the same.
#[derive(Debug, PartialEq)]
struct Reply {
    to: String,
    status: Status,
    headers: Vec<(String, String)>,
    content: Value,
}

async fn serve(kind: &str, find: impl Fn(&str) -> Option<PluginSpec>) -> Option<Served> {
    let folder = tempfile::tempdir().unwrap();
    let Opened { backend, store, .. } = open(kind, folder.path()).await.unwrap();
    let echo = ServedPlugin::new(find("echo")?);
    let mut quakes = ServedPlugin::new(find("quakes")?);
    quakes.spec.grants.state = true;
    quakes.spec.grants.publish = vec!["quake.alert".parse().unwrap()];
    let options = HostOptions {
        plugins: vec![echo, quakes],
        ..HostOptions::default()
    };
    let host = Host::start(backend.clone(), store.clone(), options)
        .await
        .unwrap();
    Some(Served {
        host,
        backend,
        store,
        _folder: folder,
    })
}

fn week() -> impl Iterator<Item = &'static str> {
    include_str!("../../../plugins/quakes/data/quakes.jsonl").lines()
}

/// A quake with one value that is not as it was.
fn changed(pointer: &str, value: Value) -> Payload {
    let mut quake: Value = serde_json::from_str(week().next().unwrap()).unwrap();
    *quake.pointer_mut(pointer).unwrap() = value;
    Payload::text(quake.to_string())
}

/// What is asked, one after the other.
fn questions() -> Vec<(&'static str, Payload)> {
    let mut questions: Vec<(&str, Payload)> = [
        &b""[..],
        b"{\"a\": 1.50}",
        &[0, 255, 10],
        "\u{fc}\u{1f30b}".as_bytes(),
    ]
    .into_iter()
    .map(|content| ("echo", Payload::new(content)))
    .collect();
    let mut typed = Payload::new(&b"x"[..]);
    typed.headers.insert("content-type", "x/y").unwrap();
    typed.headers.insert("other", "\u{e9}t\u{e9}").unwrap();
    questions.push(("echo", typed));
    questions.push(("echo", Payload::new(vec![7; 1 << 20])));
    questions.push(("quake.stats", Payload::new(&b""[..])));
    for question in [
        "{\"top\": 3}",
        "{}",
        "{\"top\": 0}",
        "{\"top\": -1}",
        "{\"first\": 3}",
        "[",
        "{\"top\": 1000}",
    ] {
        questions.push(("quake.stats", Payload::text(question)));
    }
    questions
}

/// Events that are wrong, odd or real.
fn events() -> Vec<Payload> {
    let mut events: Vec<Payload> = [
        ("/properties/mag", json!(null)),
        ("/properties/mag", json!("2")),
        ("/properties/mag", json!(true)),
        ("/properties/mag", json!(10.1)),
        ("/properties/time", json!(1.5)),
        ("/geometry/coordinates/0", json!(-180.5)),
        ("/geometry/coordinates/1", json!(91)),
        ("/geometry/coordinates/2", json!(6371)),
        ("/geometry/coordinates", json!([1, 2])),
        ("/geometry", json!(null)),
        ("/id", json!("")),
        ("/id", json!(7)),
        ("/properties/place", json!("x".repeat(201))),
        ("/properties/place", json!("\u{e9}".repeat(101))),
        // These are right.
        ("/properties/place", json!(null)),
        ("/properties/place", json!("somewhere, ")),
        (
            "/properties/place",
            json!("10 km N of \u{1f30b}, \u{cd}sland"),
        ),
        ("/properties/mag", json!(-0.3)),
        ("/properties/mag", json!(8)),
        ("/properties/time", json!(-1)),
    ]
    .into_iter()
    .map(|(pointer, value)| changed(pointer, value))
    .collect();
    events.push(Payload::text("no json"));
    events.push(Payload::new(&b"\"\xff\""[..]));
    events.extend(week().take(CROWD).map(Payload::text));
    events
}

impl Served {
    async fn ask(&self, to: &str, payload: Payload) -> Reply {
        let message = Message::new(topic(to), payload);
        let reply = self.host.client().request(message, PATIENCE).await.unwrap();
        let Payload {
            content,
            headers,
            status,
        } = &reply.payload;
        Reply {
            to: to.to_owned(),
            status: *status,
            headers: headers
                .iter()
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect(),
            content: comparable(*status, content),
        }
    }

    /// Everything that can be seen of what it did.
    async fn left(self, replies: Vec<Reply>) -> Left {
        let mut state = BTreeMap::new();
        for key in self
            .store
            .state_keys("quakes", "", None, 1000)
            .await
            .unwrap()
        {
            let value = self
                .store
                .state_get("quakes", &key)
                .await
                .unwrap()
                .value
                .unwrap();
            state.insert(key, numbers(serde_json::from_slice(&value).unwrap()));
        }
        let alerts = take(&*self.backend, "quake.alert")
            .await
            .into_iter()
            .map(|alert| {
                assert_eq!(alert.strategy, Strategy::Multicast);
                assert_eq!(
                    alert.payload.headers.get("content-type"),
                    Some("application/json")
                );
                numbers(serde_json::from_slice(&alert.payload.content).unwrap())
            });
        let mut alerts: Vec<Value> = alerts.collect();
        alerts.sort_by_key(ToString::to_string);
        let mut dead: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for letter in self.store.dead_letters(1000).await.unwrap() {
            let message = wire::decode(Form::Native, &letter.packet).unwrap();
            let reason = (
                letter.reason.as_str().to_owned(),
                comparable(Status::Error, letter.error.as_bytes()),
            );
            dead.entry(text(&message)).or_default().push(reason);
        }
        assert!(self.host.stop(PATIENCE).await);
        Left {
            replies,
            state,
            alerts,
            dead,
        }
    }
}

/// What must be the same. Of an error that is the path of the field and, where our own words follow, these: parsers of
/// different languages have different words.
fn comparable(status: Status, content: &[u8]) -> Value {
    if let Ok(value) = serde_json::from_slice(content) {
        return numbers(value);
    }
    let text = String::from_utf8_lossy(content);
    let ours = text.contains(" is not between ") || text.contains(" bytes; must be ");
    let path = text.split(": ").next().filter(|path| !path.contains(' '));
    match (status, path) {
        (Status::Error, Some(path)) if !ours => json!(path),
        (Status::Error, None) => json!("rejected"),
        _ => json!(content),
    }
}

/// Numbers as they count: some languages write `2` where others write `2.0`.
fn numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.into_iter().map(numbers).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, numbers(value)))
            .collect(),
        other => other,
    }
}

/// All events at once, then the questions in order.
async fn run(served: Served) -> Left {
    let events = events();
    let sent = events.len();
    let outgoing = events
        .into_iter()
        .map(|event| Outgoing::new(Message::new(topic("quake.recorded"), event)));
    for result in served.backend.publish(outgoing.collect()).await {
        result.unwrap();
    }
    eventually("every event has ended", async || {
        let dead = served.store.dead_letters(1000).await.unwrap().len();
        let stats = served.ask("quake.stats", Payload::new(&b""[..])).await;
        stats.content["count"] == json!((sent - dead) as f64)
    })
    .await;
    let mut replies = Vec::new();
    for (to, payload) in questions() {
        replies.push(served.ask(to, payload).await);
    }
    served.left(replies).await
}

async fn alike(kind: &str, language: Language) {
    let _turn = crate::TURN.lock().await;
    let Some(served) = serve(kind, |name| crate::spec(language, name)).await else {
        return;
    };
    let rust = serve(kind, |name| Some(PluginSpec::from_file(&guest(name))))
        .await
        .unwrap();
    let (expected, found) = tokio::join!(run(rust), run(served));
    for (expected, found) in expected.replies.iter().zip(&found.replies) {
        assert_eq!(expected, found);
    }
    assert_eq!(expected, found);
    // The comparison has seen something.
    assert!(!found.alerts.is_empty());
    assert_eq!(found.dead.len(), 16);
}

macro_rules! on_each_backend {
    ($($name:ident: $language:expr),* $(,)?) => {
        mod memory { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::alike("memory", $language).await; }
        )* }
        mod embedded { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() { super::alike("embedded", $language).await; }
        )* }
    };
}

on_each_backend! {
    python_does_what_rust_does: sandbar_tests::languages::Language::Python,
    typescript_does_what_rust_does: sandbar_tests::languages::Language::TypeScript,
}
