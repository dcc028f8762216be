//! The one place that reads the clocks of the system.
//!
//! Everything else gets the time passed in, so that it can be tested with a time of its own.

use std::sync::LazyLock;
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Goes on while the machine sleeps, and nobody sets it.
#[cfg(target_os = "linux")]
const STEADY: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const STEADY: ClockId = ClockId::Monotonic;

/// Milliseconds since 1970-01-01 UTC.
#[must_use]
#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the wall clock"
)]
pub fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .ok()
        .and_then(|age| i64::try_from(age.as_millis()).ok())
        .unwrap_or(0)
}

/// Milliseconds since 1970-01-01 UTC as they were known when this process began to ask, plus what has passed since. A
/// clock on the wall that is set changes nothing, so that what is due in a minute is due in a minute.
#[must_use]
pub fn steady_ms() -> i64 {
    static BEGAN: LazyLock<(i64, i64)> = LazyLock::new(|| (now_ms(), passed_ms()));
    let (wall, began) = *BEGAN;
    wall.saturating_add(passed_ms().saturating_sub(began))
}

/// The earlier of both, for whoever removes something because of its age: a clock that is wrong for a moment removes
/// nothing.
#[must_use]
pub fn earliest_ms() -> i64 {
    now_ms().min(steady_ms())
}

fn passed_ms() -> i64 {
    let time = clock_gettime(STEADY);
    time.tv_sec
        .saturating_mul(1000)
        .saturating_add(time.tv_nsec / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_tell_the_same_unless_one_is_set() {
        let before = steady_ms();
        assert!((now_ms() - before).abs() < 60_000);
        assert!(steady_ms() >= before);
        assert!(earliest_ms() <= now_ms());
    }
}
