//! What the figures were measured on: machine, disk, commit, settings. Read, never measured.

use std::path::Path;
use std::process::Command;

use sandbar_tests::guests::target;

/// One line for each thing that makes figures differ.
pub(crate) fn describe(quick: bool) -> Vec<(&'static str, String)> {
    let memory = field("/proc/meminfo", "MemTotal").replace(" kB", "");
    let memory = memory.parse::<f64>().unwrap_or(f64::NAN) / 1024.0 / 1024.0;
    vec![
        (
            "machine",
            format!(
                "{} cores, {}, {memory:.0} GiB, {}",
                std::thread::available_parallelism().map_or(0, usize::from),
                field("/proc/cpuinfo", "model name"),
                kernel(),
            ),
        ),
        ("disk", file_system(&target())),
        ("commit", commit()),
        ("build", build()),
        (
            "run",
            format!(
                "{}; load average {} when it began",
                if quick {
                    "QUICK, for a first look only"
                } else {
                    "complete"
                },
                first_word("/proc/loadavg"),
            ),
        ),
    ]
}

fn build() -> String {
    let profile = if cfg!(debug_assertions) {
        "UNOPTIMISED"
    } else {
        "release (thin LTO, one codegen unit)"
    };
    let lock = include_str!("../../../Cargo.lock");
    let version = |name: &str| {
        let (_, rest) = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    let engine = version("wasmtime").unwrap_or_default();
    let rustc = output("rustc", &["--version"]);
    format!("{profile}, {rustc}, wasmtime {engine}")
}

fn commit() -> String {
    let head = output("git", &["rev-parse", "--short=12", "HEAD"]);
    let changed = output("git", &["status", "--porcelain", "--untracked-files=no"]);
    match (head.is_empty(), changed.is_empty()) {
        (true, _) => "unknown".to_owned(),
        (false, true) => head,
        (false, false) => format!("{head}, with changes"),
    }
}

fn kernel() -> String {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("Linux {}", release.trim())
}

/// The type of the file system that holds a folder, out of the mounts.
fn file_system(folder: &Path) -> String {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let found = mounts
        .lines()
        .filter_map(|line| {
            let mut fields = line.split(' ').skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .filter(|(point, _)| folder.starts_with(point))
        .max_by_key(|(point, _)| point.len());
    found.map_or("unknown".to_owned(), |(_, kind)| kind.to_owned())
}

fn field(file: &str, name: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let found = text.lines().find_map(|line| line.strip_prefix(name));
    let value = found.unwrap_or(": unknown");
    value.trim_start_matches(['\t', ' ', ':']).trim().to_owned()
}

fn first_word(file: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

/// What a command says, or nothing.
fn output(program: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    let said = command.output().map(|output| output.stdout);
    String::from_utf8_lossy(&said.unwrap_or_default())
        .trim()
        .to_owned()
}
