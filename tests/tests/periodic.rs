//! What is periodic, through a host whose clock the test sets: when it runs, when it doesn't, and how it fails.
//!
//! Schedules themselves are tested where they are read, in `host/src/periodic/schedule.rs`.

use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::{Backend, Effects, Outgoing, QueueSpec, Verdict, open};
use sandbar::client::RequestError;
use sandbar::control::{Host, HostOptions, ServedPlugin};
use sandbar::message::{Message, Payload};
use sandbar::plugin::PluginSpec;
use sandbar::retry::RetryPolicy;
use sandbar::store::{DeadLetter, Store};
use sandbar::wire::{self, Form, Packet};
use sandbar_tests::guests::guest;
use sandbar_tests::traffic::{SetClock, text};

/// New Year of these years, 0:00 UTC, in milliseconds: the plugin `misbehave` has something to do then.
const NEW_YEAR_2030: i64 = 1_893_456_000_000;
const NEW_YEAR_2031: i64 = 1_924_992_000_000;
const NEW_YEAR_2033: i64 = 1_988_150_400_000;
const NEW_YEAR_2034: i64 = 2_019_686_400_000;
const SECOND: i64 = 1000;

struct Fixture {
    host: Host,
    clock: Arc<SetClock>,
    backend: Arc<dyn Backend>,
    store: Arc<dyn Store>,
    _folder: tempfile::TempDir,
}

/// A host with `misbehave`, shortly before New Year 2030.
async fn fixture() -> Fixture {
    let folder = tempfile::tempdir().unwrap();
    let opened = open("memory", folder.path()).await.unwrap();
    let mut plugin = ServedPlugin::new(PluginSpec::from_file(&guest("misbehave")));
    plugin.spec.grants.state = true;
    plugin.spec.grants.publish = vec!["out.>".parse().unwrap()];
    plugin.retry = RetryPolicy {
        max_attempts: 3,
        initial: Duration::from_millis(1),
        ..RetryPolicy::default()
    };
    let clock = SetClock::at(NEW_YEAR_2030 - SECOND);
    let options = HostOptions {
        plugins: vec![plugin],
        ..HostOptions::default()
    };
    let (backend, store) = (opened.backend, opened.store);
    let host = Host::start_with_clock(backend.clone(), store.clone(), options, clock.clone());
    let host = host.await.unwrap();
    Fixture {
        host,
        clock,
        backend,
        store,
        _folder: folder,
    }
}

impl Fixture {
    fn set(&self, now_ms: i64) {
        self.clock.set(now_ms);
    }

    async fn ask(&self, topic: &str, content: &str) -> Result<Arc<Message>, RequestError> {
        let message = Message::new(topic.parse().unwrap(), Payload::text(content));
        self.host
            .client()
            .request(message, Duration::from_secs(5))
            .await
    }

    /// The next message that a run published.
    async fn tick(&self) -> Arc<Message> {
        let spec = QueueSpec::new("ticks".parse().unwrap(), vec!["out.tick".parse().unwrap()]);
        let queue = self.backend.declare_queue(spec).await.unwrap().queue;
        let wait = Duration::from_secs(20);
        let delivery = self
            .backend
            .receive(&queue, 1, wait)
            .await
            .unwrap()
            .pop()
            .expect("a tick");
        let message = wire::decode(Form::Native, &delivery.packet).unwrap();
        let settled = delivery.settle(Verdict::Ack, Effects::default());
        self.backend
            .settle(vec![settled])
            .await
            .pop()
            .unwrap()
            .unwrap();
        message
    }

    async fn ticks(&self) -> Option<String> {
        let value = self
            .store
            .state_get("misbehave", "ticks")
            .await
            .unwrap()
            .value;
        value.map(|value| String::from_utf8_lossy(&value).into_owned())
    }

