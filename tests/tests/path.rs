//! The rules of delivery: what becomes of a message, once through a native action and once through a plugin, on each
//! backend of our own.
//!
//! Cases are data; `check` runs them. What a broker must do is in `contract.rs`, what the command line says in `cli.rs`.

#[path = "path/fixture.rs"]
mod fixture;
#[path = "path/gate.rs"]
mod gate;
#[path = "path/instances.rs"]
mod instances;

use std::collections::BTreeMap;
use std::time::Duration;

use fixture::{Fixture, eventually, fixture, message, publish, take, topic};
use sandbar::backend::Outgoing;
use sandbar::message::{Headers, Message, Status};

/// What a reply must be.
struct Expected {
    /// Without the prefix `bad.` or `native.`.
    name: &'static str,
    content: &'static str,
    status: Status,
    reply: &'static str,
    /// Reasons of the dead letters that it leaves.
    dead: &'static [&'static str],
}

const fn ends(
    name: &'static str,
    content: &'static str,
    status: Status,
    reply: &'static str,
    dead: &'static [&'static str],
) -> Expected {
    Expected {
        name,
        content,
        status,
        reply,
        dead,
    }
}

/// Both must end alike.
const ALIKE: &[Expected] = &[
    ends("reject", "no", Status::Error, "no", &[]),
    ends("fail", "broken", Status::SystemError, "broken", &["failed"]),
    ends("status", "200", Status::Success, "200", &[]),
    ends("status", "400", Status::Error, "400", &[]),
    ends("status", "500", Status::SystemError, "500", &[]),
    ends("status", "201", Status::Unknown, "201", &[]),
    ends("headers", "x", Status::Success, "x", &[]),
    ends("retry", "1", Status::Success, "3", &[]),
    ends(
        "publish-then-fail",
        "y",
        Status::SystemError,
        "after publishing",
        &["failed"],
    ),
];

/// What only a guest can do; and attempts, which the plugin has three of.
const GUEST: &[Expected] = &[
    ends(
        "retry-forever",
        "",
        Status::SystemError,
        "not handled after 3 attempts",
        &["attempts"],
    ),
    ends(
        "trap",
        "abort",
        Status::SystemError,
        "the handler crashed",
        &["trap"],
    ),
    ends(
        "trap",
        "secret",
        Status::SystemError,
        "the handler crashed",
        &["trap"],
    ),
    ends(
        "loop",
        "",
        Status::SystemError,
        "the handler took too long",
        &["timeout"],
    ),
    ends(
        "memory",
        "",
        Status::SystemError,
        "the handler needed too much memory",
        &["memory"],
    ),
    ends("publish-many", "3", Status::Success, "3", &[]),
    ends("request", "native.status 200", Status::Success, "200", &[]),
    ends("request", "native.status 400", Status::Error, "400", &[]),
];

async fn check(fixture: &Fixture, prefix: &str, case: &Expected) {
    let what = format!("{prefix}.{} {:?}", case.name, case.content);
    let before = fixture.store.dead_letters(1000).await.unwrap().len();
    let request = message(&format!("{prefix}.{}", case.name), case.content);
    let identifier = request.identifier;
    let reply = fixture
        .host
        .client()
        .request(request, Duration::from_secs(20))
        .await;
    let reply = reply.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(reply.identifier, identifier, "{what}");
    assert_eq!(reply.reply_topic, None, "{what}");
    assert_eq!(reply.payload.status, case.status, "{what}");
    assert_eq!(
        String::from_utf8_lossy(&reply.payload.content),
        case.reply,
        "{what}"
    );
    let trace = (case.name != "headers").then_some("abc");
    assert_eq!(reply.payload.headers.get("trace"), trace, "{what}");
    let letters = fixture.store.dead_letters(1000).await.unwrap();
    let new: Vec<&str> = letters[..letters.len() - before]
        .iter()
        .map(|letter| letter.reason.as_str())
        .collect();
    assert_eq!(new, case.dead, "{what}");
}

