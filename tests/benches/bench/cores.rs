//! From one worker thread to all of them: how much more is handled.

use super::driver::{Handler, Work};
use super::measure::alternate;
use super::memory::{headings, row};
use super::report::{Section, Table};
use super::settings::Settings;
use super::stats::{Runs, times};
use super::{cores, embedded, memory, runtime};

pub(crate) fn run(settings: &Settings) -> Section {
    let mut section = Section::new(
        "From one worker thread to all of them",
        "The echo plugin with 200 B, the driver on the same threads. Threads of the system, such as SQLite's, come on top.",
    );
    let (one, all) = (runtime(1), runtime(cores()));
    let mut table = Table::new(headings("worker threads"));
    let mut gains = Vec::new();
    for backend in ["memory", "embedded"] {
        let work = Work::echo(match backend {
            "memory" => settings.pick(300_000, 10_000),
            _ => settings.pick(100_000, 5_000),
        });
        let run = |runtime| match backend {
            "memory" => memory::load(runtime, Handler::echo(), &work),
            _ => embedded::load(runtime, Handler::echo(), &work),
        };
        let rounds = settings.pick(5, 1);
        let [single, both] = alternate(rounds, [&mut || run(&one), &mut || run(&all)]);
        table.row(row(&format!("1, {backend}"), &single));
        table.row(row(&format!("{}, {backend}", cores()), &both));
        let rate = |loads| Runs::of(loads, |load: &super::driver::Load| load.rate).median();
        gains.push(format!("{backend} {}", times(rate(&both) / rate(&single))));
    }
    section.table(table);
    section.note(format!(
        "{} threads handle so much more than one: {}.",
        cores(),
        gains.join(", ")
    ));
    section
}
