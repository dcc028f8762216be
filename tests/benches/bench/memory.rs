//! The whole path on the memory backend: the echo plugin beside a native action on the same pipeline.

use std::sync::Arc;

use sandbar::backend::MemoryBackend;
use tokio::runtime::Runtime;

use super::driver::{Handler, Load, Work, drive, host, stop};
use super::measure::alternate;
use super::report::{Bar, Section, Table};
use super::settings::Settings;
use super::stats::{Runs, Spread, rate, thousands, time, times};

pub(crate) fn run(settings: &Settings) -> Section {
    let mut section = Section::new(
        "Memory backend, end to end",
        "Publish → echo → reply received, 200 B, up to 8,192 messages on their way; the driver runs on the same cores and \
         its processor time is included. The native action is a closure of the host on the same pipeline, so the \
         difference is the sandbox.",
    );
    let runtime = super::runtime(super::cores());
    let work = Work::echo(settings.pick(500_000, 20_000));
    let [natives, plugins] = alternate(
        settings.pick(7, 2),
        [&mut || load(&runtime, Handler::Native, &work), &mut || {
            load(&runtime, Handler::echo(), &work)
        }],
    );
    let mut table = Table::new(headings("handler"));
    table.row(row("native action", &natives));
    table.row(row("echo plugin", &plugins));
    section.table(table);
    let cpu = |loads: &[Load]| Runs::of(loads, |load| load.cpu_us);
    let (plugin, native) = cpu(&plugins).beside(&cpu(&natives));
    let rates = |loads: &[Load]| Runs::of(loads, |load| load.rate).median();
    section.note(format!(
        "The sandbox adds {:.2} µs of processor time to each message ({} of the native path's).",
        plugin - native,
        times((plugin - native) / native)
    ));
    section.bar(Bar {
        name: "Processor time per message, memory backend",
        limit: ("native action", native),
        ours: plugin,
        target: native + 1.2,
        wanted: "≤ 1.2 µs more than a native action",
        unit: |us| format!("{us:.2} µs"),
        more: false,
    });
    section.bar(Bar {
        name: "Messages a second, memory backend, end to end",
        limit: ("native action", rates(&natives)),
        ours: rates(&plugins),
        target: 300_000.0,
        wanted: "≥ 300,000 msg/s",
        unit: thousands,
        more: true,
    });
    section
}

/// One run on a new memory backend, after a warm-up.
pub(crate) fn load(runtime: &Runtime, handler: Handler, work: &Work) -> Load {
    runtime.block_on(async {
        let backend = Arc::new(MemoryBackend::new());
        let host = host(&backend, handler).await;
        let count = work.count / 10;
        let warm_up = Work {
            count,
            ..work.clone()
        };
        drive(&backend, &warm_up).await;
        let load = drive(&backend, work).await;
        stop(host, &backend).await;
        load
    })
}

/// The headings of [`row`].
pub(crate) fn headings(first: &str) -> Vec<&str> {
    let mut headings = vec![first, "msg/s, median", "best", "CPU per message"];
    headings.extend(Spread::HEADINGS);
    headings
}

/// What several runs with the same load say.
pub(crate) fn row(name: &str, loads: &[Load]) -> Vec<String> {
    let rates = Runs::of(loads, |load| load.rate);
    let cpu = Runs::of(loads, |load| load.cpu_us).median();
    let mut row = vec![
        name.to_owned(),
        rate(rates.median()),
        rate(rates.most()),
        time(cpu * 1e3),
    ];
    row.extend(Spread::all(loads.iter().map(|load| &load.spread)).cells());
    row
}
