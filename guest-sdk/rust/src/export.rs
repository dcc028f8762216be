//! From a list of functions to a component: the `plugin!` macro and the two functions that the host calls.
//!
//! No routing happens here: the host says which route a message is for.

#[cfg(target_arch = "wasm32")]
pub mod stdio;

use std::rc::Rc;

use crate::bindings::exports::sandbar::messaging::handler as wit;
use crate::bindings::sandbar::messaging::types;
use crate::context;
use crate::error::{Error, Failure};
use crate::layers;
use crate::publish::Strategy;
use crate::request::{Meta, Request};
use crate::response::{Response, Status};
use crate::route::{Kind, Plugin};

/// Makes a component of the listed handlers.
///
/// To be called once, at the top of the crate. It also defines `PLUGIN`, which
/// [`testing::Host`](crate::testing::Host) runs in tests. Two handlers that are commands or queries can't have the
/// same topic; the compiler says which ones do.
///
/// ```
/// use sandbar_guest::{command, event};
///
/// #[command("order.create")]
/// fn create(order: String) -> String {
///     format!("created {order}")
/// }
///
/// #[event("order.created")]
/// fn on_created() {}
///
/// sandbar_guest::plugin!(create, on_created);
/// # fn main() {}
/// ```
///
/// Hooks and middleware for all handlers have lists of their own, in this order, each of which may be left out:
///
/// ```
/// use sandbar_guest::{Context, Error, Next, Request, Response, Result};
/// use sandbar_guest::{after, before, command, middleware};
///
/// #[before(command)]
/// fn log_in(request: &Request) -> Result<()> {
///     match request.header("user") {
///         Some(_) => Ok(()),
///         None => Err(Error::rejected("header `user`: a user is needed")),
///     }
/// }
///
/// #[after(all)]
/// fn sign(response: &mut Response, ctx: &Context) {
///     response.set_header("shop", ctx.config().get("shop").unwrap_or_default());
/// }
///
/// #[middleware]
/// fn audit(request: Request, next: Next<'_>) -> Result<Response> {
///     let response = next.run(request);
///     sandbar_guest::info!(ok = response.is_ok(), "handled");
///     response
/// }
///
/// #[command("order.create")]
/// fn create() {}
///
/// sandbar_guest::plugin! {
///     handlers: create;
///     before: log_in;
///     after: sign;
///     middleware: audit;
/// }
/// # fn main() {}
/// ```
///
/// Standard output and error go to the host's log, and the environment is empty. A plugin that needs WASI's own
/// instead (it uses files, or a library that reads the environment) says so, and then needs a host that offers it:
///
/// ```
/// # use sandbar_guest::command;
/// # #[command("order.create")]
/// # fn create() {}
/// sandbar_guest::plugin!(with wasi: create);
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! plugin {
    (with wasi: $($lists:tt)+) => {
        $crate::__plugin!($($lists)+);
    };
    ($($lists:tt)+) => {
        $crate::__plugin!($($lists)+);

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            use $crate::__private::stdio;

            #[unsafe(no_mangle)]
            unsafe extern "C" fn write(fd: i32, start: *const u8, len: usize) -> isize {
                unsafe { stdio::write(fd, start, len) }
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn writev(fd: i32, pieces: *const stdio::IoVec, count: i32) -> isize {
                unsafe { stdio::writev(fd, pieces, count) }
            }

            #[unsafe(no_mangle)]
            extern "C" fn getenv(_: *const ::core::ffi::c_char) -> *mut ::core::ffi::c_char {
                stdio::getenv()
            }
        };
    };
}

/// What both forms of `plugin!` have in common.
#[doc(hidden)]
#[macro_export]
macro_rules! __plugin {
    (
        handlers: $($handler:path),+ $(,)?
        $(; before: $($before:path),+ $(,)?)?
        $(; after: $($after:path),+ $(,)?)?
        $(; middleware: $($middleware:path),+ $(,)?)?
        $(;)?
    ) => {
        /// The handlers of this plugin.
        pub static PLUGIN: $crate::Plugin = $crate::__private::plugin(
            &[$(<$handler as $crate::__private::Handler>::ROUTE),+],
            &[$($(<$before as $crate::__private::Before>::HOOK),+)?],
            &[$($(<$after as $crate::__private::After>::HOOK),+)?],
            &[$($(<$middleware as $crate::__private::Around>::MIDDLEWARE),+)?],
        );

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            struct Component;

            impl $crate::__private::Entry for Component {
                const PLUGIN: &'static $crate::Plugin = &PLUGIN;
            }

            $crate::__private::bindings::export_component!(
                Component with_types_in $crate::__private::bindings
            );

            #[unsafe(link_section = "sandbar:sdk")]
            #[used]
            static STAMP: [u8; $crate::__private::stamp_len()] = $crate::__private::stamp();
        };
    };
    ($($handler:path),+ $(,)?) => {
        $crate::__plugin!(handlers: $($handler),+);
    };
}

