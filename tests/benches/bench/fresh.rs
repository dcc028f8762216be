//! A fresh instance for each message, beside bare instantiation with the best allocator there is.

use std::sync::Arc;

use sandbar::backend::MemoryBackend;
use sandbar::call::{Access, Call};
use sandbar::dispatch::Dispatcher;
use sandbar::guest::Engine;
use sandbar::message::{Message, Payload};
use sandbar::plugin::{Grants, Isolation, Limits, Loader, PluginSpec};
use sandbar_tests::guests::guest;
use tokio::runtime::Runtime;

use super::bare::Compiled;
use super::call::{message, reply};
use super::driver::{Handler, Work};
use super::measure::{alternate, now, per_call};
use super::memory::{headings, load, row};
use super::report::{Bar, Section, Table};
use super::settings::Settings;
use super::stats::{Runs, Spread, rate, thousands, time, times};

const SIZE: usize = 1024;

/// A plugin with an isolation, called as the pipeline calls it.
struct Hosted {
    runtime: Runtime,
    dispatcher: Dispatcher,
    access: Arc<Access>,
}

impl Hosted {
    fn new(isolation: Isolation) -> Self {
        let runtime = super::runtime(1);
        let spec = isolated(isolation);
        let (name, limits) = (spec.name.as_str().into(), spec.limits.clone());
        let loading = async { Loader::new(Engine::new().unwrap()).load(spec).await };
        let plugin = runtime.block_on(loading).unwrap();
        let access = Arc::new(Access {
            plugin: name,
            grants: Grants::default(),
            limits,
            hits: Arc::default(),
            store: Arc::new(MemoryBackend::new()),
            client: None,
            http: None,
        });
        Self {
            runtime,
            dispatcher: plugin.dispatcher().unwrap(),
            access,
        }
    }

    fn calls(&self, message: &Arc<Message>, count: u32) -> Payload {
        let action = &self.dispatcher.routes()[0].action;
        let mut last = Payload::default();
        self.runtime.block_on(async {
            for _ in 0..count {
                let call = Call::new(self.access.clone(), message.clone(), 1, 0, 0);
                last = reply(action.call(call).await.1, message);
            }
        });
        last
    }
}

fn isolated(isolation: Isolation) -> PluginSpec {
    PluginSpec {
        limits: Limits {
            isolation,
            ..Limits::default()
        },
        ..PluginSpec::from_file(&guest("echo"))
    }
}

pub(crate) fn run(settings: &Settings) -> Section {
    let mut section = Section::new(
        "A fresh instance for each message",
        "`isolation = \"message\"`: nothing that a message leaves in memory is there for the next one. Bare: store, instance, \
         one typed call, drop, with the allocator's best settings and no limits. 1 KiB in and out; processor \
         time of the calling thread.",
    );
    calls(settings, &mut section);
    path(settings, &mut section);
    section
}

fn calls(settings: &Settings, section: &mut Section) {
    let message = message(SIZE, 0);
    let id = message.identifier.to_string();
    let (compiled, allocator) = Compiled::pooled(&std::fs::read(guest("echo")).unwrap());
    let hosted = Hosted::new(Isolation::Message);
    let count = settings.pick(20_000, 500);
    let content = &message.payload.content;
    let once = || compiled.instance().calls(&message, &id, 1);
    let mut alone = || {
        let calls = || (0..count).fold(Vec::new(), |_, _| once());
        let (figure, last) = per_call(count, calls);
        assert!(last == *content, "void");
        figure
    };
    let mut within = || {
        let (figure, last) = per_call(count, || hosted.calls(&message, count));
        assert!(last.content == *content, "void");
        figure
    };
    alternate(1, [&mut alone, &mut within]);
    let measured = alternate(settings.pick(11, 2), [&mut alone, &mut within]);
    let [alone, within] = measured.map(Runs);
    let (median, limit) = within.beside(&alone);
    let (mut single, mut ours) = (Spread::default(), Spread::default());
    for _ in 0..count {
        let began = now();
        let reply = once();
        single.add(began.elapsed());
        assert!(reply == *content, "void");
        let began = now();
        let reply = hosted.calls(&message, 1);
        ours.add(began.elapsed());
        assert!(reply.content == *content, "void");
    }
    let headings = ["instance and call", "median", "best"];
    let mut table = Table::new(headings.into_iter().chain(Spread::HEADINGS));
    for (name, runs, spread) in [("bare", &alone, single), ("host", &within, ours)] {
        let cells = [name.to_owned()].into_iter().chain(runs.times());
        table.row(cells.chain(spread.cells()));
    }
    section.table(table);
    section.note(format!(
        "Bare allocator: {allocator}. Ratio in the middle round {}, of bests {}.",
        times(median / limit),
        times(within.least() / alone.least()),
    ));
    section.bar(Bar {
        name: "Fresh instance and call, 1 KiB in and out",
        limit: ("bare instance and call", limit),
        ours: median,
        target: limit * 1.25,
        wanted: "≤ 1.25× bare",
        unit: time,
        more: false,
    });
}

/// End to end on the memory backend.
fn path(settings: &Settings, section: &mut Section) {
    let runtime = super::runtime(super::cores());
    let work = Work::echo(settings.pick(200_000, 5_000));
    let plugin = |isolation| Handler::Plugins(vec![isolated(isolation)]);
    let [warm, fresh] = alternate(
        settings.pick(5, 2),
        [
            &mut || load(&runtime, plugin(Isolation::Reuse), &work),
            &mut || load(&runtime, plugin(Isolation::Message), &work),
        ],
    );
    let mut table = Table::new(headings("end to end on the memory backend, 200 B"));
    table.row(row("warm instances", &warm));
    table.row(row("a fresh one for each message", &fresh));
    section.table(table);
    let median = |loads: &[super::driver::Load]| Runs::of(loads, |load| load.rate).median();
    section.bar(Bar {
        name: "Messages a second, fresh instance each, end to end",
        limit: ("warm instances", median(&warm)),
        ours: median(&fresh),
        target: 100_000.0,
        wanted: "≥ 100,000 msg/s",
        unit: thousands,
        more: true,
    });
    section.note(format!("Median end to end: {}.", rate(median(&fresh))));
}
