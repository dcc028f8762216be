//! The only door into WebAssembly: an engine, components that were checked and compiled, and instances that handle
//! messages.
//!
//! Worlds are told apart by probing what a component exports, one file under `guest/` for each. A guest that trapped,
//! took too long or wanted too much memory is never used again. Nothing here knows brokers, files or configuration.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::component::Linker;
use wasmtime::{Store, UpdateDeadline};

use self::chance::{Chance, Seed};
use self::crash::{crash, trace, used};
use self::engine::{TICK, TICKS, Ticker};
use self::error::OutOfTime;
use self::meter::{LogBudget, Meter};
use crate::call::Call;
use crate::dispatch::{Kind, Outcome};
use crate::plugin::{Limit, Limits, Readable};
use crate::relief;
use crate::store::Reason;

mod binary;
mod cache;
mod chance;
mod compiling;
mod crash;
mod engine;
mod error;
mod http;
mod inspect;
mod load;
mod log;
mod meter;
mod v0_1;
mod wasi;

pub use binary::{Binary, digest};
pub use cache::{CacheOptions, CacheState, DEFAULT_CACHE_SIZE, look_at_cache};
pub(crate) use compiling::beside;
pub use compiling::{Compilation, compile_beside_messages};
pub use engine::{DEFAULT_STACK, STACKS};
pub use error::GuestError;
pub use inspect::{Inspection, inspect};
pub use load::LoadCounts;

/// Compiles and instantiates components.
#[derive(Clone)]
pub struct Engine {
    engine: wasmtime::Engine,
    linker: Arc<Linker<State>>,
    shelf: Arc<load::Shelf>,
    secret: [u8; 32],
    stack: usize,
    _ticker: Arc<Ticker>,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Engine")
    }
}

/// A component that was compiled and is known to fit a world.
#[derive(Clone)]
pub struct Guest {
    engine: Engine,
    loaded: Arc<load::Loaded>,
}

impl std::fmt::Debug for Guest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Guest")
    }
}

/// A running component; handles one message at a time.
pub struct Instance(Box<Running>);

struct Running {
    store: Store<State>,
    world: v0_1::World,
    /// How many ticks of the clock a call runs before it is looked at.
    ticks: u64,
    /// Whether it can ask for the time or for randomness.
    draws: bool,
    secret: [u8; 32],
}

impl std::fmt::Debug for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Instance")
    }
}

/// What the host itself ends when the time is over, such as a request, is ended before the guest that waits for it, which
/// may then say what it makes of that.
const GRACE: Duration = Duration::from_millis(100);

/// What belongs to one instance.
pub(crate) struct State {
    plugin: Arc<str>,
    config: Arc<Readable>,
    call: Option<Call>,
    /// When the call is over. `None` for one that never suspends and that the clock has not met yet.
    deadline: Option<Instant>,
    limits: Limits,
    stack: usize,
    meter: Meter,
    log: LogBudget,
    chance: Chance,
    wasi: Option<Box<wasi::Wasi>>,
    http: http::Http,
}

/// A route as a guest declares it, not yet checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredRoute {
    /// A topic or pattern, as text.
    pub topic: String,
    /// What it promises.
    pub kind: Kind,
    /// One line for people.
    pub description: String,
    /// JSON Schema of the content, if there is one.
    pub content_schema: Option<String>,
}

/// How an engine is set.
#[derive(Debug, Clone, Default)]
pub struct EngineOptions {
    /// Where compiled components are kept; nowhere if nothing is said.
    pub cache: Option<CacheOptions>,
    /// Stack of one call in bytes, within [`STACKS`]; [`DEFAULT_STACK`] if nothing is said. The threads of the runtime need a
    /// mebibyte more than that.
    pub stack: Option<usize>,
}

impl Engine {
    /// An engine with its clock running, which compiles everything.
    ///
    /// # Errors
    /// When the machine does not support what it needs.
    pub fn new() -> Result<Self, GuestError> {
        Self::with_cache(None)
    }

    /// The same with a place where compiled components are kept.
    ///
    /// # Errors
    /// As [`Self::new`]; a cache that cannot be used is only said.
    pub fn with_cache(cache: Option<CacheOptions>) -> Result<Self, GuestError> {
        Self::with(EngineOptions {
            cache,
            ..EngineOptions::default()
        })
    }

