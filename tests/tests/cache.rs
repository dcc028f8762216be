//! Compiled components are kept and used again, and nothing is run that this user did not put there: real components, real
//! files that are changed in every way, real hosts that start beside each other and are killed.
//!
//! Whether something was compiled is counted or read in the log; no time decides anything.

#![expect(clippy::unwrap_used, reason = "a failure shall end the test")]

#[path = "cache/entries.rs"]
mod entries;
#[path = "cache/folders.rs"]
mod folders;
#[path = "cache/hosts.rs"]
mod hosts;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sandbar::backend::MemoryBackend;
use sandbar::call::{Access, Call};
use sandbar::dispatch::Outcome;
use sandbar::guest::{CacheOptions, Engine, Guest, LoadCounts};
use sandbar::plugin::{Grants, Limits};
use sandbar_tests::guests::guest;
use sandbar_tests::traffic::message;

/// A folder for a cache, not made yet, gone with the value.
struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn dir(&self) -> PathBuf {
        self.0.path().join("cache")
    }

    fn options(&self) -> CacheOptions {
        CacheOptions::new(self.dir())
    }

    /// As another start of a host would load it.
    fn load(&self, component: &[u8]) -> (Guest, LoadCounts) {
        load_with(self.options(), component)
    }

    /// Loads `echo`, has it answer, and returns how it was loaded.
    async fn start(&self) -> LoadCounts {
        let (guest, counts) = self.load(&echo());
        answers(&guest).await;
        counts
    }

    /// The only entry.
    fn entry(&self) -> PathBuf {
        let mut found = entries(&self.dir());
        assert_eq!(found.len(), 1, "{found:?}");
        found.remove(0)
    }
}

fn load_with(options: CacheOptions, component: &[u8]) -> (Guest, LoadCounts) {
    let engine = Engine::with_cache(Some(options)).unwrap();
    let guest = engine.load(component).unwrap();
    (guest, engine.counts())
}

fn echo() -> Vec<u8> {
    std::fs::read(guest("echo")).unwrap()
}

/// The entries of a cache, by name.
fn entries(dir: &Path) -> Vec<PathBuf> {
    let all = std::fs::read_dir(dir).unwrap();
    let all = all.map(|entry| entry.unwrap().path());
    let mut found: Vec<PathBuf> = all
        .filter(|path| path.extension().is_some_and(|it| it == "cwasm"))
        .collect();
    found.sort();
    found
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// The code does what the component says.
async fn answers(guest: &Guest) {
    let plugin: Arc<str> = "echo".into();
    let limits = Limits::default();
    let access = Arc::new(Access {
        plugin: plugin.clone(),
        grants: Grants::default(),
        limits: limits.clone(),
        hits: Arc::default(),
        store: Arc::new(MemoryBackend::new()),
        client: None,
        http: None,
    });
    let config = Arc::default();
    let instance = guest.instantiate(&plugin, &config, &limits).await.unwrap();
    let asked = Arc::new(message("echo", "is it still the same?"));
    let call = Call::new(access, asked.clone(), 1, 0, 0);
    let (_, outcome, _) = instance.handle(call).await;
    match outcome {
        Outcome::Done(Some(reply)) => assert_eq!(reply.content, asked.payload.content),
        other => panic!("{other:?}"),
    }
}

/// How a component was loaded that was compiled, although there was this number of entries that were not believed.
fn compiled(refused: u64) -> LoadCounts {
    LoadCounts {
        compiled: 1,
        refused,
        ..LoadCounts::default()
    }
}

/// How a component was loaded that was not compiled.
fn cached() -> LoadCounts {
    LoadCounts {
        cached: 1,
        ..LoadCounts::default()
    }
}
