//! From 64 bytes to a mebibyte of content: what each message and each byte costs.

use super::driver::{Handler, Work};
use super::memory::{headings, row};
use super::report::{Section, Table};
use super::settings::Settings;
use super::stats::bytes;
use super::{embedded, memory};

const SIZES: [usize; 6] = [64, 1024, 16_384, 65_536, 262_144, 1_048_576];

pub(crate) fn run(settings: &Settings) -> Section {
    let mut section = Section::new(
        "From 64 bytes to a mebibyte",
        "Publish → echo plugin → reply received; at most 8,192 messages and 64 MiB on their way. The content goes into the \
         guest and comes out of it, and on the embedded backend it is written twice.",
    );
    let runtime = super::runtime(super::cores());
    for backend in ["memory", "embedded"] {
        let budget = match backend {
            "memory" => settings.pick(2 << 30, 32 << 20),
            _ => settings.pick(512 << 20, 16 << 20),
        };
        let most = settings.pick(200_000, 5_000);
        let first = format!("content, {backend}");
        let mut table = Table::new(headings(&first).into_iter().chain(["MiB/s"]));
        for size in SIZES {
            let work = Work {
                size,
                ..Work::echo((budget / size).min(most))
            };
            let load = match backend {
                "memory" => memory::load(&runtime, Handler::echo(), &work),
                _ => embedded::load(&runtime, Handler::echo(), &work),
            };
            let volume = load.rate * size as f64 / 1024.0 / 1024.0;
            let mut row = row(&bytes(size as f64), &[load]);
            row.push(format!("{volume:.0}"));
            table.row(row);
        }
        section.table(table);
    }
    section
}