    /// The same, set as these options say.
    ///
    /// # Errors
    /// As [`Self::with_cache`].
    pub fn with(EngineOptions { cache, stack }: EngineOptions) -> Result<Self, GuestError> {
        let failed = |error: wasmtime::Error| GuestError::Engine(format!("{error:#}"));
        let stack = stack.unwrap_or(DEFAULT_STACK);
        let engine = engine::new(stack).map_err(failed)?;
        let mut linker = Linker::new(&engine);
        v0_1::link(&mut linker).map_err(failed)?;
        wasi::link(&mut linker).map_err(failed)?;
        http::link(&mut linker).map_err(failed)?;
        let ticker = Ticker::start(&engine)?;
        let cache = cache.map(|options| cache::Cache::new(options, &engine));
        Ok(Self {
            engine,
            shelf: Arc::new(load::Shelf::new(cache)),
            linker: Arc::new(linker),
            secret: rand::random(),
            stack,
            _ticker: Arc::new(ticker),
        })
    }
}

impl Guest {
    /// Interfaces that it imports.
    #[must_use]
    pub fn imports(&self) -> &[String] {
        &self.loaded.imports
    }

    /// A fresh instance for a plugin.
    ///
    /// # Errors
    /// When its start function traps, takes too long or wants too much memory.
    pub async fn instantiate(
        &self,
        plugin: &Arc<str>,
        config: &Arc<Readable>,
        limits: &Limits,
    ) -> Result<Instance, GuestError> {
        let state = State {
            plugin: plugin.clone(),
            config: config.clone(),
            call: None,
            deadline: Some(Instant::now() + limits.load_time),
            limits: limits.clone(),
            stack: self.engine.stack,
            meter: Meter::new(limits),
            log: LogBudget::new(limits),
            chance: Chance::default(),
            wasi: None,
            http: http::Http::default(),
        };
        let mut store = Store::new(&self.engine.engine, state);
        store.limiter(|state| &mut state.meter);
        // For each call to the host anew, so that there is nothing to do between them.
        store.set_hostcall_fuel(limits.hostcall_fuel);
        store.set_max_component_handles(limits.resources);
        let suspends = self.loaded.pre.suspends();
        store.epoch_deadline_callback(move |mut context| {
            context.data_mut().check_time()?;
            if suspends {
                return Ok(UpdateDeadline::Yield(1));
            }
            relief::ask();
            Ok(UpdateDeadline::Continue(1))
        });
        let ticks = if suspends { 1 } else { TICKS };
        store.set_epoch_deadline(ticks);
        match v0_1::World::instantiate(&self.loaded.pre, &mut store).await {
            Ok(world) => Ok(Instance(Box::new(Running {
                store,
                world,
                ticks,
                draws: self.loaded.draws,
                secret: self.engine.secret,
            }))),
            Err(error) => Err(error::failed(
                "it cannot be started",
                crash(&error, store.data()),
            )),
        }
    }
}

impl Instance {
    /// Asks the guest for its routes.
    ///
    /// # Errors
    /// When it traps, takes too long or wants too much memory.
    pub async fn routes(&mut self) -> Result<Vec<DeclaredRoute>, GuestError> {
        let Running {
            store,
            world,
            ticks,
            ..
        } = &mut *self.0;
        let state = store.data_mut();
        state.deadline = Some(Instant::now() + state.limits.load_time);
        store.set_epoch_deadline(*ticks);
        let result = world.routes(&mut *store).await;
        store.data_mut().flush_output();
        result.map_err(|error| {
            error::failed("it did not declare its routes", crash(&error, store.data()))
        })
    }

