//! What keeps a host working: subscriptions that survive whatever breaks them off and say so, a slow handler that holds up
//! nobody else, and stopping under load that costs no attempt.
//!
//! No speeds: those are measured by the benchmarks. What a killed process leaves is in `kill.rs`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::{
    Backend, Opened, Outgoing, PollingSource, Queue, QueueStatus, Source, SourceEvent, open,
};
use sandbar::control::{Host, HostOptions, ServedPlugin};
use sandbar::dispatch::{Dispatcher, Kind, Request, Response, ResponseError};
use sandbar::handler::Port;
use sandbar::plugin::PluginSpec;
use sandbar_tests::guests::guest;
use sandbar_tests::traffic::{SOON, eventually, message, publish, text, topic};
use tokio::sync::Semaphore;

#[path = "supervision/faulty.rs"]
mod faulty;

use faulty::{Fault, Faulty};

/// The queue of native actions.
const NATIVE: &str = "sandbar.native";
/// The most that a subscription may have in flight.
const MOST_IN_FLIGHT: u64 = 2048;

/// Native actions: `t` answers at once, `slow` waits for the gate.
fn actions(gate: &Arc<Semaphore>) -> Dispatcher {
    let mut dispatcher = Dispatcher::default();
    let at_once = |request: Request| async move { Ok(Response::new(request.content())) };
    let at_once = dispatcher.action(Kind::Command, topic("t").into(), at_once);
    at_once.unwrap();
    let gate = gate.clone();
    let slow = move |request: Request| {
        let gate = gate.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            Ok::<_, ResponseError>(Response::new(request.content()))
        }
    };
    dispatcher
        .action(Kind::Command, topic("slow").into(), slow)
        .unwrap();
    dispatcher
}

/// A host of the native actions and of the plugin `echo`.
async fn host(opened: &Opened, gate: &Arc<Semaphore>) -> Host {
    let options = HostOptions {
        plugins: vec![ServedPlugin::new(PluginSpec::from_file(&guest("echo")))],
        native: Some(actions(gate)),
        ..HostOptions::default()
    };
    Host::start(opened.backend.clone(), opened.store.clone(), options)
        .await
        .unwrap()
}

fn port(host: &Host, queue: &str) -> Arc<Port> {
    let mut ports = host.ports().into_iter();
    ports.find(|port| port.queue().as_str() == queue).unwrap()
}

async fn answers(host: &Host, to: &str, content: &str) {
    let reply = host.client().request(message(to, content), SOON).await;
    assert_eq!(text(&reply.unwrap()), content);
}

async fn status(backend: &dyn Backend, queue: &str) -> QueueStatus {
    let queues = backend.overview().await.unwrap().queues;
    let mut queues = queues.into_iter();
    queues.find(|it| it.spec.name.as_str() == queue).unwrap()
}

fn closed_gate() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(0))
}

async fn backlog(backend: &dyn Backend, count: usize) {
    let batch = (0..count).map(|number| Outgoing::new(message("slow", &number.to_string())));
    for sent in backend.publish(batch.collect()).await {
        sent.unwrap();
    }
}

/// A broker that is away, one that talks nonsense and a defect of ours: each is said, and over when its cause is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_survives_whatever_breaks_it_off() {
    let faulty = Arc::new(Faulty::new(NATIVE));
    let opened = Opened {
        backend: faulty.clone(),
        store: faulty.sound.clone(),
    };
    let host = host(&opened, &closed_gate()).await;
    answers(&host, "t", "before").await;
    for (fault, said, breaks_off) in [
        (Fault::Away, Some("it is away"), false),
        (Fault::Nonsense, Some("it is no broker"), true),
        (Fault::Defect, None, true),
    ] {
        let before = port(&host, NATIVE).failures();
        faulty.become_(fault);
        eventually(&format!("{fault:?} is noticed"), async || {
            let port = port(&host, NATIVE);
            match said {
                Some(said) => port.trouble().is_some_and(|trouble| trouble.contains(said)),
                None => port.failures() > before,
            }
        })
        .await;
        publish(&*opened.backend, message("t", "meanwhile")).await;
        answers(&host, "echo", "of its neighbour").await;
        faulty.become_(Fault::None);
        answers(&host, "t", "after").await;
        eventually("the trouble is over", async || {
            port(&host, NATIVE).trouble().is_none()
        })
        .await;
        assert_eq!(
            port(&host, NATIVE).failures() > before,
            breaks_off,
            "{fault:?}"
        );
    }
    assert_eq!(port(&host, "sandbar.echo").failures(), 0);
    assert!(opened.store.dead_letters(9).await.unwrap().is_empty());
    assert!(host.stop(SOON).await);
}

/// A host that is told to stop while its broker is away does not wait for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_does_not_wait_for_a_broker_that_is_away() {
    for fault in [Fault::Away, Fault::Nonsense, Fault::Silent] {
        let faulty = Arc::new(Faulty::new(NATIVE));
        let opened = Opened {
            backend: faulty.clone(),
            store: faulty.sound.clone(),
        };
        let host = host(&opened, &closed_gate()).await;
        faulty.become_(fault);
        assert!(host.stop(SOON).await, "{fault:?}");
    }
}

