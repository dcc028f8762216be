//! Another version takes the place of a plugin of a running host: no message is lost, repeated or refused, whatever the
//! versions have in common, and whatever is wrong with the new one.
//!
//! The host runs in this process, on brokers of its own. Files that change under a host as a process are in
//! `reload_files.rs`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::{Backend, open};
use sandbar::control::{Host, HostOptions, ReloadOutcome, ServedPlugin};
use sandbar::periodic::{Clock, WallClock};
use sandbar::plugin::PluginSpec;
use sandbar::retry::RetryPolicy;
use sandbar::store::Store;
use sandbar_tests::guests::version;
use sandbar_tests::traffic::{SOON, message, text};

#[path = "reload/load.rs"]
mod load;
#[path = "reload/refused.rs"]
mod refused;
#[path = "reload/routes.rs"]
mod routes;

/// What makes the second version of the first.
const TWO: (&str, &str) = ("version one", "version two");

struct Fixture {
    host: Host,
    backend: Arc<dyn Backend>,
    store: Arc<dyn Store>,
    folder: tempfile::TempDir,
}

impl Fixture {
    /// A host with the first version, on a broker of this kind.
    async fn new(kind: &str) -> Self {
        Self::with_clock(kind, Arc::new(WallClock)).await
    }

    async fn with_clock(kind: &str, clock: Arc<dyn Clock>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let opened = open(kind, folder.path()).await.unwrap();
        let options = HostOptions {
            plugins: vec![served(write(&folder, "one", &[]))],
            drain: Some(Duration::from_secs(1)),
            ..HostOptions::default()
        };
        let (backend, store) = (opened.backend, opened.store);
        let host = Host::start_with_clock(backend.clone(), store.clone(), options, clock);
        Self {
            host: host.await.unwrap(),
            backend,
            store,
            folder,
        }
    }

    /// Another version, as it would be served.
    fn version(&self, name: &str, words: &[(&str, &str)]) -> ServedPlugin {
        served(write(&self.folder, name, words))
    }

    async fn swaps(&self, served: ServedPlugin) {
        assert_eq!(self.host.reload(served).await, ReloadOutcome::Swapped);
    }

    async fn ask(&self) -> String {
        let question = message("swap.ask", "");
        let reply = self.host.client().request(question, SOON).await;
        text(&reply.unwrap())
    }

    /// How many versions handle messages that only they have routes for.
    async fn no_dead_letters(&self) {
        let letters = self.store.dead_letters(10).await.unwrap();
        assert!(letters.is_empty(), "{letters:?}");
    }
}

fn write(folder: &tempfile::TempDir, name: &str, words: &[(&str, &str)]) -> PathBuf {
    let file = folder.path().join(format!("{name}.wasm"));
    std::fs::write(&file, version(words)).unwrap();
    file
}

/// The plugin `swap`, whatever its file is called.
fn served(file: PathBuf) -> ServedPlugin {
    let mut spec = PluginSpec::from_file(&file);
    spec.name = "swap".to_owned();
    spec.grants.state = true;
    spec.grants.publish = vec!["out.>".parse().unwrap()];
    let mut served = ServedPlugin::new(spec);
    served.retry = RetryPolicy {
        max_attempts: 1_000_000,
        initial: Duration::from_millis(5),
        max: Duration::from_millis(50),
        ..RetryPolicy::default()
    };
    served
}
