//! Named places on the path at which a test has this process killed, as `kill -9` does (K2 of docs/reliability.md).
//!
//! They are compiled in with the feature `kill-points`, which only tests turn on; without it they are nothing at all.

/// Ends the process here if the environment says so: `KILL_POINT=NAME:7` the seventh time that this place is passed.
#[cfg(feature = "kill-points")]
pub(crate) fn kill_point(name: &str) {
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::process::{Signal, getpid, kill_process};

    static CHOSEN: LazyLock<Option<(String, AtomicU64)>> = LazyLock::new(|| {
        let chosen = std::env::var("KILL_POINT").ok()?;
        let (name, times) = chosen.split_once(':')?;
        Some((name.to_owned(), AtomicU64::new(times.parse().ok()?)))
    });
    let Some((chosen, left)) = &*CHOSEN else {
        return;
    };
    if chosen == name && left.fetch_sub(1, Ordering::SeqCst) == 1 {
        // Nothing after this runs: the signal is there when the call returns.
        kill_process(getpid(), Signal::KILL).ok();
    }
}

#[cfg(not(feature = "kill-points"))]
#[inline(always)]
pub(crate) fn kill_point(_: &str) {}
