//! What a swap costs those who are served meanwhile: messages at a fixed rate, while nothing changes and while a new
//! version takes the place of the live one each second. Every message is answered once, by one version or the other.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::{Backend, EmbeddedBackend, EmbeddedOptions, MemoryBackend};
use sandbar::control::{Host, ReloadOutcome, ServedPlugin};
use sandbar::plugin::PluginSpec;
use sandbar::store::Store;
use sandbar_tests::guests::guest;
use tokio::runtime::Runtime;

use super::driver::{Handler, host, stop};
use super::rates::paced;
use super::report::{Bar, Section, Table};
use super::settings::Settings;
use super::stats::{Spread, rate, time, times};

const EVERY: Duration = Duration::from_secs(1);
const PER_SECOND: f64 = 5_000.0;

pub(crate) fn run(settings: &Settings) -> Section {
    let mut section = Section::new(
        "A swap under load",
        "`plugins/echo`, 200 B, messages at a fixed rate as above, in turns of several seconds: in one nothing changes, in the \
         next a new version takes the place of the live one each second, so that every second is that of a swap. Each version is \
         a file that the host has not seen before: it is read, checked, compiled, started and asked for its routes beside the \
         live one.",
    );
    let runtime = super::runtime(super::cores());
    let (rounds, seconds) = settings.pick((4, 6.0), (1, 2.0));
    let mut table = Table::new(
        ["backend", "msg/s", "swaps"]
            .into_iter()
            .chain(Spread::HEADINGS),
    );
    for backend in ["memory", "embedded"] {
        let folder = tempfile::tempdir_in(sandbar_tests::guests::target()).unwrap();
        let measured = match backend {
            "memory" => {
                let backend = Arc::new(MemoryBackend::new());
                swapped(&runtime, &backend, folder.path(), rounds, seconds)
            }
            _ => {
                let open = EmbeddedBackend::open(folder.path(), EmbeddedOptions::default());
                let backend = Arc::new(runtime.block_on(open).unwrap());
                let measured = swapped(&runtime, &backend, folder.path(), rounds, seconds);
                runtime.block_on(backend.close());
                measured
            }
        };
        let Measured {
            steady,
            swapping,
            swaps,
        } = measured;
        for (swaps, spread) in [(0, &steady), (swaps, &swapping)] {
            let cells = [backend.to_owned(), rate(PER_SECOND), swaps.to_string()];
            table.row(cells.into_iter().chain(spread.cells()));
        }
        let (limit, ours) = (steady.p99(), swapping.p99());
        section.note(format!(
            "On the {backend} backend the p99 in the second of a swap is {} of that without one.",
            times(ours / limit)
        ));
        if backend == "embedded" {
            section.bar(Bar {
                name: "p99 in the second of a swap, embedded backend",
                limit: ("p99 without a swap", limit),
                ours,
                target: limit * 2.0,
                wanted: "≤ 2× the p99 without a swap",
                unit: time,
                more: false,
            });
        }
    }
    section.table(table);
    section
}

struct Measured {
    steady: Spread,
    swapping: Spread,
    swaps: usize,
}

fn swapped<B: Backend + Store + 'static>(
    runtime: &Runtime,
    backend: &Arc<B>,
    folder: &Path,
    rounds: usize,
    seconds: f64,
) -> Measured {
    let mut versions = (0..).map(|number| version(folder, number));
    let first = vec![versions.next().unwrap().spec];
    let host = runtime.block_on(host(backend, Handler::Plugins(first)));
    paced(runtime, backend, PER_SECOND, seconds / 4.0);
    let (mut steady, mut swapping, mut swaps) = (Vec::new(), Vec::new(), 0);
    for _ in 0..rounds {
        let [spread, _] = paced(runtime, backend, PER_SECOND, seconds);
        steady.push(spread);
        let count = (seconds / EVERY.as_secs_f64()) as usize;
        let next: Vec<ServedPlugin> = versions.by_ref().take(count).collect();
        let swapper = runtime.spawn(swap(host.clone(), next));
        let [spread, _] = paced(runtime, backend, PER_SECOND, seconds);
        swapping.push(spread);
        swaps += runtime.block_on(swapper).unwrap();
    }
    runtime.block_on(stop(host, backend));
    Measured {
        steady: Spread::all(&steady),
        swapping: Spread::all(&swapping),
        swaps,
    }
}

/// One version each second, from the middle of the first one on.
async fn swap(host: Host, versions: Vec<ServedPlugin>) -> usize {
    let count = versions.len();
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + EVERY / 2, EVERY);
    for version in versions {
        ticks.tick().await;
        let outcome = host.reload(version).await;
        assert_eq!(outcome, ReloadOutcome::Swapped, "void");
    }
    count
}

/// The echo plugin once more, with a section that nothing reads, so that it is another file.
fn version(folder: &Path, number: u32) -> ServedPlugin {
    let folder = folder.join(format!("version-{number}"));
    std::fs::create_dir(&folder).unwrap();
    let mut bytes = std::fs::read(guest("echo")).unwrap();
    let number = number.to_le_bytes();
    // A custom section: its size, the length of its name, its name, its content.
    bytes.extend([0, 1 + 4 + 4, 4]);
    bytes.extend(b"swap");
    bytes.extend(number);
    let file = folder.join("echo.wasm");
    std::fs::write(&file, bytes).unwrap();
    ServedPlugin::new(PluginSpec::from_file(&file))
}
