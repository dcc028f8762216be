//! Asking and being answered, from a client, from inside a native action and from inside a guest, on each backend of our
//! own. The test itself answers, so that it decides when and in which order.
//!
//! What a reply looks like is in `conformance.rs`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use sandbar::backend::PublishError;
use sandbar::client::{Client, RequestError};
use sandbar::control::{Host, HostOptions, ServedPlugin};
use sandbar::dispatch::{Dispatcher, Kind, Request, Response, ResponseError};
use sandbar::message::{Message, Payload};
use sandbar::plugin::PluginSpec;
use sandbar::retry::RetryPolicy;
use sandbar_tests::guests::guest;
use sandbar_tests::servers;
use sandbar_tests::traffic::{Questions, SOON, eventually, message, text, topic};

/// Who asks the topic `ask.me`.
#[derive(Debug, Clone, Copy)]
enum Asker {
    Client,
    /// `native.ask`, with the content as the question.
    Native,
    /// The handler `bad.request` of the plugin `misbehave`.
    Guest,
}

struct Fixture {
    host: Host,
    questions: Questions,
    _folder: tempfile::TempDir,
}

/// A native action that asks as long as its header says.
async fn ask(request: Request) -> Result<Response, ResponseError> {
    let patience = request.headers().get("timeout-ms").unwrap_or("20000");
    let patience = Duration::from_millis(patience.parse()?);
    let question = Payload::new(request.content());
    let reply = request.request(topic("ask.me"), question, patience).await?;
    Ok(Response::new(reply.payload.content.clone()).status(reply.payload.status))
}

async fn fixture(kind: &str) -> Option<Fixture> {
    let folder = tempfile::tempdir().unwrap();
    let opened = servers::open(kind, folder.path()).await?;
    let retry = RetryPolicy {
        initial: Duration::from_millis(5),
        ..RetryPolicy::default()
    };
    let mut plugin = ServedPlugin::new(PluginSpec::from_file(&guest("misbehave")));
    plugin.spec.grants.request = vec!["ask.me".parse().unwrap()];
    plugin.spec.limits.concurrency = 32;
    plugin.spec.limits.time = SOON;
    plugin.retry = retry.clone();
    let mut native = Dispatcher::default();
    native
        .action(Kind::Command, "native.ask".parse().unwrap(), ask)
        .unwrap();
    let mut options = HostOptions {
        plugins: vec![plugin],
        native: Some(native),
        native_retry: retry,
        ..HostOptions::default()
    };
    options.native_limits.concurrency = 1000;
    options.native_limits.time = SOON;
    let backend = opened.backend.clone();
    let host = Host::start(opened.backend, opened.store, options)
        .await
        .unwrap();
    let questions = Questions::to(&backend, "ask.me").await;
    Some(Fixture {
        host,
        questions,
        _folder: folder,
    })
}

impl Fixture {
    /// A question on its way, and its answer.
    async fn ask(
        &self,
        asker: Asker,
        question: &str,
        patience: Duration,
    ) -> Result<Arc<Message>, RequestError> {
        let client: &Client = self.host.client();
        let (mut asking, patience_of_client) = match asker {
            Asker::Client => (message("ask.me", question), patience),
            Asker::Native => (message("native.ask", question), SOON),
            Asker::Guest => (message("bad.request", &format!("ask.me {question}")), SOON),
        };
        let patience = patience.as_millis().to_string();
        asking
            .payload
            .headers
            .insert("timeout-ms", &patience)
            .unwrap();
        client.request(asking, patience_of_client).await
    }

    async fn late(&self, count: u64) {
        eventually("the late reply is counted", async || {
            self.host.client().late_replies() == count
        })
        .await;
    }
}

/// All questions are there before the first one is answered, and the last one is answered first.
async fn in_flight(kind: &str, asker: Asker, count: usize) {
    let Some(fixture) = fixture(kind).await else {
        return;
    };
    let asked: Vec<String> = (0..count).map(|number| number.to_string()).collect();
    let asking = asked
        .iter()
        .map(|question| fixture.ask(asker, question, SOON));
    let asking = join_all(asking);
    let answering = async {
        let mut questions = fixture.questions.exactly(count).await;
        let identifiers: HashSet<_> = questions.iter().map(|it| it.identifier).collect();
        assert_eq!(identifiers.len(), count, "each has its own identifier");
        let topics: HashSet<_> = questions.iter().map(|it| &it.reply_topic).collect();
        assert_eq!(topics.len(), 1, "all share one reply queue");
        questions.reverse();
        fixture.questions.answer(&questions).await;
    };
    let (replies, ()) = tokio::join!(asking, answering);
    for (question, reply) in asked.iter().zip(replies) {
        let reply = reply.unwrap_or_else(|error| panic!("{asker:?} {question}: {error}"));
        assert_eq!(text(&reply), format!("re: {question}"), "{asker:?}");
    }
    assert_eq!(fixture.host.client().late_replies(), 0);
}

async fn a_client_has_a_thousand_requests_in_flight_over_one_reply_queue(kind: &str) {
    in_flight(kind, Asker::Client, 1000).await;
}

