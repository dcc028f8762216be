//! The world `sandbar:messaging/plugin@0.1`: its bindings, what it imports from the host, and how it is called.
//!
//! Everything that a guest asks for goes to its [`Call`], which decides; this file only translates.

use std::time::Duration;

use bytes::Bytes;
use wasmtime::Store;
use wasmtime::component::{HasSelf, InstancePre, Linker};

use self::bindings::exports::sandbar::messaging::handler as exported;
use self::bindings::sandbar::messaging::types;
use super::{DeclaredRoute, State};
use crate::call::Refusal;
use crate::dispatch::{Kind, Outcome};
use crate::message::{Headers, Message, Payload, Status, Strategy};
use crate::topic::TopicName;

mod imports;

mod bindings {
    wasmtime::component::bindgen!({
        path: "../wit/v0.1",
        world: "plugin",
        imports: {
            "sandbar:messaging/client.request": async,
            "sandbar:messaging/state.get": async,
            "sandbar:messaging/state.set": async,
            "sandbar:messaging/state.increment": async,
            "sandbar:messaging/state.list-keys": async,
            "sandbar:messaging/system.random": trappable,
        },
        exports: { default: async },
        ownership: Borrowing { duplicate_if_necessary: true },
    });
}

/// The export once more, for guests that never suspend: without the fiber that an asynchronous call needs.
mod direct {
    // `both` is never linked: it makes the generator tell messages that go in from messages that come out, as it does
    // for the whole world.
    wasmtime::component::bindgen!({
        path: "../wit/v0.1",
        inline: "
            package sandbar:host;
            interface both {
                use sandbar:messaging/types@0.1.0.{message};
                both: func(message: message) -> message;
            }
            world direct {
                import both;
                export sandbar:messaging/handler@0.1.0;
            }
        ",
        world: "sandbar:host/direct",
        ownership: Borrowing { duplicate_if_necessary: true },
        with: { "sandbar:messaging/types@0.1.0": super::bindings::sandbar::messaging::types },
    });
}

use self::direct::exports::sandbar::messaging::handler as called;

/// A component of this world, ready to be instantiated.
#[derive(Clone)]
pub(super) enum Pre {
    /// It imports nothing that waits: its calls run on the thread of their caller.
    Direct(direct::DirectPre<State>),
    /// It may wait for the host: its calls run on a fiber of their own.
    Suspending(bindings::PluginPre<State>),
}

/// One instance of it.
pub(super) enum World {
    Direct(direct::Direct),
    Suspending(bindings::Plugin),
}

/// Imports with functions that may wait.
const WAITING: [&str; 3] = [
    "sandbar:messaging/client@",
    "sandbar:messaging/state@",
    "wasi:",
];

/// What a component of this world must export.
pub(super) const EXPORT: &str = "sandbar:messaging/handler@0.1.0";

/// Gives the linker everything that this world may import.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    bindings::Plugin::add_to_linker::<State, HasSelf<State>>(linker, |state| state)
}

/// Whether the component is of this world. `imports` are the names of what it imports.
pub(super) fn probe(pre: InstancePre<State>, imports: &[String]) -> wasmtime::Result<Pre> {
    let waits = |import: &String| WAITING.iter().any(|name| import.starts_with(name));
    Ok(if imports.iter().any(waits) {
        Pre::Suspending(bindings::PluginPre::new(pre)?)
    } else {
        Pre::Direct(direct::DirectPre::new(pre)?)
    })
}

impl Pre {
    /// Whether a call may wait for the host.
    pub(super) fn suspends(&self) -> bool {
        matches!(self, Self::Suspending(_))
    }
}

/// Translates what the generated types of both exports say in the same words.
macro_rules! translate {
    ($module:ident, routes $routes:expr) => {
        $routes
            .into_iter()
            .map(|route| DeclaredRoute {
                topic: route.topic,
                kind: match route.kind {
                    $module::RouteKind::Command => Kind::Command,
                    $module::RouteKind::Query => Kind::Query,
                    $module::RouteKind::Event => Kind::Event,
                    $module::RouteKind::Periodic => Kind::Periodic,
                },
                description: route.description,
                content_schema: route.content_schema,
            })
            .collect()
    };
    ($module:ident, outcome $result:expr) => {
        match $result {
            Ok(None) => Outcome::Done(None),
            Ok(Some(reply)) => replied(reply),
            Err($module::Failure::Rejected(text)) => Outcome::Rejected(text),
            Err($module::Failure::Failed(text)) => Outcome::Failed(text),
            Err($module::Failure::Retry(later)) => Outcome::Retry {
                reason: later.reason,
                after: later.after_ms.map(Duration::from_millis),
            },
        }
    };
}

impl World {
    /// Whether a call may wait for the host.
    pub(super) fn suspends(&self) -> bool {
        matches!(self, Self::Suspending(_))
    }

    pub(super) async fn instantiate(pre: &Pre, store: &mut Store<State>) -> wasmtime::Result<Self> {
        match pre {
            Pre::Direct(pre) => pre.instantiate(store).map(Self::Direct),
            Pre::Suspending(pre) => {
                let ends = store.data().ends();
                let started = ends.of(pre.instantiate_async(store)).await;
                started.map(Self::Suspending)
            }
        }
    }