/// What the custom section `sandbar:sdk` says. For people (`inspect`, logs) only: nothing is decided by it.
const STAMP: &str = concat!(
    r#"{"sdk":"sandbar-guest","version":""#,
    env!("CARGO_PKG_VERSION"),
    r#"","language":"rust"}"#
);

#[doc(hidden)]
#[must_use]
pub const fn stamp_len() -> usize {
    STAMP.len()
}

#[doc(hidden)]
#[must_use]
#[expect(
    clippy::indexing_slicing,
    reason = "runs in the compiler, over two arrays of the same length"
)]
pub const fn stamp() -> [u8; STAMP.len()] {
    let mut bytes = [0; STAMP.len()];
    let mut index = 0;
    while index < bytes.len() {
        bytes[index] = STAMP.as_bytes()[index];
        index += 1;
    }
    bytes
}

/// Implemented by what `plugin!` exports.
#[doc(hidden)]
pub trait Entry {
    const PLUGIN: &'static Plugin;
}

impl<T: Entry> wit::Guest for T {
    fn routes() -> Vec<wit::Route> {
        report_panics();
        T::PLUGIN
            .routes()
            .iter()
            .map(|route| wit::Route {
                topic: route.topic.to_owned(),
                kind: match route.kind {
                    Kind::Command => wit::RouteKind::Command,
                    Kind::Query => wit::RouteKind::Query,
                    Kind::Event => wit::RouteKind::Event,
                    Kind::Periodic => wit::RouteKind::Periodic,
                },
                description: route.description.to_owned(),
                content_schema: None,
            })
            .collect()
    }

    fn handle(request: wit::Request) -> Result<Option<types::Payload>, wit::Failure> {
        report_panics();
        let wit::Request {
            message,
            attempt,
            budget_ms,
            route,
        } = request;
        let meta = Meta {
            id: message.id,
            topic: message.topic,
            reply_topic: message.reply_topic,
            strategy: message.strategy.into(),
            headers: message.payload.headers.into(),
            status: message.payload.status.into(),
            attempt,
            budget_ms,
        };
        call(T::PLUGIN, route, meta, message.payload.content)
            .map(|reply| reply.map(Into::into))
            .map_err(Into::into)
    }
}

/// Runs the handler of a route.
pub(crate) fn call(
    plugin: &Plugin,
    route: u32,
    meta: Meta,
    content: Vec<u8>,
) -> Result<Option<Response>, Error> {
    let route = usize::try_from(route)
        .ok()
        .and_then(|index| plugin.routes().get(index))
        .ok_or_else(|| Error::failed(format!("the plugin has no route {route}")))?;
    let meta = Rc::new(meta);
    let request = Request {
        meta: Rc::clone(&meta),
        content,
    };
    context::enter(meta, |context| layers::run(plugin, route, request, context))
}

/// Sends the text and the place of a panic to the host's log before it becomes a trap, which has neither.
fn report_panics() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        std::panic::set_hook(Box::new(|panic| {
            let text = panic.payload_as_str().unwrap_or("panic without a text");
            let place = panic.location().map(ToString::to_string);
            let fields = place.map(|place| ("location".to_owned(), place));
            crate::log::log(
                crate::log::Level::Error,
                &format!("handler panicked: {text}"),
                fields.into_iter().collect(),
            );
        }));
    });
}

impl From<types::Strategy> for Strategy {
    fn from(strategy: types::Strategy) -> Self {
        match strategy {
            types::Strategy::Unicast => Self::Unicast,
            types::Strategy::Multicast => Self::Multicast,
        }
    }
}

impl From<types::Status> for Status {
    fn from(status: types::Status) -> Self {
        match status {
            types::Status::Success => Self::Success,
            types::Status::Error => Self::Error,
            types::Status::SystemError => Self::SystemError,
            types::Status::Unknown => Self::Unknown,
        }
    }
}

impl From<Status> for types::Status {
    fn from(status: Status) -> Self {
        match status {
            Status::Success => Self::Success,
            Status::Error => Self::Error,
            Status::SystemError => Self::SystemError,
            Status::Unknown => Self::Unknown,
        }
    }
}

impl From<Response> for types::Payload {
    fn from(response: Response) -> Self {
        Self {
            content: response.content,
            headers: response.headers,
            status: response.status.into(),
        }
    }
}

impl From<Error> for wit::Failure {
    fn from(error: Error) -> Self {
        match error.0 {
            Failure::Rejected(text) => Self::Rejected(text),
            Failure::Failed(text) => Self::Failed(text),
            Failure::Retry { reason, after } => Self::Retry(wit::RetryLater {
                reason,
                after_ms: after.map(|after| u64::try_from(after.as_millis()).unwrap_or(u64::MAX)),
            }),
        }
    }
}