async fn native_actions_have_a_thousand_requests_in_flight_over_one_reply_queue(kind: &str) {
    in_flight(kind, Asker::Native, 1000).await;
}

async fn guests_have_requests_in_flight_over_one_reply_queue(kind: &str) {
    // As many as there are instances at once.
    in_flight(kind, Asker::Guest, 32).await;
}

async fn a_request_that_nobody_answers_times_out(kind: &str) {
    let Some(fixture) = fixture(kind).await else {
        return;
    };
    let patience = Duration::from_millis(50);
    let error = fixture.ask(Asker::Client, "x", patience).await;
    let timeout = RequestError::Timeout {
        topic: topic("ask.me"),
        timeout: patience,
    };
    assert_eq!(error, Err(timeout));
}

/// What an action asks is asked anew at its next attempt; the reply to the first question is nobody's any more.
async fn late_reply(kind: &str, asker: Asker) {
    let Some(fixture) = fixture(kind).await else {
        return;
    };
    let asking = fixture.ask(asker, "x", Duration::from_millis(200));
    let answering = async {
        let questions = fixture.questions.exactly(2).await;
        assert_ne!(questions[0].identifier, questions[1].identifier);
        // To the first question first, although nobody waits for it; then to the second, unless that is late too.
        fixture.questions.answer(&questions[..1]).await;
        fixture.late(1).await;
        fixture.questions.answer(&questions[1..]).await;
        // A slow machine may need more attempts.
        loop {
            fixture
                .questions
                .answer(&fixture.questions.exactly(1).await)
                .await;
        }
    };
    let reply = tokio::select! {
        reply = asking => reply.unwrap(),
        () = answering => unreachable!("it ends with the reply"),
    };
    assert_eq!(text(&reply), "re: x", "{asker:?}");
}

async fn a_late_reply_to_a_native_action_is_dropped_and_counted(kind: &str) {
    late_reply(kind, Asker::Native).await;
}

async fn a_late_reply_to_a_guest_is_dropped_and_counted(kind: &str) {
    late_reply(kind, Asker::Guest).await;
}

async fn a_late_reply_is_never_handed_to_a_later_request(kind: &str) {
    let Some(fixture) = fixture(kind).await else {
        return;
    };
    let patience = Duration::from_millis(50);
    let error = fixture.ask(Asker::Client, "first", patience).await;
    assert!(
        matches!(error, Err(RequestError::Timeout { .. })),
        "{error:?}"
    );
    let first = fixture.questions.exactly(1).await;
    let asking = fixture.ask(Asker::Client, "second", SOON);
    let answering = async {
        let second = fixture.questions.exactly(1).await;
        fixture.questions.answer(&first).await;
        fixture.late(1).await;
        fixture.questions.answer(&second).await;
    };
    let (reply, ()) = tokio::join!(asking, answering);
    assert_eq!(text(&reply.unwrap()), "re: second");
    assert_eq!(fixture.host.client().late_replies(), 1);
}

async fn a_second_reply_is_dropped_and_counted(kind: &str) {
    let Some(fixture) = fixture(kind).await else {
        return;
    };
    let asking = fixture.ask(Asker::Client, "x", SOON);
    let answering = async {
        let question = fixture.questions.exactly(1).await;
        fixture.questions.answer(&question).await;
        fixture.questions.answer(&question).await;
        fixture.late(1).await;
    };
    let (reply, ()) = tokio::join!(asking, answering);
    assert_eq!(text(&reply.unwrap()), "re: x");
}

async fn requests_that_cannot_be_answered_are_refused_at_once(kind: &str) {
    let Some(fixture) = fixture(kind).await else {
        return;
    };
    let client = fixture.host.client();
    let unroutable = client.request(message("nobody.here", ""), SOON).await;
    assert_eq!(
        unroutable,
        Err(RequestError::Publish(PublishError::Unroutable(topic(
            "nobody.here"
        ))))
    );
    // Which of two replies would belong to which request?
    let question = message("ask.me", "x");
    let identifier = question.identifier;
    let asking = client.request(question.clone(), SOON);
    let answering = async {
        let asked = fixture.questions.exactly(1).await;
        let again = client.request(question.clone(), SOON).await;
        assert_eq!(again, Err(RequestError::InFlight(identifier)));
        fixture.questions.answer(&asked).await;
    };
    let (reply, ()) = tokio::join!(asking, answering);
    assert_eq!(reply.unwrap().identifier, identifier);
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
    a_client_has_a_thousand_requests_in_flight_over_one_reply_queue,
    native_actions_have_a_thousand_requests_in_flight_over_one_reply_queue,
    guests_have_requests_in_flight_over_one_reply_queue,
    a_request_that_nobody_answers_times_out,
    a_late_reply_to_a_native_action_is_dropped_and_counted,
    a_late_reply_to_a_guest_is_dropped_and_counted,
    a_late_reply_is_never_handed_to_a_later_request,
    a_second_reply_is_dropped_and_counted,
    requests_that_cannot_be_answered_are_refused_at_once,
}