async fn rules_of_delivery(kind: &str) {
    let Some(fixture) = fixture(kind).await else {
        return;
    };
    for prefix in ["native", "bad"] {
        for case in ALIKE {
            check(&fixture, prefix, case).await;
        }
    }
    for case in GUEST {
        check(&fixture, "bad", case).await;
    }
    let trapped = ends(
        "trap",
        "x",
        Status::SystemError,
        "the handler crashed",
        &["trap"],
    );
    native_panic_costs_one_message(&fixture, &trapped).await;
    // Nothing of a failed call is visible: the topic that it published to is empty, the key that it wrote unset.
    assert!(
        take(&fixture, "out.x").await.is_empty(),
        "publish-then-fail published"
    );
    for plugin in ["misbehave", "native"] {
        assert_eq!(
            fixture.store.state_get(plugin, "x").await.unwrap().value,
            None,
            "{plugin}"
        );
    }
    assert_eq!(take(&fixture, "out.many").await.len(), 3);
    assert!(
        fixture.host.stop(Duration::from_secs(5)).await,
        "everything had ended"
    );
}

/// A native action that panics ends like a guest that traps, at its last attempt.
async fn native_panic_costs_one_message(fixture: &Fixture, case: &Expected) {
    // Five attempts with the default back-off would take seconds; the reply proves the last one anyway.
    check(fixture, "native", case).await;
}

async fn events_run_every_handler_with_attempts_of_its_own(kind: &str) {
    let Some(fixture) = fixture(kind).await else {
        return;
    };
    let client = fixture.host.client().clone();
    client
        .request(message("bad.event-fails", "1"), Duration::from_secs(5))
        .await
        .unwrap();
    publish(&fixture, message("bad.event", "e")).await;
    // The second handler fails until its attempts are used up; the first one ran once, whatever the second did.
    eventually("a dead letter of the second handler", async || {
        !fixture.store.dead_letters(10).await.unwrap().is_empty()
    })
    .await;
    let letters = fixture.store.dead_letters(10).await.unwrap();
    assert_eq!((letters.len(), letters[0].attempts), (1, 3));
    assert_eq!(take(&fixture, "out.a").await.len(), 1);
    assert_eq!(take(&fixture, "out.b").await.len(), 0);
    client
        .request(message("bad.event-fails", ""), Duration::from_secs(5))
        .await
        .unwrap();
    publish(&fixture, message("bad.event", "e")).await;
    let mut seen = (0, 0);
    eventually("both handlers", async || {
        seen.0 += take(&fixture, "out.a").await.len();
        seen.1 += take(&fixture, "out.b").await.len();
        seen == (1, 1)
    })
    .await;
}

async fn what_no_handler_sees_is_answered_and_kept(kind: &str) {
    let Some(fixture) = fixture(kind).await else {
        return;
    };
    let ask = async |message: Message| {
        fixture
            .host
            .client()
            .request(message, Duration::from_secs(5))
            .await
    };
    let error = ask(message("nobody.here", "x")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no queue is bound to topic `nobody.here`"
    );

    let mut bad_user = message("native.none", "x");
    bad_user.payload.headers.insert("user", "zzz").unwrap();
    let reply = ask(bad_user).await.unwrap();
    assert_eq!(reply.payload.status, Status::Error);
    assert!(
        String::from_utf8_lossy(&reply.payload.content).contains("\"zzz\", which is not a UUID")
    );

    let reply = ask(message("bad.fail", &"x".repeat(100_001)))
        .await
        .unwrap();
    assert_eq!(reply.payload.status, Status::Error);
    assert!(String::from_utf8_lossy(&reply.payload.content).contains("`limits.content` is 100000"));

    // Straight into the queue of a plugin that has no such route.
    let client = fixture.host.client();
    let mut stray = Outgoing::new(message("stray", "x").with_reply_topic(topic("stray.reply")));
    stray.to = sandbar::backend::Destination::Queue("sandbar.misbehave".parse().unwrap());
    client.send(stray).await.unwrap();
    let replies = {
        let mut replies = Vec::new();
        eventually("a reply", async || {
            replies.extend(take(&fixture, "stray.reply").await);
            !replies.is_empty()
        })
        .await;
        replies
    };
    assert_eq!(replies[0].payload.status, Status::SystemError);
    assert_eq!(
        &replies[0].payload.content[..],
        b"no handler for topic `stray`"
    );

    let letters = fixture.store.dead_letters(10).await.unwrap();
    let mut reasons = BTreeMap::new();
    for letter in &letters {
        *reasons.entry(letter.reason.as_str()).or_insert(0) += 1;
    }
    assert_eq!(
        reasons,
        BTreeMap::from([("malformed", 1), ("no-handler", 1), ("too-large", 1)])
    );
}

