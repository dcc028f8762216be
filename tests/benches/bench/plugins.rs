//! From one plugin to a thousand: what each costs to start, to keep and to call, when every one is another component.

use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::{LocalBackend, MemoryBackend, Outgoing};
use sandbar::client::Client;
use sandbar::message::{Message, Payload};
use sandbar_tests::guests::version;
use sandbar_tests::process::{Folder, binary};

use super::components::{many, topic};
use super::driver::{Handler, Load, Work, drive, host, stop};
use super::measure::{cpu_of, now, resident};
use super::memory::{headings, row};
use super::report::{Section, Table};
use super::settings::Settings;
use super::stats::bytes;

pub(crate) fn run(settings: &Settings) -> Section {
    let mut section = Section::new(
        "From one plugin to a thousand",
        "Each is `echo` under a topic of its own and a component of its own, compiled by itself. Messages go to all of them \
         in turn, on the memory backend; memory and idle processor time are those of the `sandbar` process on the embedded \
         backend.",
    );
    let counts: &[usize] = settings.pick(&[1, 10, 100, 1000], &[1, 10, 50]);
    let mut table = Table::new(headings("plugins").into_iter().chain(["started in"]));
    for count in counts {
        let (load, started) = load(*count, settings.pick(300_000, 10_000));
        let mut row = row(&count.to_string(), &[load]);
        row.push(format!("{:.2} s", started.as_secs_f64()));
        table.row(row);
    }
    section.table(table);
    // Built before any clock starts.
    assert!(binary().is_file());
    let (mut table, mut least) = (Table::new(KEPT), 0.0);
    for count in counts {
        let kept = keep(*count, settings.pick(10, 1));
        if *count == 1 {
            least = kept.warm;
        }
        table.row(kept.cells(*count, least));
    }
    section.table(table);
    let (mut table, mut least) = (Table::new(KEPT), 0.0);
    for count in counts {
        let kept = share(*count, settings.pick(10, 1));
        if *count == 1 {
            least = kept.warm;
        }
        let mut row = kept.cells(*count, least);
        row[0] = format!("{count}, of {} components", VERSIONS.len().min(*count));
        table.row(row);
    }
    section.table(table);
    section.note(
        "Targets: ≤ 256 KiB for each warm Rust instance, 1,000 plugins in ≤ 1 GiB, no processor time when idle. `for each \
         plugin` is what it adds to the memory with one plugin, its compiled code included. The first start compiles, the \
         next one finds everything compiled; memory is that of the next one, but for the first column of it. In the last table \
         a few components (`swap`, four versions) are served under many names, and each plugin handles the same event.",
    );
    section
}

const KEPT: [&str; 8] = [
    "plugins",
    "first start",
    "next start",
    "memory after the first",
    "after the next",
    "after a message to each",
    "for each plugin",
    "idle processor time",
];

fn load(count: usize, messages: usize) -> (Load, Duration) {
    let runtime = super::runtime(super::cores());
    runtime.block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let specs = many(folder.path(), count);
        let backend = Arc::new(MemoryBackend::new());
        let began = now();
        let host = host(&backend, Handler::Plugins(specs)).await;
        let started = began.elapsed();
        let work = Work {
            topics: (0..count).map(|n| topic(n).parse().unwrap()).collect(),
            ..Work::echo(messages)
        };
        let warm_up = Work {
            count: (messages / 10).max(count * 5),
            ..work.clone()
        };
        drive(&backend, &warm_up).await;
        let load = drive(&backend, &work).await;
        stop(host, &backend).await;
        (load, started)
    })
}

/// What keeping plugins costs.
struct Kept {
    /// Until a host is ready that has to compile everything, and the bytes that it has then.
    cold: (Duration, f64),
    /// The same of a host that finds everything compiled.
    ready: (Duration, f64),
    /// Bytes, with a warm instance of each.
    warm: f64,
    /// Share of a core when nothing happens.
    processor: f64,
}

impl Kept {
    fn cells(&self, count: usize, least: f64) -> [String; 8] {
        let seconds = |time: Duration| format!("{:.2} s", time.as_secs_f64());
        [
            count.to_string(),
            seconds(self.cold.0),
            seconds(self.ready.0),
            bytes(self.cold.1),
            bytes(self.ready.1),
            bytes(self.warm),
            bytes((self.warm - least) / (count - 1).max(1) as f64),
            format!("{:.2} %", self.processor * 100.0),
        ]
    }
}

