//! The limit of a call: the engine's typed function on the same component and nothing around it. No time limit, no
//! memory limit, no fiber, nothing that a host needs.

use sandbar::message::{Message, Strategy};
use sandbar::topic::TopicName;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Config, Enabled, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit/v0.1",
        world: "plugin",
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

use bindings::exports::sandbar::messaging::handler as exported;
use bindings::sandbar::messaging::{log, types};

/// All that the store needs: `echo` imports the log and nothing else.
struct Nothing;
impl types::Host for Nothing {}
impl log::Host for Nothing {
    fn log(&mut self, _: log::Level, _: String, _: Vec<(String, String)>) {}
}

/// A compiled component.
pub(crate) struct Compiled {
    engine: wasmtime::Engine,
    ready: bindings::PluginPre<Nothing>,
}

/// An instance of it.
pub(crate) struct Bare {
    store: Store<Nothing>,
    plugin: bindings::Plugin,
}

impl Compiled {
    /// With an allocation for each instance: the best for one that stays.
    pub(crate) fn new(bytes: &[u8]) -> Self {
        Self::with(&config(), bytes).unwrap()
    }

    /// The same with the checks in the guest's code by which a host could end it, and nobody who does.
    pub(crate) fn interruptible(bytes: &[u8]) -> Self {
        Self::with(config().epoch_interruption(true), bytes).unwrap()
    }

    /// With the allocator that makes fresh instances cheapest, and what it is set to.
    pub(crate) fn pooled(bytes: &[u8]) -> (Self, &'static str) {
        let allocator = |scan: Enabled| {
            let mut pool = PoolingAllocationConfig::new();
            pool.total_memories(64)
                .total_tables(256)
                .total_core_instances(256)
                .total_component_instances(64)
                .max_unused_warm_slots(64)
                .linear_memory_keep_resident(1024 * 1024)
                .table_keep_resident(1024 * 1024)
                .pagemap_scan(scan);
            let mut config = config();
            config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
            config
        };
        match Self::with(&allocator(Enabled::Yes), bytes) {
            Ok(compiled) => (compiled, "pool, `pagemap_scan`, 1 MiB kept resident"),
            Err(_) => (
                Self::with(&allocator(Enabled::No), bytes).unwrap(),
                "pool, 1 MiB kept resident; this kernel has no `pagemap_scan`",
            ),
        }
    }

    fn with(config: &Config, bytes: &[u8]) -> wasmtime::Result<Self> {
        let engine = wasmtime::Engine::new(config)?;
        let component = Component::new(&engine, bytes)?;
        let mut linker: Linker<Nothing> = Linker::new(&engine);
        types::add_to_linker::<_, HasSelf<_>>(&mut linker, |it| it)?;
        log::add_to_linker::<_, HasSelf<_>>(&mut linker, |it| it)?;
        let ready = bindings::PluginPre::new(linker.instantiate_pre(&component)?)?;
        Ok(Self { engine, ready })
    }

    pub(crate) fn instance(&self) -> Bare {
        let mut store = Store::new(&self.engine, Nothing);
        // Means something to an interruptible one only: never.
        store.set_epoch_deadline(u64::MAX / 2);
        let plugin = self.ready.instantiate(&mut store).unwrap();
        Bare { store, plugin }
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .concurrency_support(false)
        .gc_support(false)
        .wasm_gc(false);
    config
}

impl Bare {
    /// Handles a message `count` times; the content of the last reply. `id` is the message's identifier as text.
    pub(crate) fn calls(&mut self, message: &Message, id: &str, count: u32) -> Vec<u8> {
        let mut last = Vec::new();
        for _ in 0..count {
            last = self.call(message, id);
            assert_eq!(last.len(), message.payload.content.len(), "void");
        }
        last
    }

    fn call(&mut self, message: &Message, id: &str) -> Vec<u8> {
        let headers: Vec<(&str, &str)> = message.payload.headers.iter().collect();
        let request = exported::Request {
            message: types::MessageParam {
                id,
                topic: message.topic.as_str(),
                reply_topic: message.reply_topic.as_ref().map(TopicName::as_str),
                strategy: match message.strategy {
                    Strategy::Unicast => types::Strategy::Unicast,
                    Strategy::Multicast => types::Strategy::Multicast,
                },
                payload: types::PayloadParam {
                    content: &message.payload.content,
                    headers: &headers,
                    status: types::Status::Success,
                },
            },
            attempt: 1,
            budget_ms: 5000,
            route: 0,
        };
        let handler = self.plugin.sandbar_messaging_handler();
        let reply = handler.call_handle(&mut self.store, request);
        reply.unwrap().unwrap().unwrap().content
    }
}
