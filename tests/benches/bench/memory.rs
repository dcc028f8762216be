//! The whole path on the memory backend: the echo plugin beside a native action on the same pipeline.

use std::sync::Arc;

use sandbar::backend::MemoryBackend;

use super::driver::{Load, drive, host};
use super::measure::{Runs, Table, alternate};

const COUNT: usize = 200_000;
const ROUNDS: usize = 5;

pub(crate) fn run() -> Table {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let measure = |native: bool, loads: &std::cell::RefCell<Vec<Load>>| {
        runtime.block_on(async {
            let backend = Arc::new(MemoryBackend::new());
            let host = host(backend.clone(), backend.clone(), native).await;
            drive(backend.clone(), 20_000, 200).await;
            let load = drive(backend.clone(), COUNT, 200).await;
            host.stop(std::time::Duration::from_secs(5)).await;
            loads.borrow_mut().push(load);
            load.rate
        })
    };
    let (natives, plugins) = (std::cell::RefCell::default(), std::cell::RefCell::default());
    let (native, plugin) = alternate(
        ROUNDS,
        || measure(true, &natives),
        || measure(false, &plugins),
    );
    let cpu = |loads: &std::cell::RefCell<Vec<Load>>| {
        Runs(loads.borrow().iter().map(|load| load.cpu_us).collect()).median()
    };
    let mut table = Table::new("Memory backend, publish → echo → reply received, 200 B");
    table.row("native action", figure(&native, cpu(&natives)));
    table.row("echo plugin", figure(&plugin, cpu(&plugins)));
    table.row(
        "the sandbox adds",
        format!(
            "{:.2} µs of CPU for each message",
            cpu(&plugins) - cpu(&natives)
        ),
    );
    table
}

pub(crate) fn figure(rate: &Runs, cpu_us: f64) -> String {
    format!(
        "{:.0} msg/s (best {:.0}), {cpu_us:.2} µs of CPU each, driver included",
        rate.median(),
        rate.max()
    )
}
