//! One warm call: through the host with all limits on, beside the bare typed function of the same component.

use std::sync::Arc;

use sandbar::backend::MemoryBackend;
use sandbar::call::{Access, Call};
use sandbar::dispatch::Outcome;
use sandbar::guest::{Engine, Instance};
use sandbar::message::{Message, Payload};
use sandbar::plugin::{Grants, Limits};
use sandbar_tests::guests::guest;
use tokio::runtime::Runtime;

use super::bare::{Bare, Compiled};
use super::measure::{alternate, now, per_call};
use super::report::{Bar, Section, Table};
use super::settings::Settings;
use super::stats::{Runs, Spread, time, times};

const SIZES: [usize; 3] = [64, 1024, 65_536];
const HEADERS: [usize; 3] = [0, 2, 6];
/// The pair of size and headers whose single calls are looked at.
const LOOKED_AT: usize = 1024;

/// An instance of the host, called as the pipeline calls it.
struct Hosted {
    runtime: Runtime,
    instance: Option<Instance>,
    access: Arc<Access>,
}

impl Hosted {
    fn new(bytes: &[u8]) -> Self {
        let runtime = super::runtime(1);
        let limits = Limits::default();
        let component = Engine::new().unwrap().load(bytes).unwrap();
        let name: Arc<str> = "echo".into();
        let config = Arc::default();
        let instance = component.instantiate(&name, &config, &limits);
        let instance = Some(runtime.block_on(instance).unwrap());
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
            instance,
            access,
        }
    }

    /// Calls `count` times; the last reply.
    fn calls(&mut self, message: &Arc<Message>, count: u32) -> Payload {
        let mut last = Payload::default();
        self.runtime.block_on(async {
            for _ in 0..count {
                let call = Call::new(self.access.clone(), message.clone(), 1, 0, 0);
                let instance = self.instance.take().unwrap();
                let (_, outcome, instance) = instance.handle(call).await;
                self.instance = instance;
                last = reply(outcome, message);
            }
        });
        last
    }
}

/// The reply, which is as long as the message.
pub(crate) fn reply(outcome: Outcome, message: &Message) -> Payload {
    match outcome {
        Outcome::Done(Some(reply)) if reply.content.len() == message.payload.content.len() => reply,
        other => panic!("void: {other:?}"),
    }
}

pub(crate) fn message(size: usize, headers: usize) -> Arc<Message> {
    let content: Vec<u8> = (0..size).map(|n| n as u8).collect();
    let mut message = Message::new("echo".parse().unwrap(), Payload::new(content));
    for number in 0..headers {
        let (name, value) = (format!("x-header-{number}"), format!("value {number}"));
        message.payload.headers.insert(&name, &value).unwrap();
    }
    Arc::new(message)
}

pub(crate) fn run(settings: &Settings) -> Section {
    let mut section = Section::new(
        "One warm call",
        "`plugins/echo`, content in and out, the same instance again and again. Bare: the engine's typed function, \
         synchronous, without any limit. Host: the same component with time, memory, size and log limits, grants, and \
         its own time and randomness. Interruptible: the bare call of a guest whose code was compiled so that it can be ended, \
         which a host must be able to do; it is no limit, but says where the time goes. Processor time of the calling thread.",
    );
    let bytes = std::fs::read(guest("echo")).unwrap();
    let mut hosted = Hosted::new(&bytes);
    let mut bare = Compiled::new(&bytes).instance();
    let mut checked = Compiled::interruptible(&bytes).instance();
    // Short ones, since some machines change their speed several times a second.
    let rounds = settings.pick(75, 3);
    let mut table = Table::new([
        "content",
        "headers",
        "bare, median",
        "best",
        "interruptible, median",
        "host, median",
        "best",
        "ratio in the middle round",
        "of bests",
    ]);
    for size in SIZES {
        let calls = settings.pick(20_000, 5_000) / (1 + size as u32 / 4096);
        for headers in HEADERS {
            let bares = [&mut bare, &mut checked];
            let [alone, interruptible, within] =
                measure(bares, &mut hosted, (size, headers), rounds, calls);
            let (ours, limit) = within.beside(&alone);
            let ratio = ours / limit;
            let best = within.least() / alone.least();
            let mut row = vec![format!("{size} B"), headers.to_string()];
            row.extend(alone.times());
            row.push(time(interruptible.median()));
            row.extend(within.times());
            row.extend([times(ratio), times(best)]);
            table.row(row);
            if (size, headers) == (LOOKED_AT, 0) {
                section.bar(Bar {
                    name: "One warm call, 1 KiB in and out",
                    limit: ("bare typed call", limit),
                    ours,
                    target: limit * 1.25,
                    wanted: "≤ 1.25× the bare typed call",
                    unit: time,
                    more: false,
                });
            }
        }
    }
    section.table(table);
    section.table(single(
        &mut bare,
        &mut hosted,
        settings.pick(100_000, 5_000),
    ));
    section.note("Single calls are wall time, the reading of the clock included.");
    section
}

fn measure(
    [bare, checked]: [&mut Bare; 2],
    hosted: &mut Hosted,
    (size, headers): (usize, usize),
    rounds: usize,
    calls: u32,
) -> [Runs; 3] {
    let message = message(size, headers);
    let id = message.identifier.to_string();
    let content = &message.payload.content;
    let alone = |bare: &mut Bare| {
        let (figure, last) = per_call(calls, || bare.calls(&message, &id, calls));
        assert!(last == *content, "void");
        figure
    };
    let mut within = || {
        let (figure, last) = per_call(calls, || hosted.calls(&message, calls));
        assert!(last.content == *content, "void");
        figure
    };
    let (mut first, mut second) = (|| alone(bare), || alone(checked));
    // The first round warms up.
    alternate(1, [&mut first, &mut second, &mut within]);
    alternate(rounds, [&mut first, &mut second, &mut within]).map(Runs)
}

/// Calls one by one, each timed and each reply compared.
fn single(bare: &mut Bare, hosted: &mut Hosted, calls: u32) -> Table {
    let mut table = Table::new(
        ["single calls, 1 KiB", "headers"]
            .into_iter()
            .chain(Spread::HEADINGS),
    );
    for headers in HEADERS {
        let message = message(LOOKED_AT, headers);
        let id = message.identifier.to_string();
        let content = &message.payload.content;
        let (mut alone, mut within) = (Spread::default(), Spread::default());
        for _ in 0..calls {
            let began = now();
            let reply = bare.calls(&message, &id, 1);
            alone.add(began.elapsed());
            assert!(reply == *content, "void");
            let began = now();
            let reply = hosted.calls(&message, 1);
            within.add(began.elapsed());
            assert!(reply.content == *content, "void");
        }
        for (name, spread) in [("bare", alone), ("host", within)] {
            let cells = [name.to_owned(), headers.to_string()].into_iter();
            table.row(cells.chain(spread.cells()));
        }
    }
    table
}
