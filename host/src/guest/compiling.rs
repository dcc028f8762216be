//! How long a compilation may take and how much memory, as far as that can be kept.
//!
//! Cranelift cannot be interrupted and does not say what it will need. So its memory is estimated before it begins, and a
//! compilation that takes too long is given up: it goes on, what it makes is dropped, and no other begins before its end.
//! What compiles has a lower priority than what serves.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use wasmparser::{Parser, Payload};

use super::GuestError;
use crate::plugin::Limit;

/// How much threads that compile make way: others get about nine times as much of a core that both want.
const MAKES_WAY: i32 = 10;

/// Has wasmtime compile on threads that make way for those that handle messages, for a new version is prepared beside the
/// live one and nobody waits for it. They are rayon's global ones, so it is for a program to say, once and before the first
/// component is loaded; `false` if they are there already. Elsewhere than on Linux a priority is not of a thread alone, and
/// they have that of all others.
///
/// # Examples
/// ```
/// let first = sandbar::guest::compile_beside_messages();
/// assert!(first && !sandbar::guest::compile_beside_messages());
/// ```
pub fn compile_beside_messages() -> bool {
    let threads = rayon::ThreadPoolBuilder::new()
        .thread_name(|number| format!("compile-{number}"))
        .start_handler(|_| make_way());
    threads.build_global().is_ok()
}

/// Does it on a thread of its own that makes way as well; one that is used again could not get its priority back.
pub(crate) fn beside<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            make_way();
            work()
        });
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn make_way() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::nice(MAKES_WAY) {
        tracing::debug!(%error, "compiling does not make way for messages");
    }
}

/// The compilations of one engine.
#[derive(Debug, Default)]
pub(super) struct Compilations {
    /// How many go on that were given up.
    given_up: Mutex<u32>,
    changed: Condvar,
}

/// One that somebody waits for.
#[derive(Debug, Clone)]
pub struct Compilation {
    all: Arc<Compilations>,
    /// Looked at while the number of those that were given up is locked.
    state: Arc<Mutex<State>>,
    /// Bytes that it may need.
    memory: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Running,
    GivenUp,
    Ended,
}

/// A compilation that goes on.
#[derive(Debug)]
pub(super) struct Running<'a>(&'a Compilation);

/// What is compiled, as far as it says how much memory that takes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Work {
    /// Bytes of all functions.
    code: u64,
    functions: u64,
    /// Bytes of the largest functions, as many as are compiled at once.
    largest: u64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Compilations {
    /// One that may need so much memory.
    pub(super) fn one(self: &Arc<Self>, memory: u64) -> Compilation {
        Compilation {
            all: self.clone(),
            state: Arc::new(Mutex::new(State::Waiting)),
            memory,
        }
    }
}

impl Compilation {
    /// Nobody waits for it any more.
    pub fn give_up(&self) {
        let mut given_up = lock(&self.all.given_up);
        let mut state = lock(&self.state);
        if *state == State::Running {
            *given_up += 1;
        }
        if *state != State::Ended {
            *state = State::GivenUp;
        }
        drop((state, given_up));
        self.all.changed.notify_all();
    }

    /// Checks what it will take, and waits for the end of those that were given up.
    pub(super) fn begin(&self, bytes: &[u8]) -> Result<Running<'_>, GuestError> {
        let needed = Work::of(bytes)?.memory();
        if needed > self.memory {
            let (needed, most) = (needed >> 20, self.memory >> 20);
            let text = format!(
                "to compile it would take about {needed} MiB of memory and `limits.compile_memory` is {most} MiB; split its largest functions, or raise the limit"
            );
            return Err(GuestError::Limit(Limit::CompileMemory, text));
        }
        let given_up = lock(&self.all.given_up);
        let waits = |given_up: &mut u32| *given_up > 0 && *lock(&self.state) == State::Waiting;
        let waited = self.all.changed.wait_while(given_up, waits);
        let given_up = waited.unwrap_or_else(PoisonError::into_inner);
        let mut state = lock(&self.state);
        if *state == State::GivenUp {
            return Err(GuestError::Load("nobody waits for it any more".to_owned()));
        }
        *state = State::Running;
        drop((state, given_up));
        Ok(Running(self))
    }
}

impl Running<'_> {
    /// Whether somebody still waits for what was made.
    pub(super) fn end(self) -> bool {
        *lock(&self.0.state) != State::GivenUp
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut given_up = lock(&self.0.all.given_up);
        let mut state = lock(&self.0.state);
        if *state == State::GivenUp {
            *given_up = given_up.saturating_sub(1);
        } else {
            *state = State::Ended;
        }
        drop((state, given_up));
        self.0.all.changed.notify_all();
    }
}

impl Work {
    /// What the engine takes whatever it compiles.
    const BASE: u64 = 16 << 20;
    /// What is kept of a function until all are compiled, for each of its bytes and beside them.
    const KEPT: u64 = 50;
    const EACH: u64 = 4 * 1024;
    /// What a function takes while it is compiled, for each of its bytes.
    const AT_ONCE: u64 = 330;

    fn of(bytes: &[u8]) -> Result<Self, GuestError> {
        let at_once = std::thread::available_parallelism().map_or(1, usize::from);
        let mut sizes = Vec::new();
        for payload in Parser::new(0).parse_all(bytes) {
            if let Payload::CodeSectionEntry(body) = payload.map_err(super::inspect::malformed)? {
                sizes.push(body.range().len() as u64);
            }
        }
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        Ok(Self {
            code: sizes.iter().sum(),
            functions: sizes.len() as u64,
            largest: sizes.iter().take(at_once).sum(),
        })
    }

    /// Bytes that it takes to compile it, about.
    fn memory(&self) -> u64 {
        let kept = self.code.saturating_mul(Self::KEPT);
        let each = self.functions.saturating_mul(Self::EACH);
        let at_once = self.largest.saturating_mul(Self::AT_ONCE);
        Self::BASE
            .saturating_add(kept)
            .saturating_add(each)
            .saturating_add(at_once)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn what_is_done_beside_makes_way_and_nothing_else_does() {
        let priority = || rustix::process::getpriority_process(None).unwrap();
        let here = priority();
        assert_eq!(beside(priority), (here + MAKES_WAY).min(19));
        assert_eq!(priority(), here);
    }

    #[test]
    fn none_begins_while_one_goes_on_that_was_given_up() {
        let all = Arc::new(Compilations::default());
        let (first, second) = (all.one(u64::MAX), all.one(u64::MAX));
        let module = b"\0asm\x01\0\0\0";
        let running = first.begin(module).unwrap();
        first.give_up();
        // Told that nobody waits for it, it does not begin either.
        let third = all.one(u64::MAX);
        third.give_up();
        assert!(third.begin(module).is_err());
        let (began, begins) = mpsc::channel();
        let waiting = std::thread::spawn(move || {
            let running = second.begin(module).unwrap();
            began.send(()).unwrap();
            running.end()
        });
        assert!(begins.try_recv().is_err());
        assert!(!running.end(), "what it made is dropped");
        begins.recv().unwrap();
        assert!(waiting.join().unwrap());
    }

    #[test]
    fn large_functions_take_more_than_many_small_ones() {
        let work = |code, functions, largest| Work {
            code,
            functions,
            largest,
        };
        let small = work(8 << 20, 10_000, 1000).memory();
        let large = work(8 << 20, 8, 4 << 20).memory();
        assert!(large > 2 * small, "{large} {small}");
        assert_eq!(work(u64::MAX, 1, u64::MAX).memory(), u64::MAX);
    }
}