    /// Handles one message. The instance comes back only if it may be used again.
    pub async fn handle(mut self, call: Call) -> (Call, Outcome, Option<Self>) {
        let (message, attempt, route) = (call.message.clone(), call.attempt, call.route);
        let Running {
            store,
            world,
            ticks,
            draws,
            secret,
        } = &mut *self.0;
        let state = store.data_mut();
        let budget = state.limits.time;
        // Reading the clock costs as much as a tenth of a call.
        state.deadline = world.suspends().then(|| Instant::now() + budget);
        state.log = LogBudget::new(&state.limits);
        let seed = draws.then(|| match call.replayed_seed() {
            Some(seed) => Seed::Again(seed),
            None => Seed::Call {
                secret: *secret,
                message: message.identifier,
                attempt,
                route,
            },
        });
        if let Some(seed) = seed {
            state.chance.begin(call.began_ms, seed);
        }
        // A guest that was refused memory before and made do with less is not to blame for it now.
        state.meter.forgive();
        state.call = Some(call);
        store.set_epoch_deadline(*ticks);
        let circumstances = v0_1::Circumstances {
            attempt,
            route,
            budget,
        };
        let result = world.handle(store, &message, circumstances).await;
        let state = store.data_mut();
        state.flush_output();
        let ended = match &result {
            Ok(Outcome::Done(_)) => None,
            Ok(_) => Some((Vec::new(), used(state))),
            Err(error) => Some((trace(error), used(state))),
        };
        let crashed = result.as_ref().err().map(|error| crash(error, state));
        #[expect(
            clippy::expect_used,
            reason = "nothing takes a call out of its instance but this"
        )]
        let mut call = state.call.take().expect("the call that was put in");
        // What it waited for was broken off when its time was over, so it may have come to an end by itself.
        let late = call.end_http();
        // Also where the guest made do with less.
        for (denied, limit) in [
            (state.meter.denied, Limit::Memory),
            (state.meter.tables_denied, Limit::TableElements),
        ] {
            if denied.is_some() {
                call.hit(limit);
            }
        }
        if let Some(limit) = crashed.as_ref().and_then(|crash| crash.limit) {
            call.hit(limit);
        }
        if let Some((trace, used)) = ended {
            call.ended(trace, used, seed.map(Seed::bytes));
        }
        match (result, crashed) {
            (Ok(outcome), _) if late && !matches!(outcome, Outcome::Done(_)) => {
                call.hit(Limit::Time);
                let over = OutOfTime {
                    limit: Limit::Time,
                    time: budget,
                };
                let (reason, error) = (Reason::Timeout, over.to_string());
                (call, Outcome::Crashed { reason, error }, Some(self))
            }
            (Ok(mut outcome), _) => {
                if let Some(text) = outcome.text_mut() {
                    store.data().config.secrets.redact_text(text);
                }
                (call, outcome, Some(self))
            }
            (Err(_), crashed) => {
                let (reason, error) = match crashed {
                    Some(crash) => (crash.reason, crash.text),
                    None => (Reason::Trap, String::new()),
                };
                (call, Outcome::Crashed { reason, error }, None)
            }
        }
    }
}

impl State {
    /// An error when the time of the call is over; asked at ticks of the clock.
    fn check_time(&mut self) -> Result<(), OutOfTime> {
        let (now, over) = (Instant::now(), self.out_of_time());
        // The clock meets such a call for the first time after more than one and at most two ticks.
        let met = || now + over.time.saturating_sub(TICK * 3 / 2);
        if now >= *self.deadline.get_or_insert_with(met) {
            return Err(over);
        }
        Ok(())
    }

    fn out_of_time(&self) -> OutOfTime {
        let (limit, time) = match &self.call {
            Some(_) => (Limit::Time, self.limits.time),
            None => (Limit::LoadTime, self.limits.load_time),
        };
        OutOfTime { limit, time }
    }

    /// When what may wait is broken off.
    fn ends(&self) -> Ends {
        Ends {
            at: self.deadline.map(|deadline| deadline + GRACE),
            over: self.out_of_time(),
        }
    }
}

/// The end of something that may wait. The ticks of the clock meet only guests that run: one that waits for what nobody
/// ends, such as a clock, is broken off from outside, and its instance with it.
struct Ends {
    at: Option<Instant>,
    over: OutOfTime,
}

impl Ends {
    async fn of<T>(
        self,
        waiting: impl Future<Output = wasmtime::Result<T>>,
    ) -> wasmtime::Result<T> {
        let Some(at) = self.at else {
            return waiting.await;
        };
        let ended = tokio::time::timeout_at(at, waiting).await;
        ended.unwrap_or_else(|_| Err(self.over.into()))
    }
}
