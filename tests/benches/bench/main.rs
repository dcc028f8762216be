//! The benchmarks: what the sandbox, the path and the disk cost, each beside the limit it is compared with.
//!
//! `cargo bench -p sandbar-tests` runs them all; `-- call memory` runs those. A benchmark verifies what it measured (every
//! message comes back once, with the right content) and prints its baseline from the same run. Nothing here asserts a
//! speed.

mod call;
mod driver;
mod embedded;
mod measure;
mod memory;

use measure::Table;

type Benchmark = fn() -> Table;

fn main() {
    let wanted: Vec<String> = std::env::args()
        .skip(1)
        .filter(|arg| !arg.starts_with('-'))
        .collect();
    let all: [(&str, Benchmark); 3] = [
        ("call", call::run),
        ("memory", memory::run),
        ("embedded", embedded::run),
    ];
    println!("{}", measure::machine());
    for (name, run) in all {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            println!("\n{}", run());
        }
    }
}
