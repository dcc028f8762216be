//! What a trap says: which limit was broken, and where the guest was.
//!
//! Words and places only. Function names come from the component itself and are treated as what a stranger wrote.

use rustc_demangle::demangle;
use tokio::time::Instant;
use wasmtime::{FrameInfo, FrameSymbol, Trap, WasmBacktrace};

use super::engine::{TICK, TICKS};
use super::{OutOfTime, State, meter};
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

/// Which limit a guest broke, and how to say it.
pub(super) fn crash(error: &wasmtime::Error, state: &State) -> (Reason, String) {
    if let Some(out_of_time) = error.downcast_ref::<OutOfTime>() {
        return (Reason::Timeout, out_of_time.to_string());
    }
    if let Some(asked) = state.meter.denied {
        let text = format!(
            "it wanted {asked} bytes of memory and `limits.memory` is {}",
            state.meter.memory
        );
        return (Reason::Memory, text);
    }
    let trap = error.downcast_ref::<Trap>().map(ToString::to_string);
    let mut text = trap.unwrap_or_else(|| meter::printable(&error.root_cause().to_string(), 400));
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
    (Reason::Trap, text)
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
