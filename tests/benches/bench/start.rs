//! Starting: from the command to the first reply, cold and with everything compiled before; and the first request.

use std::sync::Arc;
use std::time::{Duration, Instant};

use sandbar::backend::{LocalBackend, MemoryBackend};
use sandbar::client::Client;
use sandbar::guest::{CacheOptions, look_at_cache};
use sandbar::message::{Message, Payload};
use sandbar_tests::process::{Folder, binary};

use super::components::{many, topic};
use super::driver::{Handler, host, stop};
use super::measure::now;
use super::report::{Bar, Section, Table};
use super::settings::Settings;
use super::stats::{Spread, time};

/// Plugins of the host that is started.
const PLUGINS: usize = 10;
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn run(settings: &Settings) -> Section {
    let mut section = Section::new(
        "Starting",
        "From the start of the process until a client that waits for it has its first reply, with ten plugins that are \
         components of their own: for the first time, when they have to be compiled; again in the same folder, where \
         they are found compiled; and there without that. Beside them what a process costs that does nothing \
         (`sandbar --version`), and a whole `sandbar request` from the command line.",
    );
    // Built before anything is timed.
    assert!(binary().is_file());
    let (mut nothing, mut cold, mut again, mut without, mut asked) = (
        Spread::default(),
        Spread::default(),
        Spread::default(),
        Spread::default(),
        Spread::default(),
    );
    for _ in 0..settings.pick(15, 3) {
        let folder = Folder::new();
        let plugins = folder.path().join("plugins");
        std::fs::create_dir(&plugins).unwrap();
        many(&plugins, PLUGINS);
        command(&folder, &["--version"], &mut nothing);
        start(&folder, &[], &mut cold, None);
        all_compiled(&folder, PLUGINS);
        start(&folder, &[], &mut again, Some(&mut asked));
        folder.write("off.toml", "[cache]\nenabled = false\n");
        start(&folder, &["--config", "off.toml"], &mut without, None);
    }
    let mut table = Table::new(["from nothing"].into_iter().chain(Spread::HEADINGS));
    for (name, spread) in [
        ("a process that does nothing", &nothing),
        ("first start → first reply", &cold),
        ("second start → first reply", &again),
        ("the same with `cache.enabled = false`", &without),
        ("`sandbar request`, as a process", &asked),
    ] {
        table.row([name.to_owned()].into_iter().chain(spread.cells()));
    }
    section.table(table);
    section.table(first(settings.pick(30, 3)));
    section.bar(Bar {
        name: "Second start with 10 plugins → first reply, p50",
        limit: ("a process that does nothing", nothing.median()),
        ours: again.median(),
        target: 100e6,
        wanted: "≤ 100 ms",
        unit: time,
        more: false,
    });
    section
}

/// One command until it has ended.
fn command(folder: &Folder, arguments: &[&str], spread: &mut Spread) {
    let began = now();
    let ended = folder.run(arguments);
    spread.add(began.elapsed());
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

/// Starts a host and waits for its first reply.
fn start(folder: &Folder, options: &[&str], spread: &mut Spread, asked: Option<&mut Spread>) {
    let began = now();
    let host = folder.host(["--plugins", "plugins"].iter().chain(options));
    super::runtime(1).block_on(async {
        let data = folder.path().join("sandbar-data");
        let local = Arc::new(LocalBackend::connect(&data).await.unwrap());
        let client = Client::connect(local).await.unwrap();
        ask(&client, 0, began, spread).await;
    });
    if let Some(asked) = asked {
        for _ in 0..3 {
            command(folder, &["request", &topic(1), "{}"], asked);
        }
    }
    host.signal("TERM");
    assert_eq!(host.ended().code, Some(0));
}

/// The next start finds so many components compiled.
pub(crate) fn all_compiled(folder: &Folder, count: usize) {
    let cache = CacheOptions::new(folder.path().join("sandbar-data/cache"));
    let state = look_at_cache(&cache);
    assert_eq!((state.entries, state.refused), (count, 0), "void");
}

/// The first, the second and the hundredth request to a host that is ready.
fn first(rounds: usize) -> Table {
    let mut spreads: [Spread; 3] = Default::default();
    super::runtime(super::cores()).block_on(async {
        let folder = tempfile::tempdir().unwrap();
        let specs = many(folder.path(), PLUGINS);
        for _ in 0..rounds {
            let backend = Arc::new(MemoryBackend::new());
            let host = host(&backend, Handler::Plugins(specs.clone())).await;
            let [first, second, hundredth] = &mut spreads;
            for number in 0..PLUGINS {
                let client = host.client();
                ask(client, number, now(), first).await;
                ask(client, number, now(), second).await;
                for _ in 0..97 {
                    ask(client, number, now(), &mut Spread::default()).await;
                }
                ask(client, number, now(), hundredth).await;
            }
            stop(host, &backend).await;
        }
    });
    let headings = ["request to a host that is ready, memory backend"];
    let mut table = Table::new(headings.into_iter().chain(Spread::HEADINGS));
    for (name, spread) in ["first to a plugin", "second", "hundredth"]
        .into_iter()
        .zip(spreads)
    {
        table.row([name.to_owned()].into_iter().chain(spread.cells()));
    }
    table
}

async fn ask(client: &Client, plugin: usize, began: Instant, spread: &mut Spread) {
    let payload = Payload::new(format!("to {plugin}"));
    let message = Message::new(topic(plugin).parse().unwrap(), payload.clone());
    let reply = client.request(message, PATIENCE).await.unwrap();
    spread.add(began.elapsed());
    assert_eq!(reply.payload, payload, "void");
}
