//! The benchmarks: what the sandbox, the path and the disk cost, each beside the limit it is compared with.
//!
//! `cargo bench -p sandbar-tests` runs them all; `-- call memory` runs those, `-- --quick` little of each, and
//! `-- --write docs` writes the results into the documentation. A benchmark verifies what it measured (every message comes
//! back once, with the right content) and measures its limit in the same run, in turn with ours. Nothing here asserts a
//! speed.

mod backlog;
mod bare;
mod bulk;
mod call;
mod components;
mod content;
mod cores;
mod docs;
mod driver;
mod embedded;
mod fresh;
mod machine;
mod measure;
mod memory;
mod plot;
mod plugins;
mod postgres;
mod rates;
mod raw;
mod report;
mod settings;
mod single;
mod start;
mod stateful;
mod stats;
mod swap;
mod topics;

use std::process::ExitCode;

use report::Section;
use settings::{Settings, USAGE};

/// That of the `sandbar` binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Benchmark = fn(&Settings) -> Section;

const ALL: [(&str, Benchmark); 15] = [
    ("call", call::run),
    ("memory", memory::run),
    ("embedded", embedded::run),
    ("postgres", postgres::run),
    ("faults", postgres::faults::run),
    ("fresh", fresh::run),
    ("single", single::run),
    ("rates", rates::run),
    ("swap", swap::run),
    ("plugins", plugins::run),
    ("topics", topics::run),
    ("content", content::run),
    ("cores", cores::run),
    ("backlog", backlog::run),
    ("start", start::run),
];

fn main() -> ExitCode {
    let names = ALL.map(|(name, _)| name);
    let settings = match Settings::parse(std::env::args().skip(1), &names) {
        Ok(settings) => settings,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}\n\nbenchmarks: {}", names.join(", "));
            return ExitCode::from(64);
        }
    };
    sandbar::guest::compile_beside_messages();
    let machine = machine::describe(settings.quick);
    for (name, value) in &machine {
        println!("{name}: {value}");
    }
    let mut sections = Vec::new();
    for (name, run) in ALL.into_iter().filter(|(name, _)| settings.wants(name)) {
        let section = run(&settings);
        println!("\n{section}");
        sections.push((name, section));
        // After each, so that a run that breaks off leaves what it has measured.
        if let Some(folder) = &settings.write
            && let Err(error) = docs::write(folder, &machine, &sections)
        {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// As many workers as the host has by default.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from)
}

/// A runtime like the host's.
pub(crate) fn runtime(workers: usize) -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()
        .unwrap()
}
