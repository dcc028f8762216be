//! Weights of queues: who has more of it is handled more often while several have a backlog, and nobody is left waiting.
//!
//! By counts, never by time: how many of one were handled when so many of the other were. The sharing itself is tried over many
//! random hosts in `host/src/share/tests.rs`.

use std::path::Path;
use std::sync::Arc;

use sandbar::backend::{Backend, Opened, Outgoing, QueueSpec, open};
use sandbar::control::{Host, HostOptions, ServedPlugin};
use sandbar::dispatch::{Dispatcher, Kind, Request, Response, ResponseError};
use sandbar::plugin::{Limits, PluginSpec};
use sandbar_tests::guests::guest;
use sandbar_tests::traffic::{eventually, message, topic};
use tokio::sync::Semaphore;

/// Messages for each of the queues, so many that what is in flight at the beginning or the end decides nothing.
const BACKLOG: u64 = 30_000;

/// The plugin under this name, for events only, so that each of them gets a copy of each message.
fn served(name: &str, weight: u32) -> ServedPlugin {
    let mut spec = PluginSpec::from_file(&guest("swap"));
    spec.name = name.to_owned();
    spec.grants.subscribe = Some(vec![topic("swap.told").into()]);
    spec.grants.publish = vec![topic("out.told").into()];
    spec.limits.weight = weight;
    ServedPlugin::new(spec)
}

/// A host of these plugins, which receive nothing yet.
async fn start(opened: &Opened, weights: &[(&str, u32)], native: Option<Dispatcher>) -> Host {
    let plugins = weights.iter().map(|(name, weight)| served(name, *weight));
    let options = HostOptions {
        plugins: plugins.collect(),
        paused: weights.iter().map(|(name, _)| (*name).to_owned()).collect(),
        native,
        native_limits: Limits {
            weight: 10,
            concurrency: 10_000,
            ..Limits::default()
        },
        ..HostOptions::default()
    };
    Host::start(opened.backend.clone(), opened.store.clone(), options)
        .await
        .unwrap()
}

/// A place for what the plugins publish.
async fn sink(backend: &dyn Backend) {
    let spec = QueueSpec::new("sink".parse().unwrap(), vec![topic("out.told").into()]);
    backend.declare_queue(spec).await.unwrap();
}

async fn fill(backend: &dyn Backend) {
    for first in (0..BACKLOG).step_by(1000) {
        let batch = first..first + 1000;
        let batch = batch.map(|number| Outgoing::new(message("swap.told", &number.to_string())));
        for result in backend.publish(batch.collect()).await {
            result.unwrap();
        }
    }
}

/// How many of each were handled.
async fn handled<const N: usize>(backend: &dyn Backend, names: [&str; N]) -> [u64; N] {
    let queues = backend.overview().await.unwrap().queues;
    names.map(|name| {
        let name = format!("sandbar.{name}");
        let mut queues = queues.iter();
        let queue = queues.find(|it| it.spec.name.as_str() == name).unwrap();
        BACKLOG - queue.depth()
    })
}

/// How many were handled when so many of one of them were.
async fn reached(backend: &dyn Backend, names: [&str; 2], many: u64) -> [u64; 2] {
    let mut counts = [0, 0];
    eventually(&format!("{many} are handled"), async || {
        counts = handled(backend, names).await;
        counts.iter().any(|count| *count >= many)
    })
    .await;
    counts
}

/// How many of either were handled while both had a backlog, with these weights: from the moment at which the first one has
/// handled a quarter of it until three quarters.
async fn race(kind: &str, weights: [u32; 2]) -> [u64; 2] {
    let folder = tempfile::tempdir().unwrap();
    let path = match kind {
        "memory" => Path::new(""),
        _ => folder.path(),
    };
    let opened = open(kind, path).await.unwrap();
    sink(&*opened.backend).await;
    let names = ["light", "heavy"];
    let plugins = [(names[0], weights[0]), (names[1], weights[1])];
    let host = start(&opened, &plugins, None).await;
    fill(&*opened.backend).await;
    for port in host.ports() {
        port.pause(false);
    }
    let [before, after] = [
        reached(&*opened.backend, names, BACKLOG / 4).await,
        reached(&*opened.backend, names, BACKLOG / 4 * 3).await,
    ];
    // Whoever has less of it gets on as well.
    eventually("all are handled", async || {
        handled(&*opened.backend, names).await == [BACKLOG; 2]
    })
    .await;
    let counts = [after[0] - before[0], after[1] - before[1]];
    println!("{kind}, weights {weights:?}: {counts:?}");
    counts
}

async fn check(kind: &str) {
    let [light, heavy] = race(kind, [1, 9]).await;
    assert!(
        (light * 4..=light * 20).contains(&heavy),
        "{kind}: {light} and {heavy} of weights 1 and 9"
    );
    let [one, other] = race(kind, [3, 3]).await;
    assert!(
        one < other * 3 && other < one * 3,
        "{kind}: {one} and {other} of the same weight"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn saturated_queues_are_handled_by_their_weights_in_memory() {
    check("memory").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn saturated_queues_are_handled_by_their_weights_on_disk() {
    check("embedded").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_heavy_queue_that_waits_for_something_else_holds_up_nobody() {
    let gate = Arc::new(Semaphore::new(0));
    let mut dispatcher = Dispatcher::default();
    let closed = gate.clone();
    let waits = move |_: Request| {
        let gate = closed.clone();
        async move {
            gate.acquire().await.unwrap().forget();
            Ok::<_, ResponseError>(Response::default())
        }
    };
    dispatcher
        .action(Kind::Event, topic("swap.told").into(), waits)
        .unwrap();
    let opened = open("memory", Path::new("")).await.unwrap();
    sink(&*opened.backend).await;
    let host = start(&opened, &[("light", 1)], Some(dispatcher)).await;
    fill(&*opened.backend).await;
    eventually("all that may be in flight is", async || {
        let queues = opened.backend.overview().await.unwrap().queues;
        queues.iter().any(|queue| queue.in_flight == 2048)
    })
    .await;
    for port in host.ports() {
        port.pause(false);
    }
    eventually("the light one is handled", async || {
        handled(&*opened.backend, ["light"]).await == [BACKLOG]
    })
    .await;
    assert_eq!(handled(&*opened.backend, ["native"]).await, [0]);
    gate.add_permits(BACKLOG as usize);
    eventually("the heavy one is handled", async || {
        handled(&*opened.backend, ["native"]).await == [BACKLOG]
    })
    .await;
}
