//! From the bytes of a component to a [`Guest`]: checked, then compiled or taken from the cache, linked and probed.
//!
//! Each component is compiled once in a process, however many plugins are made of it; they share its code. It goes with the
//! last of them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::time::Instant;
use wasmtime::component::Component;

use super::binary::Binary;
use super::cache::{Cache, Code, Sought};
use super::compiling::{Compilation, Compilations};
use super::{Engine, Guest, GuestError, inspect, v0_1, wasi};
use crate::plugin::Limit;

/// Imports through which a guest sees time and randomness.
const DRAWING: [&str; 2] = ["sandbar:messaging/system@", "wasi:"];

/// A component that fits a world, ready to be instantiated.
pub(super) struct Loaded {
    pub(super) pre: v0_1::Pre,
    /// Interfaces that it imports.
    pub(super) imports: Vec<String>,
    /// Whether it can ask for the time or for randomness.
    pub(super) draws: bool,
}

/// What an engine has loaded.
#[derive(Default)]
pub(super) struct Shelf {
    cache: Option<Cache>,
    /// By digest. Who loads a component has its place locked, so that the next one finds it.
    places: Mutex<HashMap<Arc<str>, Place>>,
    compilations: Arc<Compilations>,
    counts: Counts,
}

type Place = Arc<Mutex<Weak<Loaded>>>;

#[derive(Default)]
struct Counts {
    compiled: AtomicU64,
    cached: AtomicU64,
    shared: AtomicU64,
    refused: AtomicU64,
}

/// How components were loaded so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadCounts {
    /// Compiled.
    pub compiled: u64,
    /// Taken from the cache.
    pub cached: u64,
    /// Loaded already by another plugin of this process.
    pub shared: u64,
    /// Entries of the cache that were not believed.
    pub refused: u64,
}

impl Shelf {
    pub(super) fn new(cache: Option<Cache>) -> Self {
        Self {
            cache,
            ..Self::default()
        }
    }

    fn place(&self, binary: &Binary) -> Place {
        let mut places = lock(&self.places);
        // Whoever holds a place is about to fill it.
        places.retain(|_, place| Arc::strong_count(place) > 1 || lock(place).strong_count() > 0);
        places.entry(binary.digest().clone()).or_default().clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Engine {
    /// Checks and compiles a component. Takes milliseconds to seconds of processor time: call it where blocking is
    /// allowed.
    ///
    /// # Errors
    /// [`GuestError`] with what was found and what was wanted.
    pub fn load(&self, bytes: &[u8]) -> Result<Guest, GuestError> {
        self.load_binary(&Binary::new(bytes), &self.compilation(u64::MAX))
    }

    /// A compilation that may need so much memory, and that can be given up.
    #[must_use]
    pub fn compilation(&self, memory: u64) -> Compilation {
        self.shelf.compilations.one(memory)
    }

    /// The same of a component whose digest is known, compiled within limits if it has to be.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn load_binary(
        &self,
        binary: &Binary,
        compilation: &Compilation,
    ) -> Result<Guest, GuestError> {
        let place = self.shelf.place(binary);
        let mut place = lock(&place);
        let loaded = match place.upgrade() {
            Some(loaded) => {
                count(&self.shelf.counts.shared);
                loaded
            }
            None => {
                let loaded = Arc::new(self.prepare(binary, compilation)?);
                *place = Arc::downgrade(&loaded);
                loaded
            }
        };
        let engine = self.clone();
        Ok(Guest { engine, loaded })
    }

    /// How components were loaded so far.
    #[must_use]
    pub fn counts(&self) -> LoadCounts {
        let counts = &self.shelf.counts;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        LoadCounts {
            compiled: read(&counts.compiled),
            cached: read(&counts.cached),
            shared: read(&counts.shared),
            refused: read(&counts.refused),
        }
    }

    fn prepare(&self, binary: &Binary, compilation: &Compilation) -> Result<Loaded, GuestError> {
        // What cannot be served is not compiled.
        let imports = inspect::world(binary.bytes())?;
        let component = self.component(binary, compilation)?;
        let kind = component.component_type();
        let needed = kind.imports(&self.engine);
        let needed: Vec<String> = needed.map(|(name, _)| name.to_owned()).collect();
        inspect::check_imports(&needed, &wasi::OFFERED)?;
        let pre = self
            .linker
            .instantiate_pre(&component)
            .map_err(|error| GuestError::Import(format!("it cannot be linked: {error:#}")))?;
        let pre = v0_1::probe(pre, &needed).map_err(|error| {
            GuestError::UnknownWorld(format!("its handler does not fit: {error:#}"))
        })?;
        let draws = |import: &String| DRAWING.iter().any(|name| import.starts_with(name));
        let draws = needed.iter().any(draws);
        Ok(Loaded {
            pre,
            imports,
            draws,
        })
    }

    /// The component from the cache, or compiled and kept there.
    fn component(
        &self,
        binary: &Binary,
        compilation: &Compilation,
    ) -> Result<Component, GuestError> {
        let (began, counts) = (Instant::now(), &self.shelf.counts);
        if let Some(cache) = &self.shelf.cache {
            match cache.find(binary) {
                Sought::Found(code) => match deserialize(&self.engine, &code) {
                    Ok(component) => {
                        count(&counts.cached);
                        tracing::debug!(digest = %binary.digest(), took = ?began.elapsed(), "taken from the cache");
                        return Ok(component);
                    }
                    Err(error) => {
                        count(&counts.refused);
                        cache.misfit(binary, &format!("{error:#}"));
                    }
                },
                Sought::Refused => count(&counts.refused),
                Sought::Nothing => {}
            }
        }
        let running = compilation.begin(binary.bytes())?;
        let component = Component::new(&self.engine, binary.bytes()).map_err(|error| {
            let text = format!("it cannot be compiled: {error:#}");
            match inspect::is_too_many(&text) {
                true => GuestError::Limit(Limit::Instances, text),
                false => GuestError::NotAComponent(text),
            }
        })?;
        count(&counts.compiled);
        if !running.end() {
            tracing::info!(digest = %binary.digest(), took = ?began.elapsed(), "a compilation that was given up has ended");
            return Err(GuestError::Load("nobody waits for it any more".to_owned()));
        }
        tracing::debug!(digest = %binary.digest(), took = ?began.elapsed(), "compiled");
        if let Some(cache) = &self.shelf.cache {
            match component.serialize() {
                Ok(code) => cache.keep(binary, &code),
                Err(error) => tracing::warn!("what was compiled cannot be kept: {error:#}"),
            }
        }
        Ok(component)
    }
}

#[expect(
    unsafe_code,
    reason = "the engine takes the bytes for machine code of its own and cannot check them; a `Code` is made only of bytes \
              that were authenticated, in memory, with a key that only this user can read, and those very bytes are given here"
)]
fn deserialize(engine: &wasmtime::Engine, code: &Code) -> wasmtime::Result<Component> {
    // SAFETY: these are the bytes of `Component::serialize`, as `Cache::keep` sealed them and `Key::open` found them
    // unchanged; nobody else can write to them, since they are not read from the file a second time.
    unsafe { Component::deserialize(engine, code) }
}
