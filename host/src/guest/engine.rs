//! How the engine is set, and the clock of its guests.
//!
//! Each setting is there for speed or for safety, as said beside it; nothing here knows a component.

use std::ops::RangeInclusive;
use std::sync::mpsc;
use std::time::Duration;

use super::GuestError;
use crate::plugin::MOST_TABLE_ELEMENTS;
use crate::store::Report;

/// How often the clock of the guests ticks: the resolution of time limits, and how long a guest runs before others on
/// the same thread get their turn.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// A call on its caller's thread that is still running after so many ticks makes way for what waits behind it.
pub(super) const TICKS: u64 = 2;
/// How much of each memory and table of an ended instance is reset by writing instead of by unmapping.
const KEEP_RESIDENT: usize = 1024 * 1024;
/// Core instances of one component; a component of Python has 38 of them.
pub(super) const MOST_CORE_INSTANCES: usize = 64;
/// Memories of one component.
pub(super) const MOST_MEMORIES: usize = 16;
/// Tables of one component.
pub(super) const MOST_TABLES: usize = 64;
/// Components that run at once.
const MOST_COMPONENTS: usize = 4096;
/// Stack of one call, unless another is configured.
pub const DEFAULT_STACK: usize = 512 * 1024;
/// What it can be. A call without a fiber runs on a thread of the runtime, whose own stack must have a mebibyte more; the
/// binary's threads do.
pub const STACKS: RangeInclusive<usize> = 64 * 1024..=4 * 1024 * 1024;
/// Stack of the host's own functions above that of a guest.
const HOST_STACK: usize = 512 * 1024;

/// The thread that advances the epoch; it ends when this is dropped.
pub(super) struct Ticker {
    _stop: mpsc::Sender<()>,
}

impl Ticker {
    pub(super) fn start(engine: &wasmtime::Engine) -> Result<Self, GuestError> {
        let (stop, stopped) = mpsc::channel::<()>();
        let weak = engine.weak();
        std::thread::Builder::new()
            .name("sandbar-epoch".to_owned())
            .spawn(move || {
                while stopped.recv_timeout(TICK) == Err(mpsc::RecvTimeoutError::Timeout) {
                    match weak.upgrade() {
                        Some(engine) => engine.increment_epoch(),
                        None => return,
                    }
                }
            })
            .map_err(|error| GuestError::Engine(format!("no thread for the clock: {error}")))?;
        Ok(Self { _stop: stop })
    }
}

/// `stack` is that of one call; it is the same for all components of an engine.
pub(super) fn new(stack: usize) -> wasmtime::Result<wasmtime::Engine> {
    let stack = stack.clamp(*STACKS.start(), *STACKS.end());
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    let mut config = wasmtime::Config::new();
    config
        .epoch_interruption(true)
        // Support for component-model async triples the price of a call.
        .concurrency_support(false)
        .max_wasm_stack(stack)
        .async_stack_size(stack + HOST_STACK)
        // Components with line tables say in which line they crashed.
        .wasm_backtrace_details(wasmtime::WasmBacktraceDetails::Enable)
        .wasm_backtrace_max_frames(std::num::NonZeroUsize::new(Report::FRAMES))
        .memory_init_cow(true)
        .wasm_memory64(false)
        .gc_support(false)
        .wasm_gc(false)
        .wasm_exceptions(false)
        .wasm_relaxed_simd(false);
    let mut pool = wasmtime::PoolingAllocationConfig::new();
    pool.total_component_instances(count(MOST_COMPONENTS))
        // They are only counted, not prepared.
        .total_core_instances(count(MOST_COMPONENTS * MOST_CORE_INSTANCES))
        .total_memories(count(MOST_COMPONENTS))
        .total_tables(count(MOST_COMPONENTS * 4))
        .total_stacks(count(MOST_COMPONENTS))
        .max_core_instances_per_component(count(MOST_CORE_INSTANCES))
        .max_memories_per_component(count(MOST_MEMORIES))
        .max_tables_per_component(count(MOST_TABLES))
        .table_elements(MOST_TABLE_ELEMENTS)
        .linear_memory_keep_resident(KEEP_RESIDENT)
        .table_keep_resident(KEEP_RESIDENT)
        // Linux 6.7 and newer says which pages were written, so that only those are reset: a fresh instance in a third
        // of the time, and no interrupts of the other cores.
        .pagemap_scan(wasmtime::Enabled::Auto);
    let mut pooled = config.clone();
    pooled.allocation_strategy(wasmtime::InstanceAllocationStrategy::Pooling(pool));
    // Address space is short in some containers; a single allocation for each instance works everywhere.
    wasmtime::Engine::new(&pooled).or_else(|error| {
        tracing::debug!("no pool of instances: {error:#}");
        wasmtime::Engine::new(&config)
    })
}
