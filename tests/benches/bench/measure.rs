//! Clocks: wall time, processor time, memory. What is read from them is summed up in `stats`.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// The time, for what is measured from outside.
#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Processor time of all threads of this process so far, those included that have ended.
pub(crate) fn cpu() -> Duration {
    clock(ClockId::ProcessCPUTime)
}

fn clock(id: ClockId) -> Duration {
    let time = clock_gettime(id);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Memory of a process that is in RAM, in bytes; 0 when the system does not say.
pub(crate) fn resident(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// Processor time of another process so far, in the ticks of 10 ms that the system counts.
pub(crate) fn cpu_of(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name of the program may contain anything, but it ends with the last parenthesis.
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let fields = rest.split(' ').skip(11).take(2);
    let ticks: u64 = fields.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// Nanoseconds of processor time of this thread that each of `count` calls takes: what others do on the machine counts less
/// than in wall time, and on an idle one it is the same.
pub(crate) fn per_call<T>(count: u32, calls: impl FnOnce() -> T) -> (f64, T) {
    let began = clock(ClockId::ThreadCPUTime);
    let result = calls();
    let took = clock(ClockId::ThreadCPUTime) - began;
    (nanos(took) / f64::from(count), result)
}

/// A time in nanoseconds.
pub(crate) fn nanos(time: Duration) -> f64 {
    time.as_nanos() as f64
}

/// Runs contenders in turn, `rounds` times each, so that what drifts drifts for all of them. Every second round goes
/// backwards.
pub(crate) fn alternate<T, const N: usize>(
    rounds: usize,
    contenders: [&mut dyn FnMut() -> T; N],
) -> [Vec<T>; N] {
    let mut results = std::array::from_fn(|_| Vec::with_capacity(rounds));
    for round in 0..rounds {
        for step in 0..N {
            let index = if round % 2 == 0 { step } else { N - 1 - step };
            results[index].push(contenders[index]());
        }
    }
    results
}
