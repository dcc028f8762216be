//! One warm call: through the host with all limits on, beside the bare typed function of the same component.

use std::sync::Arc;

use sandbar::call::{Access, Call};
use sandbar::dispatch::Outcome;
use sandbar::guest::Engine;
use sandbar::message::{Message, Payload};
use sandbar::plugin::{Grants, Limits};
use sandbar_tests::guests::guest;
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Store};

use super::measure::{Table, alternate, now};

const CALLS: u32 = 50_000;
const ROUNDS: usize = 9;

mod bare {
    wasmtime::component::bindgen!({
        path: "../wit/v0.1",
        world: "plugin",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

use bare::exports::sandbar::messaging::handler as exported;
use bare::sandbar::messaging::{log, types};

/// All that the bare store needs: `echo` imports the log and nothing else.
struct Nothing;
impl types::Host for Nothing {}
impl log::Host for Nothing {
    fn log(&mut self, _: log::Level, _: String, _: Vec<(String, String)>) {}
}

struct Bare {
    store: Store<Nothing>,
    plugin: bare::Plugin,
}

impl Bare {
    fn new(bytes: &[u8]) -> Self {
        let mut config = Config::new();
        config
            .concurrency_support(false)
            .gc_support(false)
            .wasm_gc(false);
        let engine = wasmtime::Engine::new(&config).unwrap();
        let component = Component::new(&engine, bytes).unwrap();
        let mut linker: Linker<Nothing> = Linker::new(&engine);
        types::add_to_linker::<_, wasmtime::component::HasSelf<_>>(&mut linker, |it| it).unwrap();
        log::add_to_linker::<_, wasmtime::component::HasSelf<_>>(&mut linker, |it| it).unwrap();
        let mut store = Store::new(&engine, Nothing);
        let plugin = bare::Plugin::instantiate(&mut store, &component, &linker).unwrap();
        Self { store, plugin }
    }

    fn call(&mut self, content: &[u8]) -> usize {
        let request = exported::Request {
            message: types::MessageParam {
                id: "6b2d0f5e-2b9d-4a6e-8d67-0c6f0d0d6c11",
                topic: "echo",
                reply_topic: None,
                strategy: types::Strategy::Unicast,
                payload: types::PayloadParam {
                    content,
                    headers: &[],
                    status: types::Status::Success,
                },
            },
            attempt: 1,
            budget_ms: 5000,
            route: 0,
        };
        let handler = self.plugin.sandbar_messaging_handler();
        let reply = handler
            .call_handle(&mut self.store, request)
            .unwrap()
            .unwrap()
            .unwrap();
        reply.content.len()
    }
}

pub(crate) fn run() -> Table {
    let bytes = std::fs::read(guest("echo")).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let mut table = Table::new("One warm call, echo, all limits on (ns)");
    for size in [64, 1024, 65_536] {
        let content = vec![b'x'; size];
        let mut bare = Bare::new(&bytes);
        let engine = Engine::new().unwrap();
        let component = engine.load(&bytes).unwrap();
        let limits = Limits::default();
        let name: Arc<str> = "echo".into();
        let config = Arc::default();
        let instance = component.instantiate(&name, &config, &limits);
        let mut instance = Some(runtime.block_on(instance).unwrap());
        let access = Arc::new(Access {
            plugin: name,
            grants: Grants::default(),
            limits,
            store: Arc::new(sandbar::backend::MemoryBackend::new()),
            client: None,
        });
        let message = Message::new("echo".parse().unwrap(), Payload::new(content.clone()));
        let message = Arc::new(message);
        let (bare, sandboxed) = alternate(
            ROUNDS,
            || {
                let began = now();
                for _ in 0..CALLS {
                    assert_eq!(bare.call(&content), size);
                }
                began.elapsed().as_nanos() as f64 / f64::from(CALLS)
            },
            || {
                runtime.block_on(async {
                    let began = now();
                    for _ in 0..CALLS {
                        let call = Call::new(access.clone(), message.clone(), 1, 0, 0);
                        let (_, outcome, back) = instance.take().unwrap().handle(call).await;
                        let Outcome::Done(Some(payload)) = outcome else {
                            panic!("{outcome:?}")
                        };
                        assert_eq!(payload.content.len(), size);
                        instance = back;
                    }
                    began.elapsed().as_nanos() as f64 / f64::from(CALLS)
                })
            },
        );
        table.row(
            format!("{size} B, bare typed function"),
            format!("{:.0} (best {:.0})", bare.median(), bare.min()),
        );
        table.row(
            format!("{size} B, through the host"),
            format!(
                "{:.0} (best {:.0}), {:.2}x",
                sandboxed.median(),
                sandboxed.min(),
                sandboxed.min() / bare.min()
            ),
        );
    }
    table
}
