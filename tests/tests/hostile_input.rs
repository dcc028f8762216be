//! F1: input that somebody made up, and real input with a few things changed: nothing panics, hangs, or takes memory without
//! end, and what is accepted means something.
//!
//! `SANDBAR_TEST_FUZZ_CASES=100000` makes it long, `SANDBAR_TEST_FUZZ_SEED` repeats it. What fails is made as small as it goes
//! and printed. Components are not here: they are tried where they are loaded.

use std::fmt::Debug;
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseResult, TestRng, TestRunner};
use sandbar_tests::settings::{chosen, seed};

#[path = "hostile_input/addresses.rs"]
mod addresses;
#[path = "hostile_input/configuration.rs"]
mod configuration;
#[path = "hostile_input/socket.rs"]
mod socket;
#[path = "hostile_input/text.rs"]
mod text;
#[path = "hostile_input/wire.rs"]
mod wire;

/// No input takes as long as this.
const HANGS: Duration = Duration::from_secs(60);
/// So much more memory than before is without end, for inputs of at most 64 KiB.
const TOO_MUCH_KIB: u64 = 512 << 10;

const SEED: &str = "SANDBAR_TEST_FUZZ_SEED";
const CASES: &str = "SANDBAR_TEST_FUZZ_CASES";

/// Tries a property with many inputs; `usual` is how many of them.
fn check<S: Strategy>(
    what: &str,
    usual: u32,
    inputs: &S,
    property: impl Fn(S::Value) -> TestCaseResult,
) where
    S::Value: Clone + Debug + Send + 'static,
{
    let mut runner = runner(usual);
    let before = peak_kib("self");
    let watched = watch(what);
    let outcome = runner.run(inputs, |input| {
        watched.send(Some(input.clone())).unwrap();
        let result = property(input);
        watched.send(None).unwrap();
        result
    });
    if let Err(error) = outcome {
        panic!("{what}: {error}");
    }
    let grown = peak_kib("self").saturating_sub(before);
    assert!(grown < TOO_MUCH_KIB, "{what} took {grown} KiB");
}

/// Draws the inputs of a test, the same ones for a seed.
fn runner(usual: u32) -> TestRunner {
    let config = Config {
        cases: chosen(CASES, usual),
        failure_persistence: None,
        ..Config::default()
    };
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed(SEED).to_le_bytes());
    TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
}

/// Ends the process with an input that hangs: nothing else gets out of one.
fn watch<T: Debug + Send + 'static>(what: &str) -> SyncSender<Option<T>> {
    let (sender, inputs) = sync_channel(0);
    let what = what.to_owned();
    std::thread::spawn(move || {
        let mut at = None;
        loop {
            match inputs.recv_timeout(HANGS) {
                Ok(next) => at = next,
                Err(RecvTimeoutError::Timeout) if at.is_some() => {
                    eprintln!("{what} hangs with {at:?}");
                    std::process::abort();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    });
    sender
}

/// The most memory that a process ever had.
fn peak_kib(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.unwrap().trim().trim_end_matches(" kB");
    peak.parse().unwrap()
}

/// One change of an input. Places are taken modulo its length.
#[derive(Debug, Clone)]
enum Change {
    Flip(usize, u8),
    Set(usize, u8),
    Cut(usize),
    Remove(usize, usize),
    Repeat(usize, usize, usize),
    Insert(usize, Vec<u8>),
    /// From there on as another input.
    Splice(usize, usize, usize),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>, others: &[Vec<u8>]) {
        let place = |place: usize| place % (to.len() + 1);
        match self {
            Self::Flip(at, bit) => {
                let at = place(*at);
                if let Some(byte) = to.get_mut(at) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            Self::Set(at, value) => {
                let at = place(*at);
                if let Some(byte) = to.get_mut(at) {
                    *byte = *value;
                }
            }
            Self::Cut(at) => to.truncate(place(*at)),
            Self::Remove(at, count) => {
                let at = place(*at);
                let end = (at + count % 16).min(to.len());
                to.drain(at..end);
            }
            Self::Repeat(at, count, times) => {
                let at = place(*at);
                let end = (at + count % 64).min(to.len());
                let piece = to[at..end].repeat(times % 256);
                to.splice(at..at, piece);
            }
            Self::Insert(at, bytes) => {
                let at = place(*at);
                to.splice(at..at, bytes.iter().copied());
            }
            Self::Splice(at, other, from) => {
                to.truncate(place(*at));
                if let Some(other) = others.get(other % others.len().max(1)) {
                    to.extend(&other[from % (other.len() + 1)..]);
                }
            }
        }
    }
}

fn change() -> impl Strategy<Value = Change> {
    let at = any::<usize>();
    // What has a meaning in text, lengths and numbers.
    let telling = prop::sample::select(
        &b"\0\x01\x7f\x80\xff\xfe 0123456789.,:;*>#-_/\\\"'[]{}=\n\r\teE+\xc3\xa4"[..],
    );
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..12),
        prop::collection::vec(telling.clone(), 1..12),
        Just(vec![0xff; 9]),
        Just(b"99999999999999999999".to_vec()),
        Just("\u{202e}\u{1f600}\u{0}".as_bytes().to_vec()),
    ];
    prop_oneof![
        (at, any::<u8>()).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (at, any::<u8>()).prop_map(|(at, value)| Change::Set(at, value)),
        (at, telling).prop_map(|(at, value)| Change::Set(at, value)),
        at.prop_map(Change::Cut),
        (at, at).prop_map(|(at, count)| Change::Remove(at, count)),
        (at, at, at).prop_map(|(at, count, times)| Change::Repeat(at, count, times)),
        (at, bytes).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        (at, at, at).prop_map(|(at, other, from)| Change::Splice(at, other, from)),
    ]
}

/// Real inputs with a few changes, and some that are nothing but noise; none is longer than 64 KiB.
fn changed(real: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    assert!(!real.is_empty());
    let noise = prop::collection::vec(any::<u8>(), 0..200);
    let changes = prop::collection::vec(change(), 0..6);
    let changed = (any::<prop::sample::Index>(), changes).prop_map(move |(index, changes)| {
        let mut input = index.get(&real).clone();
        for change in &changes {
            change.apply(&mut input, &real);
            input.truncate(64 << 10);
        }
        input
    });
    prop_oneof![1 => noise, 9 => changed]
}

/// The same as text; what is none is replaced.
fn changed_text(real: &[&str]) -> impl Strategy<Value = String> + use<> {
    let real = real.iter().map(|text| text.as_bytes().to_vec());
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    changed(real.collect()).prop_map(text)
}