async fn grants_and_limits_bind_the_guest(kind: &str) {
    let Some(fixture) = fixture(kind).await else {
        return;
    };
    let ask = async |to: &str, content: &str| {
        let reply = fixture
            .host
            .client()
            .request(message(to, content), Duration::from_secs(5))
            .await;
        let reply = reply.unwrap();
        (
            reply.payload.status,
            String::from_utf8_lossy(&reply.payload.content).into_owned(),
        )
    };
    let (status, text) = ask("bad.publish-forbidden", "").await;
    assert_eq!(status, Status::SystemError);
    assert!(
        text.contains("add `publish = [\"forbidden.topic\"]` under [plugins.misbehave]"),
        "{text}"
    );
    let (status, text) = ask("bad.request", "secret.topic x").await;
    assert_eq!(status, Status::SystemError);
    assert!(
        text.contains("add `request = [\"secret.topic\"]`"),
        "{text}"
    );
    let (status, text) = ask("bad.publish-many", "65").await;
    assert_eq!(status, Status::SystemError);
    assert!(text.contains("one call may publish 64 messages"), "{text}");
    assert!(take(&fixture, "out.many").await.is_empty());
    let (status, text) = ask("bad.huge-reply", "100001").await;
    assert_eq!(status, Status::SystemError);
    assert!(text.contains("`limits.content` is 100000"), "{text}");
    assert_eq!(
        ask("bad.log-flood", "10000").await,
        (Status::Success, "10000".to_owned())
    );
}

async fn counters_are_exact_under_concurrency(kind: &str) {
    const CALLS: usize = 400;
    let Some(fixture) = fixture(kind).await else {
        return;
    };
    let calls = (0..CALLS).map(|_| {
        fixture
            .host
            .client()
            .request(message("bad.state", "v"), Duration::from_secs(30))
    });
    for reply in futures_util::future::join_all(calls).await {
        assert!(reply.unwrap().ok());
    }
    let count = fixture
        .store
        .state_get("misbehave", "count")
        .await
        .unwrap()
        .value;
    assert_eq!(count.as_deref(), Some(CALLS.to_string().as_bytes()));
}

async fn user_and_trace_flow_into_what_is_published(kind: &str) {
    let Some(fixture) = fixture(kind).await else {
        return;
    };
    let mut request = message("bad.publish-many", "1");
    let user = uuid::Uuid::new_v4().to_string();
    request.payload.headers.insert("user", &user).unwrap();
    request
        .payload
        .headers
        .insert("traceparent", "00-1-2-00")
        .unwrap();
    fixture
        .host
        .client()
        .request(request, Duration::from_secs(5))
        .await
        .unwrap();
    let published = take(&fixture, "out.many").await;
    let headers: &Headers = &published[0].payload.headers;
    assert_eq!(headers.get("user"), Some(&*user));
    assert_eq!(headers.get("traceparent"), Some("00-1-2-00"));
    assert_eq!(
        headers.get("trace"),
        None,
        "other headers stay where they are"
    );
}

macro_rules! on_each_backend {
    ($($case:ident),* $(,)?) => {
        mod memory { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() { super::$case("memory").await; }
        )* }
        mod embedded { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() { super::$case("embedded").await; }
        )* }
        mod postgres { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() { super::$case("postgres").await; }
        )* }
    };
}

on_each_backend! {
    rules_of_delivery,
    events_run_every_handler_with_attempts_of_its_own,
    what_no_handler_sees_is_answered_and_kept,
    grants_and_limits_bind_the_guest,
    counters_are_exact_under_concurrency,
    user_and_trace_flow_into_what_is_published,
}
