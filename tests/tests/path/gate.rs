//! What holds a plugin back: its rate, and the breaker that pauses it while it keeps failing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use sandbar::backend::{Backend, MemoryBackend, Outgoing, QueueSpec};
use sandbar::call::Access;
use sandbar::dispatch::{Dispatcher, Kind, ResponseError};
use sandbar::handler::Port;
use sandbar::message::Payload;
use sandbar::pipeline::{Pipeline, Version};
use sandbar::plugin::{Grants, Limits};
use sandbar::retry::RetryPolicy;
use sandbar::store::Store;
use sandbar::throttle::BreakerPolicy;
use sandbar::wire::Form;
use tokio::time::Instant;

use crate::fixture::{eventually, message};

/// An action that fails while it is down, and counts.
#[derive(Default)]
struct Service {
    down: AtomicBool,
    failed: AtomicUsize,
    done: AtomicUsize,
}

impl Service {
    fn done(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }

    fn failed(&self) -> usize {
        self.failed.load(Ordering::SeqCst)
    }
}

async fn serve(limits: Limits, messages: usize) -> (Arc<Service>, Arc<MemoryBackend>, Port) {
    let service = Arc::new(Service::default());
    let backend = Arc::new(MemoryBackend::new());
    let spec = QueueSpec::new("q".parse().unwrap(), vec!["t".parse().unwrap()]);
    let queue = backend.declare_queue(spec).await.unwrap().queue;
    let batch = (0..messages).map(|_| Outgoing::new(message("t", "x")));
    for sent in backend.publish(batch.collect()).await {
        sent.unwrap();
    }
    let mut dispatcher = Dispatcher::default();
    let counted = service.clone();
    let action = move |_| {
        let service = counted.clone();
        async move {
            if service.down.load(Ordering::SeqCst) {
                service.failed.fetch_add(1, Ordering::SeqCst);
                return Err(ResponseError::Failed("it is down".to_owned()));
            }
            service.done.fetch_add(1, Ordering::SeqCst);
            Ok(None::<Payload>)
        }
    };
    dispatcher
        .action(Kind::Command, "t".parse().unwrap(), action)
        .unwrap();
    service
        .down
        .store(limits.breaker.is_some(), Ordering::SeqCst);
    let access = Access {
        plugin: "service".into(),
        grants: Grants::all(),
        limits,
        hits: Arc::default(),
        store: backend.clone(),
        client: None,
        http: None,
    };
    let version = Version::new(
        Form::Native,
        dispatcher,
        Arc::new(access),
        RetryPolicy::default(),
    );
    let pipeline = Pipeline::new(backend.clone(), queue, version);
    let port = Port::start(Arc::new(pipeline)).await.unwrap();
    (service, backend, port)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_does_not_empty_a_queue_into_the_dead_letters() {
    const MESSAGES: usize = 10_000;
    let breaker = BreakerPolicy {
        pause: Duration::from_millis(300),
        ..BreakerPolicy::default()
    };
    let limits = Limits {
        breaker: Some(breaker),
        ..Limits::default()
    };
    let (service, backend, port) = serve(limits, MESSAGES).await;
    eventually("enough has failed", async || service.failed() >= 50).await;
    // What was in flight fails as well; then one is tried now and then.
    let mut before = 0;
    eventually("it is paused", async || {
        let now = service.failed();
        std::mem::replace(&mut before, now) + 1 >= now
    })
    .await;
    assert!(
        before < MESSAGES / 2,
        "{before} failed before it was paused"
    );
    service.down.store(false, Ordering::SeqCst);
    eventually("everything has ended", async || {
        service.done() + service.failed() == MESSAGES
    })
    .await;
    let letters = backend.dead_letters(MESSAGES).await.unwrap().len();
    assert_eq!(
        letters,
        service.failed(),
        "what failed is kept, and nothing else"
    );
    println!("{letters} of {MESSAGES} became dead letters before the outage was over");
    assert!(port.stop(Duration::from_secs(5)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_is_kept() {
    let limits = Limits {
        rate: Some(100),
        breaker: None,
        ..Limits::default()
    };
    let began = Instant::now();
    let (service, _backend, port) = serve(limits, 250).await;
    eventually("everything is done", async || service.done() == 250).await;
    // A hundred at once, the others at a hundred a second: never faster, however fast the machine is.
    assert!(
        began.elapsed() >= Duration::from_millis(1490),
        "{:?}",
        began.elapsed()
    );
    assert!(port.stop(Duration::from_secs(5)).await);
}
