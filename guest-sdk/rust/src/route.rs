//! Which function handles which topic, and the check that no two of them collide. Finding the route of a message is
//! the host's business.

use crate::context::Context;
use crate::error::Error;
use crate::layers::{AfterHook, BeforeHook, Check, Middleware};
use crate::request::Request;
use crate::response::Response;

/// What kind of message a route is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Changes something and may be answered; one handler per topic.
    Command,
    /// Asks something and is answered; one handler per topic.
    Query,
    /// Tells that something happened; every handler of the topic gets it, nobody answers.
    Event,
    /// Something to do at certain times; has a schedule instead of a topic, nobody answers.
    Periodic,
}

type Call = fn(Request, &Context) -> Result<Option<Response>, Error>;

/// One handler: what an attribute makes of a function.
#[derive(Debug, Clone, Copy)]
pub struct Route {
    pub(crate) kind: Kind,
    pub(crate) topic: &'static str,
    pub(crate) name: &'static str,
    pub(crate) description: &'static str,
    pub(crate) call: Call,
    pub(crate) middleware: &'static [Middleware],
    pub(crate) checks: &'static [Check],
}

impl Route {
    /// What kind of message it is for.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// The topic or pattern; the schedule of a periodic handler.
    #[must_use]
    pub const fn topic(&self) -> &'static str {
        self.topic
    }

    /// The name of the function.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// The first paragraph of the function's documentation.
    #[must_use]
    pub const fn description(&self) -> &'static str {
        self.description
    }
}

/// All handlers of a plugin and what runs around them, as [`plugin!`](crate::plugin) lists them.
#[derive(Debug, Clone, Copy)]
pub struct Plugin {
    pub(crate) routes: &'static [Route],
    pub(crate) before: &'static [BeforeHook],
    pub(crate) after: &'static [AfterHook],
    pub(crate) middleware: &'static [Middleware],
}

impl Plugin {
    /// The routes, in the order in which they were listed.
    #[must_use]
    pub const fn routes(&self) -> &'static [Route] {
        self.routes
    }
}

/// Implemented by the type that an attribute puts beside its function.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a handler",
    label = "not a handler",
    note = "put `#[command(\"topic\")]`, `#[query(\"topic\")]`, `#[event(\"topic\")]` or `#[periodic(\"schedule\")]` above the function"
)]
pub trait Handler {
    const ROUTE: Route;
}

#[doc(hidden)]
#[must_use]
pub const fn route(
    kind: Kind,
    topic: &'static str,
    name: &'static str,
    description: &'static str,
    call: Call,
    middleware: &'static [Middleware],
    checks: &'static [Check],
) -> Route {
    Route {
        kind,
        topic,
        name,
        description,
        call,
        middleware,
        checks,
    }
}

/// Checks the routes while compiling; a collision is an error of the compiler.
#[doc(hidden)]
#[must_use]
pub const fn plugin(
    routes: &'static [Route],
    before: &'static [BeforeHook],
    after: &'static [AfterHook],
    middleware: &'static [Middleware],
) -> Plugin {
    let mut rest = routes;
    while let [first, others @ ..] = rest {
        let mut later = others;
        while let [second, others @ ..] = later {
            if collide(first, second) {
                refuse(first, second);
            }
            later = others;
        }
        rest = others;
    }
    Plugin {
        routes,
        before,
        after,
        middleware,
    }
}

/// Whether two routes can't live in one plugin: a topic has one handler that may answer.
const fn collide(first: &Route, second: &Route) -> bool {
    answers(first.kind)
        && answers(second.kind)
        && equal(first.topic.as_bytes(), second.topic.as_bytes())
}

const fn answers(kind: Kind) -> bool {
    matches!(kind, Kind::Command | Kind::Query)
}

const fn equal(mut left: &[u8], mut right: &[u8]) -> bool {
    while let ([a, left_rest @ ..], [b, right_rest @ ..]) = (left, right) {
        if *a != *b {
            return false;
        }
        left = left_rest;
        right = right_rest;
    }
    left.is_empty() && right.is_empty()
}

const fn label(kind: Kind) -> &'static str {
    match kind {
        Kind::Command => "command",
        Kind::Query => "query",
        Kind::Event => "event",
        Kind::Periodic => "periodic",
    }
}

#[expect(
    clippy::panic,
    reason = "runs in the compiler, where a panic is the way to report an error"
)]
const fn refuse(first: &Route, second: &Route) -> ! {
    let text = Text::new()
        .add("topic `")
        .add(first.topic)
        .add("` has two handlers: ")
        .add(label(first.kind))
        .add(" `")
        .add(first.name)
        .add("` and ")
        .add(label(second.kind))
        .add(" `")
        .add(second.name)
        .add("`; a command or query topic has one");
    panic!("{}", text.as_str())
}

/// A text that is put together while compiling.
struct Text {
    bytes: [u8; 1024],
    len: usize,
}

impl Text {
    const fn new() -> Self {
        Self {
            bytes: [0; 1024],
            len: 0,
        }
    }

    /// Adds `text`, or leaves it out if it doesn't fit.
    #[expect(
        clippy::indexing_slicing,
        reason = "in bounds by the first line; iterators don't run in the compiler"
    )]
    const fn add(mut self, text: &str) -> Self {
        let text = text.as_bytes();
        if text.len() <= self.bytes.len() - self.len {
            let mut index = 0;
            while index < text.len() {
                self.bytes[self.len] = text[index];
                self.len += 1;
                index += 1;
            }
        }
        self
    }

    const fn as_str(&self) -> &str {
        match std::str::from_utf8(self.bytes.split_at(self.len).0) {
            Ok(text) => text,
            Err(_) => "topic has two handlers",
        }
    }
}
