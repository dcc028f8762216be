//! What a trap says: which limit was broken, and where the guest was.
//!
//! Words and places only. Function names come from the component itself and are treated as what a stranger wrote.

use rustc_demangle::demangle;
use tokio::time::Instant;
use wasmtime::component::ResourceTableError;
use wasmtime::{FrameInfo, FrameSymbol, Trap, WasmBacktrace};

use super::engine::{TICK, TICKS};
use super::error::{OutOfTime, TooRandom};
use super::{State, inspect, meter};
use crate::plugin::Limit;
use crate::store::{Frame, Reason, Report, Used};

/// Functions that the one line of the error names.
const NAMED: usize = 5;
/// What the functions of runtimes and SDKs begin with: the trace has them, the one line is about the handler.
const MACHINERY: [&str; 7] = [
    "__rust",
    "abort",
    "alloc::",
    "core::",
    "dlmalloc::",
    "sandbar",
    "std::",
];

/// What a trap was.
#[derive(Debug)]
pub(super) struct Crash {
    pub(super) reason: Reason,
    pub(super) text: String,
    /// The limit that was hit, if it was that.
    pub(super) limit: Option<Limit>,
}

/// Which limit a guest broke, and how to say it.
pub(super) fn crash(error: &wasmtime::Error, state: &State) -> Crash {
    let limits = &state.limits;
    let of = |limit: Limit, reason: Reason, text: String| Crash {
        reason,
        text,
        limit: Some(limit),
    };
    if let Some(out_of_time) = error.downcast_ref::<OutOfTime>() {
        return of(out_of_time.limit, Reason::Timeout, out_of_time.to_string());
    }
    let trap = error.downcast_ref::<Trap>();
    if trap == Some(&Trap::StackOverflow) {
        let stack = state.stack;
        let text = format!("call stack exhausted, `engine.stack` is {stack}");
        return of(Limit::Stack, Reason::Limit, located(text, error));
    }
    let mut text = meter::printable(&error.root_cause().to_string(), 400);
    // Errors of the engine that have no type of their own; `limits.rs` of the tests hits each of them.
    if text.contains("fuel allocated for hostcalls") {
        let fuel = limits.hostcall_fuel;
        let text = format!(
            "it handed over more than {fuel} bytes at once, which is its `limits.hostcall_fuel`"
        );
        return of(Limit::HostcallFuel, Reason::Limit, located(text, error));
    }
    let full = matches!(error.downcast_ref(), Some(ResourceTableError::Full));
    if full || text.contains("store handle limit exceeded") {
        let resources = limits.resources;
        let text = format!("it wanted more handles and `limits.resources` is {resources}");
        return of(Limit::Resources, Reason::Limit, located(text, error));
    }
    if let Some(most) = error.downcast_ref::<TooRandom>() {
        return of(Limit::Random, Reason::Limit, most.to_string());
    }
    if let Some(asked) = state.meter.denied {
        let memory = state.meter.memory;
        let text = format!("it wanted {asked} bytes of memory and `limits.memory` is {memory}");
        return of(Limit::Memory, Reason::Memory, text);
    }
    if let Some(asked) = state.meter.tables_denied {
        let most = state.meter.tables;
        let text =
            format!("it wanted {asked} elements of tables and `limits.table_elements` is {most}");
        return of(Limit::TableElements, Reason::Limit, text);
    }
    if let Some(trap) = trap {
        text = trap.to_string();
    }
    let limit = inspect::is_too_many(&text).then_some(Limit::Instances);
    Crash {
        reason: Reason::Trap,
        text: located(text, error),
        limit,
    }
}

/// With the names of the handler's functions that had not returned.
fn located(mut text: String, error: &wasmtime::Error) -> String {
    if let Some(trace) = error.downcast_ref::<WasmBacktrace>() {
        let names = trace.frames().iter().filter_map(FrameInfo::func_name);
        let names = names.map(readable);
        let own = |name: &String| !MACHINERY.iter().any(|other| name.starts_with(other));
        let names: Vec<String> = names
            .filter(own)
            .take(NAMED)
            .map(|name| meter::printable(&name, 80))
            .collect();
        if !names.is_empty() {
            text = format!("{text}, in {}", names.join(" < "));
        }
    }
    text
}

/// Where the guest was, the innermost function first.
pub(super) fn trace(error: &wasmtime::Error) -> Vec<Frame> {
    let Some(trace) = error.downcast_ref::<WasmBacktrace>() else {
        return Vec::new();
    };
    let frames = trace.frames().iter().flat_map(frames);
    frames.take(Report::FRAMES).collect()
}

/// One frame of the engine stands for a function and those that were inlined into it.
fn frames(info: &FrameInfo) -> Vec<Frame> {
    let name = || match info.func_name() {
        Some(name) => readable(name),
        None => format!("function {}", info.func_index()),
    };
    if info.symbols().is_empty() {
        return vec![Frame {
            function: name(),
            source: None,
        }];
    }
    let symbols = info.symbols().iter().map(|symbol| Frame {
        function: symbol.name().map_or_else(name, readable),
        source: source(symbol),
    });
    symbols.collect()
}

fn source(symbol: &FrameSymbol) -> Option<String> {
    let mut place = symbol.file()?.to_owned();
    for number in [symbol.line(), symbol.column()].into_iter().flatten() {
        place.push_str(&format!(":{number}"));
    }
    Some(place)
}

/// A name as its author wrote it, without the compiler's hash.
fn readable(name: &str) -> String {
    format!("{:#}", demangle(name))
}

/// What a call had used of the limits of its instance.
pub(super) fn used(state: &State) -> Vec<Used> {
    let limits = &state.limits;
    let millis = |time: std::time::Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    // The clock looks at a call after two ticks for the first time; it has taken less until then.
    let time = match state.deadline {
        Some(end) => limits
            .time
            .saturating_sub(end.saturating_duration_since(Instant::now())),
        None => TICK.saturating_mul(u32::try_from(TICKS).unwrap_or(1)),
    };
    let memory = state.meter.denied.unwrap_or(state.meter.used);
    let lines = limits.log_lines.saturating_sub(state.log.lines);
    vec![
        Used::new("time", millis(time), millis(limits.time)),
        Used::new("memory", memory as u64, limits.memory as u64),
        Used::new("log_lines", lines.into(), limits.log_lines.into()),
    ]
}