    async fn dead_letter(&self) -> DeadLetter {
        for _ in 0..2000 {
            if let Some(letter) = self.store.dead_letters(1).await.unwrap().pop() {
                return letter;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("no dead letter came");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_runs_when_it_is_due_and_what_was_missed_is_not_made_up_for() {
    let fixture = fixture().await;
    fixture.set(NEW_YEAR_2030);
    assert_eq!(text(&*fixture.tick().await), "2030-01-01T00:00:00Z");
    // The machine slept for a while: 2031 and 2032 are missed, and 2033 by more than a minute.
    fixture.set(NEW_YEAR_2033 + 90 * SECOND);
    fixture.clock.awaits(NEW_YEAR_2034).await;
    fixture.set(NEW_YEAR_2034 + 30 * SECOND);
    assert_eq!(text(&*fixture.tick().await), "2034-01-01T00:00:00Z");
    assert_eq!(fixture.ticks().await.as_deref(), Some("2"));
    assert!(fixture.host.stop(Duration::from_secs(5)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_back_neither_repeats_nor_silences_it() {
    let fixture = fixture().await;
    fixture.set(NEW_YEAR_2033 - SECOND);
    fixture.clock.awaits(NEW_YEAR_2033).await;
    fixture.set(NEW_YEAR_2033);
    assert_eq!(text(&*fixture.tick().await), "2033-01-01T00:00:00Z");
    fixture.clock.awaits(NEW_YEAR_2034).await;
    // By less than a year: this year's run was there already.
    fixture.clock.forget();
    fixture.set(NEW_YEAR_2033 - SECOND);
    fixture.clock.awaits(NEW_YEAR_2034).await;
    fixture.set(NEW_YEAR_2033 + SECOND);
    assert_eq!(fixture.ticks().await.as_deref(), Some("1"));
    // By several: it would be silent until 2034.
    fixture.set(NEW_YEAR_2031 - SECOND);
    fixture.clock.awaits(NEW_YEAR_2031).await;
    fixture.set(NEW_YEAR_2031);
    assert_eq!(text(&*fixture.tick().await), "2031-01-01T00:00:00Z");
    assert!(fixture.host.stop(Duration::from_secs(5)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_message_is_a_function_of_plugin_route_and_time() {
    let (one, other) = (fixture().await, fixture().await);
    let mut identifiers = Vec::new();
    for (fixture, now) in [
        (&one, NEW_YEAR_2030),
        (&other, NEW_YEAR_2030),
        (&other, NEW_YEAR_2031),
    ] {
        fixture.set(now);
        // Identifiers of what is published are derived from that of the handled message.
        identifiers.push(fixture.tick().await.identifier);
    }
    assert_eq!(identifiers[0], identifiers[1]);
    assert_ne!(identifiers[1], identifiers[2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_has_attempts_and_a_dead_letter_like_any_message() {
    let fixture = fixture().await;
    fixture.ask("bad.event-fails", "yes").await.unwrap();
    fixture.set(NEW_YEAR_2030);
    let letter = fixture.dead_letter().await;
    assert_eq!((letter.reason.as_str(), letter.attempts), ("attempts", 3));
    assert_eq!(letter.error, "the key `fail` is set");
    let Packet::Message(message) = &letter.packet else {
        panic!("it was readable")
    };
    assert_eq!(message.topic.as_str(), "periodic.misbehave");
    assert_eq!(
        message.payload.headers.get("due"),
        Some("2030-01-01T00:00:00Z")
    );
    assert_eq!(fixture.ticks().await, None, "a failed run leaves nothing");
    fixture.ask("bad.event-fails", "").await.unwrap();
    fixture.set(NEW_YEAR_2031);
    assert_eq!(text(&*fixture.tick().await), "2031-01-01T00:00:00Z");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_topic_leads_to_it() {
    let fixture = fixture().await;
    let refused = fixture.ask("periodic.misbehave", "").await;
    assert!(
        matches!(refused, Err(RequestError::Publish(_))),
        "{refused:?}"
    );
    // Straight into the queue of the plugin, but for no route in particular.
    let message = Message::new("periodic.misbehave".parse().unwrap(), Payload::default());
    let mut stray = Outgoing::new(message);
    stray.to = sandbar::backend::Destination::Queue("sandbar.misbehave".parse().unwrap());
    fixture.host.client().send(stray).await.unwrap();
    assert_eq!(fixture.dead_letter().await.reason.as_str(), "no-handler");
    assert_eq!(fixture.ticks().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_schedule_is_known_and_can_be_left_out() {
    let one = fixture().await;
    let routes = &one.host.plugins()[0].routes;
    let timed: Vec<_> = routes
        .iter()
        .filter(|route| route.schedule.is_some())
        .collect();
    assert_eq!(timed.len(), 1);
    assert_eq!(timed[0].schedule.as_ref().unwrap().to_string(), "0 0 1 1 *");
    assert_eq!(
        (timed[0].kind.to_string(), timed[0].topic.as_str()),
        ("periodic".to_owned(), "periodic.misbehave")
    );

    let mut spec = PluginSpec::from_file(&guest("misbehave"));
    spec.grants.subscribe = Some(vec!["bad.>".parse().unwrap()]);
    let loader = sandbar::plugin::Loader::new(sandbar::guest::Engine::new().unwrap());
    let narrowed = loader.load(spec).await.unwrap();
    assert!(narrowed.routes.iter().all(|route| route.schedule.is_none()));
}
