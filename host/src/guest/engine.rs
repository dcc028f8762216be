//! How the engine is set, and the clock of its guests.
//!
//! Each setting is there for speed or for safety, as said beside it; nothing here knows a component.

use std::sync::mpsc;
use std::time::Duration;

use super::GuestError;
use crate::store::Report;

/// How often the clock of the guests ticks: the resolution of time limits, and how long a guest runs before others on
/// the same thread get their turn.
pub(super) const TICK: Duration = Duration::from_millis(10);
/// A call on its caller's thread that is still running after so many ticks makes way for what waits behind it.
pub(super) const TICKS: u64 = 2;
/// How much of each memory and table of an ended instance is reset by writing instead of by unmapping.
const KEEP_RESIDENT: usize = 1024 * 1024;
/// Core instances of one component.
const MOST_CORE_INSTANCES: u32 = 64;
/// Stack of one call.
const STACK: usize = 512 * 1024;

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

pub(super) fn new() -> wasmtime::Result<wasmtime::Engine> {
    let mut config = wasmtime::Config::new();
    config
        .epoch_interruption(true)
        // Support for component-model async triples the price of a call.
        .concurrency_support(false)
        .max_wasm_stack(STACK)
        .async_stack_size(STACK + 512 * 1024)
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
    pool.total_component_instances(4096)
        // A component of Python has 38 of them; they are only counted, not prepared.
        .total_core_instances(4096 * MOST_CORE_INSTANCES)
        .total_memories(4096)
        .total_tables(16_384)
        .total_stacks(4096)
        .max_core_instances_per_component(MOST_CORE_INSTANCES)
        .max_memories_per_component(16)
        .max_tables_per_component(64)
        .table_elements(100_000)
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
