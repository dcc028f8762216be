//! What runs around a handler: middleware, hooks before and after it, and checks. The order is
//!
//! 1. the middleware of the plugin, then that of the handler, the first one listed outermost;
//! 2. the hooks before handlers of this kind;
//! 3. the checks of the handler;
//! 4. the handler itself;
//! 5. if it succeeded, the hooks after handlers of this kind.
//!
//! No routing happens here, and nothing waits: a check that isn't satisfied sends the message back to its queue.

use std::fmt;
use std::time::Duration;

use crate::context::Context;
use crate::error::{Error, Result};
use crate::request::Request;
use crate::response::Response;
use crate::route::{Kind, Plugin, Route};

/// A function around a handler.
pub type Middleware = fn(Request, &Context, Next<'_>) -> Result<Response>;

/// The rest of the way to the handler: what middleware calls to go on, or doesn't call to answer by itself.
///
/// ```
/// use sandbar_guest::{Context, Error, Next, Request, Response, Result, command, middleware};
///
/// /// Writes a line about each call.
/// #[middleware]
/// fn audit(request: Request, ctx: &Context, next: Next<'_>) -> Result<Response> {
///     let topic = request.topic().to_owned();
///     let response = next.run(request);
///     sandbar_guest::info!(topic = topic, ok = response.is_ok(), "handled");
///     response
/// }
///
/// /// Lets only members of staff in.
/// #[middleware]
/// fn staff(request: Request, next: Next<'_>) -> Result<Response> {
///     match request.header("role") {
///         Some("staff") => next.run(request),
///         _ => Err(Error::rejected("header `role`: only `staff` may do this")),
///     }
/// }
///
/// #[command("shop.close", middleware(staff))]
/// fn close() {}
///
/// sandbar_guest::plugin! {
///     handlers: close;
///     middleware: audit;
/// }
/// # fn main() {}
/// ```
#[must_use = "the handler is not called before `run` is"]
pub struct Next<'a> {
    plugin: &'a Plugin,
    route: &'a Route,
    context: &'a Context,
    /// How many middlewares have been entered, those of the plugin first.
    entered: usize,
}

impl Next<'_> {
    /// Calls the next middleware, or the handler with its hooks and checks. A handler that replies with nothing gives an
    /// empty success.
    ///
    /// # Errors
    /// What the handler or a hook, a check or another middleware ended with.
    pub fn run(self, request: Request) -> Result<Response> {
        match self.middleware() {
            Some(middleware) => {
                let context = self.context;
                middleware(
                    request,
                    context,
                    Next {
                        entered: self.entered + 1,
                        ..self
                    },
                )
            }
            None => Ok(self.handle(request)?.unwrap_or_default()),
        }
    }

    /// The next middleware.
    fn middleware(&self) -> Option<Middleware> {
        let mut all = self.plugin.middleware.iter().chain(self.route.middleware);
        all.nth(self.entered).copied()
    }

    /// The handler with its hooks and checks.
    fn handle(&self, request: Request) -> Result<Option<Response>> {
        let Self {
            plugin,
            route,
            context,
            ..
        } = self;
        let concerned = |kind: Option<Kind>| kind.is_none_or(|kind| kind == route.kind);
        for hook in plugin.before.iter().filter(|hook| concerned(hook.kind)) {
            (hook.run)(&request, context)?;
        }
        for check in route.checks {
            check.make(&request, context)?;
        }
        let mut response = (route.call)(request, context)?;
        for hook in plugin.after.iter().filter(|hook| concerned(hook.kind)) {
            (hook.run)(response.get_or_insert_default(), context)?;
        }
        Ok(response)
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Next")
            .field("handler", &self.route.name)
            .finish_non_exhaustive()
    }
}

/// Runs a handler with everything around it.
pub(crate) fn run(
    plugin: &Plugin,
    route: &Route,
    request: Request,
    context: &Context,
) -> Result<Option<Response>> {
    let all = Next {
        plugin,
        route,
        context,
        entered: 0,
    };
    match all.middleware() {
        Some(_) => all.run(request).map(Some),
        None => all.handle(request),
    }
}

/// What `#[before]` makes of a function.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct BeforeHook {
    /// Before handlers of which kind; `None` for all.
    pub kind: Option<Kind>,
    pub run: fn(&Request, &Context) -> Result<()>,
}

/// What `#[after]` makes of a function.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct AfterHook {
    /// After handlers of which kind; `None` for all.
    pub kind: Option<Kind>,
    pub run: fn(&mut Response, &Context) -> Result<()>,
}

/// A condition of a handler.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Check {
    name: &'static str,
    run: fn(&Request, &Context) -> Result<bool>,
    max_attempts: u32,
    delay_ms: u64,
}

#[doc(hidden)]
#[must_use]
pub const fn check(
    name: &'static str,
    run: fn(&Request, &Context) -> Result<bool>,
    max_attempts: u32,
    delay_ms: u64,
) -> Check {
    Check {
        name,
        run,
        max_attempts,
        delay_ms,
    }
}

impl Check {
    /// An error unless it is satisfied: another attempt later, or a rejection after the last one.
    fn make(&self, request: &Request, context: &Context) -> Result<()> {
        let Self {
            name, max_attempts, ..
        } = self;
        if (self.run)(request, context)? {
            Ok(())
        } else if context.attempt() >= *max_attempts {
            let text = format!("check `{name}` was not satisfied in {max_attempts} attempts");
            Err(Error::rejected(text))
        } else {
            let delay = Duration::from_millis(self.delay_ms);
            Err(Error::retry_after(
                format!("check `{name}` is not satisfied"),
                delay,
            ))
        }
    }
}

/// Implemented by the type that `#[before]` puts beside its function.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a `before` hook",
    label = "not a `before` hook",
    note = "put `#[before(command)]` (or `query`, `event`, `periodic`, `all`) above the function"
)]
pub trait Before {
    const HOOK: BeforeHook;
}

/// Implemented by the type that `#[after]` puts beside its function.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an `after` hook",
    label = "not an `after` hook",
    note = "put `#[after(command)]` (or `query`, `event`, `periodic`, `all`) above the function"
)]
pub trait After {
    const HOOK: AfterHook;
}

/// Implemented by the type that `#[middleware]` puts beside its function.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not middleware",
    label = "not middleware",
    note = "put `#[middleware]` above the function"
)]
pub trait Around {
    const MIDDLEWARE: Middleware;
}

/// What a hook or middleware may return: `T`, or a `Result` of it with any error that `?` takes.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be the result of this hook or middleware",
    label = "expected `{T}` or `Result<{T}>`"
)]
pub trait Ends<T> {
    fn end(self) -> Result<T>;
}

impl<T> Ends<T> for T {
    fn end(self) -> Result<T> {
        Ok(self)
    }
}

impl<T, E: Into<Error>> Ends<T> for Result<T, E> {
    fn end(self) -> Result<T> {
        self.map_err(Into::into)
    }
}
