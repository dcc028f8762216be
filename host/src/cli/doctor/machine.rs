//! Limits of the machine that matter to a host.
//!
//! What a system doesn't tell is not looked at.

use std::fs;

use rustix::process::{Resource, getrlimit};

use super::super::terminal::count;
use super::{Check, Finding};

/// Connections, plugins and databases need a few hundred.
const FILES: u64 = 1_024;
/// What the pool of instances reserves, and as much for everything else.
const ADDRESS_SPACE: u64 = 32 << 40;
/// Pages that were written are found without touching the others since this version.
const PAGEMAP_SCAN: (u32, u32) = (6, 7);

pub(super) fn check() -> Vec<Finding> {
    let mut findings = vec![open_files(), address_space(), cores()];
    findings.extend(kernel());
    findings.extend(overcommit());
    findings
}

fn open_files() -> Finding {
    let text = |files: u64| format!("{} open files", count(files));
    match getrlimit(Resource::Nofile).current {
        Some(files) if files < FILES => Finding::warn(
            Check::Machine,
            text(files),
            format!(
                "raise the limit to {} or more (`ulimit -n`, or LimitNOFILE of systemd)",
                count(FILES)
            ),
        ),
        Some(files) => Finding::ok(Check::Machine, text(files)),
        None => Finding::ok(Check::Machine, "any number of open files"),
    }
}

fn address_space() -> Finding {
    match getrlimit(Resource::As).current {
        Some(bytes) if bytes < ADDRESS_SPACE => Finding::warn(
            Check::Machine,
            format!("{} MiB of address space", count(bytes >> 20)),
            "lift the limit (`ulimit -v unlimited`); without a pool every instance of a plugin is allocated anew",
        ),
        _ => Finding::ok(
            Check::Machine,
            "enough address space for the pool of instances",
        ),
    }
}

fn cores() -> Finding {
    match std::thread::available_parallelism().map_or(1, usize::from) {
        1 => Finding::warn(
            Check::Machine,
            "1 core",
            "give it another one; a plugin that uses its whole time slows down everything else",
        ),
        cores => Finding::ok(Check::Machine, format!("{} cores", count(cores))),
    }
}

fn kernel() -> Option<Finding> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    let release = release.trim();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    let version = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
    Some(if version >= PAGEMAP_SCAN {
        Finding::ok(Check::Machine, format!("Linux {release}"))
    } else {
        Finding::warn(
            Check::Machine,
            format!("Linux {release}"),
            "6.7 and later make fresh instances of plugins several times cheaper",
        )
    })
}

fn overcommit() -> Option<Finding> {
    let mode = fs::read_to_string("/proc/sys/vm/overcommit_memory").ok()?;
    (mode.trim() == "2").then(|| {
        Finding::warn(
            Check::Machine,
            "memory is never overcommitted (vm.overcommit_memory = 2)",
            "set it to 0; reserved address space counts as memory otherwise, and there is no pool of instances",
        )
    })
}
