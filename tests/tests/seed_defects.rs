//! The defects of the seed systems that we do not copy, one test each: what the seed does (measured with minos.networks 0.7.0
//! and melange 7.2.0, and recorded in `design/delivery.md`), beside what ours does. Where the seed's rule is a few lines, it is
//! run as well, so that the test shows that the rule loses or corrupts something.
//!
//! Each test fails under the seed's rule. The rules of delivery as such are in `contract.rs` and `path.rs`.

use std::path::Path;
use std::sync::Arc;

use sandbar::backend::{Backend, EmbeddedBackend, EmbeddedOptions, MemoryBackend};
use sandbar::control::{Host, HostOptions};
use sandbar::dispatch::Dispatcher;
use sandbar::store::Store;
use sandbar_tests::contract::Broker;

#[path = "seed_defects/messages.rs"]
mod messages;
#[path = "seed_defects/pumps.rs"]
mod pumps;
#[path = "seed_defects/queues.rs"]
mod queues;
#[path = "seed_defects/replies.rs"]
mod replies;

/// A broker in memory.
fn memory() -> Broker {
    of(MemoryBackend::new())
}

/// The broker of a folder. Dropping it without closing it is how its process ends when it is killed; that of a process
/// that is really killed is in `kill.rs`.
async fn embedded(folder: &Path) -> Broker {
    let options = EmbeddedOptions::default();
    of(EmbeddedBackend::open(folder, options).await.unwrap())
}

fn of<B: Backend + Store + 'static>(both: B) -> Broker {
    let both = Arc::new(both);
    Broker {
        backend: both.clone(),
        store: both,
    }
}

/// A host of native actions.
async fn host(broker: &Broker, native: Dispatcher) -> Host {
    host_with(broker, native, |_| {}).await
}

async fn host_with(
    broker: &Broker,
    native: Dispatcher,
    change: impl FnOnce(&mut HostOptions),
) -> Host {
    let mut options = HostOptions {
        native: Some(native),
        ..HostOptions::default()
    };
    options.native_retry.initial = std::time::Duration::from_millis(1);
    change(&mut options);
    let (backend, store) = (broker.backend.clone(), broker.store.clone());
    Host::start(backend, store, options).await.unwrap()
}
