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
use self::meter::{LogBudget, Meter};
use crate::call::Call;
use crate::dispatch::{Kind, Outcome};
use crate::plugin::{Limits, Readable};
use crate::relief;
use crate::store::Reason;

mod binary;
mod cache;
mod chance;
mod crash;
mod engine;
mod http;
mod inspect;
mod load;
mod meter;
mod v0_1;
mod wasi;

pub use binary::{Binary, digest};
pub use cache::{CacheOptions, CacheState, DEFAULT_CACHE_SIZE, look_at_cache};
pub use inspect::{Inspection, inspect};
pub use load::LoadCounts;

/// Compiles and instantiates components.
#[derive(Clone)]
pub struct Engine {
    engine: wasmtime::Engine,
    linker: Arc<Linker<State>>,
    shelf: Arc<load::Shelf>,
    secret: [u8; 32],
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

/// What belongs to one instance.
pub(crate) struct State {
    plugin: Arc<str>,
    config: Arc<Readable>,
    call: Option<Call>,
    /// When the call is over. `None` for one that never suspends and that the clock has not met yet.
    deadline: Option<Instant>,
    limits: Limits,
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

/// Why a component cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GuestError {
    /// It is no component.
    #[error("{0}")]
    NotAComponent(String),
    /// It is a component of no world that this host knows.
    #[error("{0}")]
    UnknownWorld(String),
    /// It imports what this host does not offer.
    #[error("{0}")]
    Import(String),
    /// It failed while it was loaded.
    #[error("{0}")]
    Load(String),
    /// The machine does not allow it.
    #[error("{0}")]
    Engine(String),
}

/// The guest ran out of time. Raised inside the call, found again in its error.
#[derive(Debug, thiserror::Error)]
#[error("the call took longer than {0:?}")]
struct OutOfTime(Duration);

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
        let failed = |error: wasmtime::Error| GuestError::Engine(format!("{error:#}"));
        let engine = engine::new().map_err(failed)?;
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
            meter: Meter::new(limits.memory),
            log: LogBudget {
                lines: limits.log_lines,
                bytes: limits.log_bytes,
            },
            chance: Chance::default(),
            wasi: None,
            http: http::Http::default(),
        };
        let mut store = Store::new(&self.engine.engine, state);
        store.limiter(|state| &mut state.meter);
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
            Err(error) => {
                let (_, text) = crash(&error, store.data());
                Err(GuestError::Load(format!("it cannot be started: {text}")))
            }
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
            let (_, text) = crash(&error, store.data());
            GuestError::Load(format!("it did not declare its routes: {text}"))
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
        state.log = LogBudget {
            lines: state.limits.log_lines,
            bytes: state.limits.log_bytes,
        };
        let seed = match call.replayed_seed() {
            Some(seed) => Seed::Again(seed),
            None => Seed::Call {
                secret: *secret,
                message: message.identifier,
                attempt,
                route,
            },
        };
        if *draws {
            state.chance.begin(call.began_ms, seed);
        }
        // A guest that was refused memory before and made do with less is not to blame for it now.
        state.meter.denied = None;
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
        if let Some((trace, used)) = ended {
            call.ended(trace, used, draws.then(|| seed.bytes()));
        }
        match (result, crashed) {
            (Ok(outcome), _) if late && !matches!(outcome, Outcome::Done(_)) => {
                let (reason, error) = (Reason::Timeout, OutOfTime(budget).to_string());
                (call, Outcome::Crashed { reason, error }, Some(self))
            }
            (Ok(mut outcome), _) => {
                if let Some(text) = outcome.text_mut() {
                    store.data().config.secrets.redact_text(text);
                }
                (call, outcome, Some(self))
            }
            (Err(_), crashed) => {
                let (reason, error) = crashed.unwrap_or((Reason::Trap, String::new()));
                (call, Outcome::Crashed { reason, error }, None)
            }
        }
    }
}

impl State {
    /// An error when the time of the call is over; asked at ticks of the clock.
    fn check_time(&mut self) -> Result<(), OutOfTime> {
        let now = Instant::now();
        let limit = match &self.call {
            Some(_) => self.limits.time,
            None => self.limits.load_time,
        };
        // The clock meets such a call for the first time after more than one and at most two ticks.
        let met = || now + limit.saturating_sub(TICK * 3 / 2);
        if now >= *self.deadline.get_or_insert_with(met) {
            return Err(OutOfTime(limit));
        }
        Ok(())
    }

    /// One line of the guest for the log of the host.
    fn log_line(&mut self, level: tracing::Level, text: &str, fields: &[(String, String)]) {
        let size = text.len()
            + fields
                .iter()
                .map(|(name, value)| name.len() + value.len())
                .sum::<usize>();
        let plugin = &*self.plugin;
        let message = self.call.as_ref().map(|call| call.message.identifier);
        let message_id = message.map(tracing::field::display);
        match self.log.take(size) {
            None => return,
            Some(false) => {
                tracing::warn!(
                    plugin,
                    message_id,
                    "its log is cut here; raise `limits.log_lines` or `limits.log_bytes`"
                );
                return;
            }
            Some(true) => {}
        }
        let mut line = meter::printable(text, 8192);
        for (name, value) in fields {
            line.push_str(&format!(
                " {}={}",
                meter::printable(name, 64),
                meter::printable(value, 1024)
            ));
        }
        self.config.secrets.redact_text(&mut line);
        if let Some(call) = &mut self.call {
            let level = level.as_str().to_ascii_lowercase();
            call.logged(format!("{level}: {line}"));
        }
        let plugin = &*self.plugin;
        match level {
            tracing::Level::ERROR => tracing::error!(plugin, message_id, "{line}"),
            tracing::Level::WARN => tracing::warn!(plugin, message_id, "{line}"),
            tracing::Level::INFO => tracing::info!(plugin, message_id, "{line}"),
            tracing::Level::DEBUG => tracing::debug!(plugin, message_id, "{line}"),
            tracing::Level::TRACE => tracing::trace!(plugin, message_id, "{line}"),
        }
    }

    /// What was printed becomes lines of the log.
    fn flush_output(&mut self) {
        let Some(output) = self.wasi.as_ref().map(|wasi| wasi.take_output()) else {
            return;
        };
        for line in String::from_utf8_lossy(&output)
            .lines()
            .filter(|line| !line.trim().is_empty())
        {
            self.log_line(tracing::Level::INFO, line, &[]);
        }
    }
}