/// Starts a host, waits until it is ready, and stops it when `then` is over.
fn serve<T>(
    folder: &Folder,
    arguments: &[&str],
    then: impl AsyncFnOnce(Arc<LocalBackend>) -> T,
) -> ((Duration, f64), T) {
    let began = now();
    let host = folder.host(arguments);
    let ready = began.elapsed();
    let result = super::runtime(1).block_on(async {
        let data = folder.path().join("sandbar-data");
        let local = Arc::new(LocalBackend::connect(&data).await.unwrap());
        let memory = resident(local.owner()) as f64;
        ((ready, memory), then(local).await)
    });
    host.signal("TERM");
    assert_eq!(host.ended().code, Some(0));
    result
}

/// Bytes, and the share of a core that a process needs for nothing.
async fn rest(process: u32, seconds: u64) -> (f64, f64) {
    let (warm, before) = (resident(process) as f64, cpu_of(process));
    let wait = Duration::from_secs(seconds);
    tokio::time::sleep(wait).await;
    let processor = (cpu_of(process) - before).as_secs_f64() / wait.as_secs_f64();
    (warm, processor)
}

/// Each plugin is a component of its own, with a topic of its own.
fn keep(count: usize, seconds: u64) -> Kept {
    let folder = Folder::new();
    let plugins = folder.path().join("plugins");
    std::fs::create_dir(&plugins).unwrap();
    many(&plugins, count);
    let arguments = ["--plugins", "plugins"];
    let (cold, ()) = serve(&folder, &arguments, async |_| ());
    super::start::all_compiled(&folder, count);
    let (ready, (warm, processor)) = serve(&folder, &arguments, async |local| {
        let client = Client::connect(local.clone()).await.unwrap();
        for number in 0..count {
            let payload = Payload::new(number.to_string());
            let message = Message::new(topic(number).parse().unwrap(), payload.clone());
            let reply = client.request(message, Duration::from_secs(10)).await;
            assert_eq!(reply.unwrap().payload, payload, "void");
        }
        rest(local.owner(), seconds).await
    });
    Kept {
        cold,
        ready,
        warm,
        processor,
    }
}

/// What the components that are shared say of themselves, each as long as the first one.
const VERSIONS: [&str; 4] = ["version one", "version two", "version 333", "version 444"];

/// Many plugins of a few components. All of them handle one event, and say so.
fn share(count: usize, seconds: u64) -> Kept {
    let folder = Folder::new();
    let few = VERSIONS.len().min(count);
    for (number, words) in VERSIONS.iter().enumerate().take(few) {
        let component = version(&[(VERSIONS[0], words)]);
        folder.write(&format!("swap-{number}.wasm"), component);
    }
    let mut config = "log = \"error\"\n".to_owned();
    for number in 0..count {
        let file = number % few;
        config.push_str(&format!(
            "[plugins.swap-{number}]\nfile = \"swap-{file}.wasm\"\nsubscribe = [\"swap.told\"]\npublish = [\"out.told\"]\n"
        ));
    }
    folder.write("sandbar.toml", config);
    let (cold, ()) = serve(&folder, &[], async |_| ());
    super::start::all_compiled(&folder, few);
    let (ready, (warm, processor)) = serve(&folder, &[], async |local| {
        let told = "out.told".parse().unwrap();
        let client = Client::connect_as(local.clone(), told).await.unwrap();
        let message = Message::new("swap.told".parse().unwrap(), Payload::new("to all"));
        client.send(Outgoing::new(message)).await.unwrap();
        let mut by_version = [0; VERSIONS.len()];
        for _ in 0..count {
            let wait = tokio::time::timeout(Duration::from_secs(60), client.receive());
            let content = wait.await.unwrap().unwrap().payload.content.clone();
            let content = String::from_utf8_lossy(&content).into_owned();
            let says = |words: &str| content.contains(words) && content.contains("to all");
            by_version[VERSIONS.iter().position(|it| says(it)).unwrap()] += 1;
        }
        let wanted: Vec<usize> = (0..VERSIONS.len())
            .map(|version| (0..count).filter(|number| number % few == version).count())
            .collect();
        assert_eq!(by_version[..], wanted, "void");
        rest(local.owner(), seconds).await
    });
    Kept {
        cold,
        ready,
        warm,
        processor,
    }
}