    pub(super) async fn routes(
        &self,
        store: &mut Store<State>,
    ) -> wasmtime::Result<Vec<DeclaredRoute>> {
        Ok(match self {
            Self::Direct(guest) => {
                let handler = guest.sandbar_messaging_handler();
                translate!(called, routes handler.call_routes(store)?)
            }
            Self::Suspending(guest) => {
                let handler = guest.sandbar_messaging_handler();
                let ends = store.data().ends();
                translate!(exported, routes ends.of(handler.call_routes(store)).await?)
            }
        })
    }

    /// The guest's own answer; an error is a trap.
    pub(super) async fn handle(
        &self,
        store: &mut Store<State>,
        message: &Message,
        circumstances: Circumstances,
    ) -> wasmtime::Result<Outcome> {
        match self {
            Self::Direct(guest) => direct(guest, store, message, circumstances),
            // Apart, since it is large: it would make every future that leads here as large, those of guests that never
            // suspend as well.
            Self::Suspending(guest) => {
                let ends = store.data().ends();
                Box::pin(ends.of(suspending(guest, store, message, circumstances))).await
            }
        }
    }
}

/// What a guest is told beside the message.
#[derive(Debug, Clone, Copy)]
pub(super) struct Circumstances {
    pub(super) attempt: u32,
    pub(super) route: u32,
    pub(super) budget: Duration,
}

/// Calls the export of either kind. A macro, since the generated types differ by name only.
macro_rules! handle {
    ($module:ident, $guest:ident, $store:ident, $message:ident, $circumstances:ident $(, $wait:tt)?) => {{
        let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
        let headers: Vec<(&str, &str)> = $message.payload.headers.iter().collect();
        let Circumstances {
            attempt,
            route,
            budget,
        } = $circumstances;
        let request = $module::Request {
            message: lowered($message, &mut id, &headers),
            attempt,
            budget_ms: u32::try_from(budget.as_millis()).unwrap_or(u32::MAX),
            route,
        };
        let handler = $guest.sandbar_messaging_handler();
        let result = handler.call_handle($store, request)$(.$wait)??;
        Ok(translate!($module, outcome result))
    }};
}

fn direct(
    guest: &direct::Direct,
    store: &mut Store<State>,
    message: &Message,
    circumstances: Circumstances,
) -> wasmtime::Result<Outcome> {
    handle!(called, guest, store, message, circumstances)
}

async fn suspending(
    guest: &bindings::Plugin,
    store: &mut Store<State>,
    message: &Message,
    circumstances: Circumstances,
) -> wasmtime::Result<Outcome> {
    handle!(exported, guest, store, message, circumstances, await)
}

/// A message as the guest gets it, borrowed from ours.
fn lowered<'a>(
    message: &'a Message,
    id: &'a mut [u8; uuid::fmt::Hyphenated::LENGTH],
    headers: &'a [(&'a str, &'a str)],
) -> types::MessageParam<'a> {
    types::MessageParam {
        id: message.identifier.hyphenated().encode_lower(id),
        topic: message.topic.as_str(),
        reply_topic: message.reply_topic.as_ref().map(TopicName::as_str),
        strategy: match message.strategy {
            Strategy::Unicast => types::Strategy::Unicast,
            Strategy::Multicast => types::Strategy::Multicast,
        },
        payload: types::PayloadParam {
            content: &message.payload.content,
            headers,
            status: match message.payload.status {
                Status::Success => types::Status::Success,
                Status::Error => types::Status::Error,
                Status::SystemError => types::Status::SystemError,
                Status::Unknown => types::Status::Unknown,
            },
        },
    }
}

fn replied(reply: types::PayloadResult) -> Outcome {
    match from_guest(reply, true) {
        Ok(payload) => Outcome::Done(Some(payload)),
        Err(refusal) => Outcome::Failed(format!("the reply was refused: {refusal}")),
    }
}

/// `changes`: an empty value is kept, because it removes a header of the request from the reply.
fn from_guest(payload: types::PayloadResult, changes: bool) -> Result<Payload, Refusal> {
    let mut headers = Headers::default();
    for (name, value) in &payload.headers {
        if headers.get(name).is_some() {
            return Err(Refusal::Invalid(format!(
                "header {name:?} comes twice; a name comes once"
            )));
        }
        if changes || !value.is_empty() {
            headers
                .insert(name, value)
                .map_err(|error| Refusal::Invalid(error.to_string()))?;
        }
    }
    Ok(Payload {
        content: Bytes::from(payload.content),
        headers,
        status: match payload.status {
            types::Status::Success => Status::Success,
            types::Status::Error => Status::Error,
            types::Status::SystemError => Status::SystemError,
            types::Status::Unknown => Status::Unknown,
        },
    })
}

fn topic(text: &str) -> Result<TopicName, Refusal> {
    text.parse()
        .map_err(|error| Refusal::Invalid(format!("{error}")))
}
