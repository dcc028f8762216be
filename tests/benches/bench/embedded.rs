//! The whole path on the embedded backend, everything durable.

use std::sync::Arc;

use super::driver::{drive, host};
use super::measure::{Runs, Table};
use super::memory::figure;

const COUNT: usize = 100_000;
const ROUNDS: usize = 3;

pub(crate) fn run() -> Table {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut table =
        Table::new("Embedded backend, publish → echo → reply received, all durable, 200 B");
    for (name, native) in [("native action", true), ("echo plugin", false)] {
        let mut loads = Vec::new();
        for _ in 0..ROUNDS {
            runtime.block_on(async {
                let folder = tempfile::tempdir_in(sandbar_tests::guests::target()).unwrap();
                let opened = sandbar::backend::open("embedded", folder.path())
                    .await
                    .unwrap();
                let host = host(opened.backend.clone(), opened.store.clone(), native).await;
                drive(Arc::clone(&opened.backend), 10_000, 200).await;
                loads.push(drive(Arc::clone(&opened.backend), COUNT, 200).await);
                host.stop(std::time::Duration::from_secs(5)).await;
                opened.backend.close().await;
            });
        }
        let rates = Runs(loads.iter().map(|load| load.rate).collect());
        let cpu = Runs(loads.iter().map(|load| load.cpu_us).collect());
        table.row(name, figure(&rates, cpu.median()));
    }
    table
}