/// A consumer that stays silent is the most frequent failure of all: no answer is taken for a failure, and tried again.
#[tokio::test]
async fn silence_is_noticed_and_survived() {
    let faulty = Arc::new(Faulty::new("q"));
    let spec = sandbar_tests::contract::spec("q", &["t"]).unwrap();
    let queue = faulty.declare_queue(spec).await.unwrap().queue;
    let (wait, patience) = (Duration::from_millis(10), Duration::from_millis(40));
    let mut source = PollingSource::new(faulty.clone(), queue).with_patience(wait, patience);
    faulty.become_(Fault::Silent);
    let event = source.next(1).await;
    assert!(
        matches!(&event, SourceEvent::Stalled(error) if error.to_string().contains("has not answered")),
        "{event:?}"
    );
    faulty.become_(Fault::None);
    publish(&*faulty, message("t", "after")).await;
    assert!(matches!(source.next(1).await, SourceEvent::Reconnected));
    assert!(matches!(source.next(1).await, SourceEvent::Delivered(_)));
}

/// Somebody deletes the queue of a running handler: it is declared again, and what is published meanwhile is in it.
async fn a_deleted_queue_is_declared_again(kind: &str, folder: &Path) {
    let opened = open(kind, folder).await.unwrap();
    let host = host(&opened, &closed_gate()).await;
    for round in 1..=3 {
        let name = NATIVE.parse().unwrap();
        opened.backend.delete_queue(&name).await.unwrap();
        answers_though_unbound(&host).await;
        assert_eq!(port(&host, NATIVE).failures(), round);
    }
    assert_eq!(port(&host, "sandbar.echo").failures(), 0);
    answers(&host, "echo", "x").await;
    assert!(host.stop(SOON).await);
    opened.backend.close().await;
}

/// A request is refused as long as nobody has a queue for it.
async fn answers_though_unbound(host: &Host) {
    eventually("it answers again", async || {
        let reply = host.client().request(message("t", "x"), SOON).await;
        reply.is_ok_and(|reply| text(&reply) == "x")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_queue_in_memory_is_declared_again() {
    a_deleted_queue_is_declared_again("memory", Path::new("")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_queue_on_disk_is_declared_again() {
    let folder = tempfile::tempdir().unwrap();
    a_deleted_queue_is_declared_again("embedded", folder.path()).await;
}

/// S1, short: a handler with a backlog that does not get on has a bounded share in flight and holds up nobody else.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_handler_holds_up_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let opened = open("embedded", folder.path()).await.unwrap();
    let gate = closed_gate();
    let host = host(&opened, &gate).await;
    backlog(&*opened.backend, 20_000).await;
    for number in 0..500 {
        answers(&host, "echo", &number.to_string()).await;
    }
    let slow = status(&*opened.backend, NATIVE).await;
    assert_eq!(slow.depth(), 20_000, "none of them has ended");
    assert!(slow.in_flight <= MOST_IN_FLIGHT, "{slow:?}");
    gate.add_permits(20_000);
    eventually("all are handled", async || {
        status(&*opened.backend, NATIVE).await.depth() == 0
    })
    .await;
    assert!(host.stop(SOON).await);
    opened.backend.close().await;
}

/// K3 in one process: handlers that do not end, everything that may be in flight is, and it is told to stop.
async fn stopping_under_load_costs_no_attempt(kind: &str, folder: &Path) {
    const MESSAGES: usize = 5_000;
    let opened = open(kind, folder).await.unwrap();
    backlog(&*opened.backend, MESSAGES).await;
    for _ in 0..3 {
        let host = host(&opened, &closed_gate()).await;
        eventually("as much as may be is in flight", async || {
            status(&*opened.backend, NATIVE).await.in_flight >= MOST_IN_FLIGHT - 512
        })
        .await;
        assert!(!host.stop(Duration::from_millis(20)).await, "none ends");
        eventually("all of it is given back", async || {
            status(&*opened.backend, NATIVE).await.in_flight == 0
        })
        .await;
    }
    assert!(opened.store.dead_letters(9).await.unwrap().is_empty());
    let queue = Queue {
        name: NATIVE.parse().unwrap(),
    };
    let mut held = Vec::new();
    while held.len() < MESSAGES {
        let batch = opened
            .backend
            .receive(&queue, MESSAGES, SOON)
            .await
            .unwrap();
        assert!(!batch.is_empty(), "{} of {MESSAGES}", held.len());
        assert!(batch.iter().all(|delivery| delivery.attempt == 1));
        held.extend(batch);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_under_load_costs_no_attempt_in_memory() {
    stopping_under_load_costs_no_attempt("memory", Path::new("")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_under_load_costs_no_attempt_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    stopping_under_load_costs_no_attempt("embedded", folder.path()).await;
}
