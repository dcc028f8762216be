//! What instances owe their neighbours: a guest that runs long makes way, and nothing of a message is left for the next
//! one where isolation is asked for.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use sandbar::backend::{MemoryBackend, Outgoing};
use sandbar::control::{Host, HostOptions, ServedPlugin};
use sandbar::plugin::{Isolation, PluginSpec};
use sandbar::store::Store;
use sandbar_tests::guests::guest;

use crate::fixture::{eventually, message};

const PATIENCE: Duration = Duration::from_secs(30);

/// `selfish` never waits for the host, so that its calls run on the threads of the runtime themselves.
async fn host(set: impl FnOnce(&mut ServedPlugin)) -> (Host, Arc<MemoryBackend>) {
    let backend = Arc::new(MemoryBackend::new());
    let mut selfish = ServedPlugin::new(PluginSpec::from_file(&guest("selfish")));
    selfish.retry.max_attempts = 1;
    set(&mut selfish);
    let echo = ServedPlugin::new(PluginSpec::from_file(&guest("echo")));
    let options = HostOptions {
        plugins: vec![selfish, echo],
        ..HostOptions::default()
    };
    let host = Host::start(backend.clone(), backend.clone(), options).await;
    (host.unwrap(), backend)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn guests_that_run_long_make_way() {
    const LOOPS: usize = 4;
    let (host, backend) = host(|selfish| {
        selfish.spec.limits.time = Duration::from_secs(5);
        selfish.spec.limits.concurrency = LOOPS + 1;
    })
    .await;
    // More loops than threads, and messages of the same plugin behind them.
    let ask = |topic: &'static str| host.client().request(message(topic, "x"), PATIENCE);
    let loops = (0..LOOPS).map(|_| Outgoing::new(message("selfish.loop", "")));
    for sent in join_all(loops.map(|outgoing| host.client().send(outgoing))).await {
        sent.unwrap();
    }
    let neighbours = join_all((0..100).map(|_| ask("echo")));
    let behind = join_all((0..100).map(|_| ask("selfish.ping")));
    let (neighbours, behind) = tokio::join!(neighbours, behind);
    assert!(
        neighbours
            .into_iter()
            .chain(behind)
            .all(|reply| reply.unwrap().ok())
    );
    let ended = backend.dead_letters(10).await.unwrap();
    assert!(ended.is_empty(), "the loops still run: {ended:?}");
    eventually("every loop is ended", async || {
        backend.dead_letters(10).await.unwrap().len() == LOOPS
    })
    .await;
    for letter in backend.dead_letters(10).await.unwrap() {
        assert_eq!(letter.reason.as_str(), "timeout");
    }
    assert!(host.stop(PATIENCE).await);
}

/// What the plugin had kept of earlier messages, seen by later ones.
async fn left_behind(isolation: Isolation) -> usize {
    let (host, _) = host(|selfish| selfish.spec.limits.isolation = isolation).await;
    let secret = "secret".repeat(1000);
    let keep = || {
        host.client()
            .request(message("selfish.keep", &secret), PATIENCE)
    };
    let mut seen = 0;
    for _ in 0..20 {
        let replies = join_all((0..20).map(|_| keep())).await;
        let replies = replies
            .into_iter()
            .map(|reply| reply.unwrap().payload.content.len());
        seen += replies.filter(|left| *left > 0).count();
    }
    assert!(host.stop(PATIENCE).await);
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_of_its_own_instance_sees_nothing_of_another() {
    assert_eq!(left_behind(Isolation::Message).await, 0);
    // The same plugin does see it where instances are shared: the test can tell.
    assert!(left_behind(Isolation::Reuse).await > 0);
}
