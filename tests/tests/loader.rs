//! F1, the loader: files that nobody would write, most of them almost components. Each is loaded or refused with words; none
//! makes the host panic, hang or take memory without end.
//!
//! `SANDBAR_TEST_LOADER_INPUTS` makes it long, `SANDBAR_TEST_LOADER_SEED` repeats a run.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use arbitrary::Unstructured;
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use sandbar::guest::{Engine, GuestError, inspect};
use sandbar::plugin::Limits;
use sandbar_tests::contract::Outcome;
use sandbar_tests::guests::guest;
use sandbar_tests::raw::{Raw, leb};
use sandbar_tests::settings::{chosen, seed};
use tokio::time::Instant;

use wasm_smith::{Component, Config, Module};

/// What a component begins with.
const HEADER: [u8; 8] = *b"\0asm\x0d\0\x01\0";
/// The most memory that all of it may take together, in KiB.
const MOST_KIB: u64 = 2 << 20;

/// Makes one file after the other.
struct Files {
    random: StdRng,
    /// Small, so that most of the time goes into what is broken.
    small: Vec<u8>,
    real: Vec<Vec<u8>>,
}

impl Files {
    fn new(seed: u64) -> Result<Self, std::io::Error> {
        let real = ["echo", "stock"].map(|name| std::fs::read(guest(name)));
        Ok(Self {
            random: StdRng::seed_from_u64(seed),
            small: Raw::default().component(),
            real: real.into_iter().collect::<Result<_, _>>()?,
        })
    }

    fn next(&mut self) -> (&'static str, Vec<u8>) {
        match self.random.random_range(0..20) {
            0 => ("noise", self.noise()),
            1..4 => ("smith", self.smith()),
            4..6 => ("smith within a plugin", self.within()),
            6..8 => {
                let which = self.random.random_range(0..self.real.len());
                let bytes = self.real.get(which).cloned().unwrap_or_default();
                ("mutated plugin", self.mutated(bytes))
            }
            _ => {
                let bytes = self.small.clone();
                ("mutated raw component", self.mutated(bytes))
            }
        }
    }

    fn bytes(&mut self, most: usize) -> Vec<u8> {
        let mut bytes = vec![0; self.random.random_range(1..most)];
        self.random.fill_bytes(&mut bytes);
        bytes
    }

    fn noise(&mut self) -> Vec<u8> {
        let mut file = HEADER.to_vec();
        file.extend(self.bytes(600));
        file
    }

    fn smith(&mut self) -> Vec<u8> {
        let bytes = self.bytes(4_000);
        let component = Component::new(Config::default(), &mut Unstructured::new(&bytes));
        component.map_or(bytes, |component| component.to_bytes())
    }

    /// A plugin that brings a module beside its own, which is compiled with it.
    fn within(&mut self) -> Vec<u8> {
        let bytes = self.bytes(4_000);
        let mut file = self.small.clone();
        // Of what the engine takes, so that it is compiled, and without imports, so that nobody needs to instantiate it.
        let config = Config {
            exceptions_enabled: false,
            gc_enabled: false,
            memory64_enabled: false,
            relaxed_simd_enabled: false,
            tail_call_enabled: false,
            threads_enabled: false,
            wide_arithmetic_enabled: false,
            max_imports: 0,
            ..Config::default()
        };
        if let Ok(module) = Module::new(config, &mut Unstructured::new(&bytes)) {
            let module = module.to_bytes();
            file.push(1);
            leb(module.len(), &mut file);
            file.extend(module);
        }
        file
    }

    fn mutated(&mut self, mut file: Vec<u8>) -> Vec<u8> {
        for _ in 0..self.random.random_range(1..=6) {
            if file.len() < 16 {
                break;
            }
            // What is before is the header, which is looked at first.
            let at = self.random.random_range(8..file.len());
            let to = (at + self.random.random_range(1..40)).min(file.len());
            match self.random.random_range(0..9) {
                0..3 => file[at] ^= 1 << self.random.random_range(0..8),
                3 => file[at] = self.random.random(),
                // The longest number, and one that is too long.
                4 => file[at..to].fill(0xff),
                5 => file[at..to].fill(0x80),
                6 => drop(file.drain(at..to)),
                7 => {
                    let again = file[at..to].to_vec();
                    file.splice(at..at, again);
                }
                _ => file.truncate(at),
            }
        }
        file
    }
}

/// As a host loads it.
fn load(engine: &Engine, runtime: &tokio::runtime::Runtime, file: &[u8]) -> Result<(), GuestError> {
    let inspected = inspect(file);
    let guest = engine.load(file)?;
    // What can be loaded can be looked at.
    inspected?;
    let limits = Limits {
        load_time: Duration::from_millis(60),
        memory: 8 << 20,
        ..Limits::default()
    };
    runtime.block_on(async {
        let name: Arc<str> = "fuzzed".into();
        let mut instance = guest.instantiate(&name, &Arc::default(), &limits).await?;
        instance.routes().await.map(drop)
    })
}

fn kind(ended: &Result<(), GuestError>) -> &'static str {
    match ended {
        Ok(()) => "loaded",
        Err(GuestError::NotAComponent(_)) => "no component",
        Err(GuestError::UnknownWorld(_)) => "unknown world",
        Err(GuestError::Import(_)) => "imports",
        Err(GuestError::Load(_) | GuestError::Limit(..)) => "failed at the start",
        Err(GuestError::Engine(_)) => "the machine",
    }
}

/// The most memory that this process has had, in KiB.
fn peak_kib() -> Result<u64, std::io::Error> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number
        .and_then(|number| number.parse().ok())
        .unwrap_or(u64::MAX))
}

#[test]
fn whatever_the_file_the_loader_lives() -> Outcome {
    let inputs = chosen("SANDBAR_TEST_LOADER_INPUTS", 1_500_u32);
    let mut files = Files::new(seed("SANDBAR_TEST_LOADER_SEED"))?;
    let engine = Engine::new()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let mut ends: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    let (mut longest, began) = ((Duration::ZERO, ""), Instant::now());
    for number in 0..inputs {
        let (what, file) = files.next();
        let start = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(|| load(&engine, &runtime, &file)));
        let Ok(ended) = ended else {
            let kept = sandbar_tests::guests::target().join(format!("loader-{number}.wasm"));
            std::fs::write(&kept, &file)?;
            return Err(format!("input {number} ({what}) is in {}", kept.display()).into());
        };
        if let Err(error) = &ended {
            assert!(!matches!(error, GuestError::Engine(_)), "{error}");
            assert!(!error.to_string().is_empty());
        }
        longest = longest.max((start.elapsed(), what));
        *ends.entry((what, kind(&ended))).or_default() += 1;
    }
    let peak = peak_kib()?;
    println!("{inputs} files in {:?}", began.elapsed());
    println!("the longest took {longest:?}; at most {} MiB", peak >> 10);
    for ((what, end), count) in &ends {
        println!("  {what}: {end}: {count}");
    }
    assert!(peak < MOST_KIB, "{peak} KiB");
    // Some get all the way, so that what comes late is tried as well.
    for end in ["loaded", "no component", "unknown world"] {
        assert!(ends.keys().any(|(_, kind)| *kind == end), "none is {end}");
    }
    Ok(())
}
