//! What runs around a native action: middleware, hooks before and after it, and checks. The order is that of the Rust
//! SDK (`guest-sdk/rust/src/layers.rs`):
//!
//! 1. the middleware of all, then that of the action, the first one listed outermost;
//! 2. the hooks before actions of this kind;
//! 3. the checks of the action;
//! 4. the action itself;
//! 5. if it succeeded, the hooks after actions of this kind.
//!
//! No routing happens here, and nothing waits: a check that isn't satisfied sends the message back to its queue.

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::Check;
use crate::dispatch::{Answer, Callback, Kind, Request, Response, ResponseError};

/// A function of `$from` that is awaited, behind one pointer.
macro_rules! function {
    ($(#[$doc:meta])* $name:ident($($argument:ident: $from:ty),+) -> $to:ty) => {
        $(#[$doc])*
        pub(super) struct $name(Box<dyn Fn($($from),+) -> BoxFuture<'static, $to> + Send + Sync>);

        impl $name {
            pub(super) fn new<F, Fut>(function: F) -> Self
            where
                F: Fn($($from),+) -> Fut + Send + Sync + 'static,
                Fut: Future<Output = $to> + Send + 'static,
            {
                Self(Box::new(move |$($argument),+| Box::pin(function($($argument),+))))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(stringify!($name))
            }
        }
    };
}

function!(
    /// Runs before an action.
    Before(request: Request) -> Result<(), ResponseError>
);
function!(
    /// Runs after an action that has succeeded.
    After(request: Request, response: Response) -> Answer
);
function!(
    /// Runs around an action.
    Middleware(request: Request, next: Next) -> Answer
);
function!(
    /// Says whether an action may run.
    Condition(request: Request) -> Result<bool, ResponseError>
);

/// What runs around all actions; hooks with their kind, or `None` for all kinds.
#[derive(Debug, Default)]
pub(super) struct Around {
    pub(super) middleware: Vec<Middleware>,
    pub(super) before: Vec<(Option<Kind>, Before)>,
    pub(super) after: Vec<(Option<Kind>, After)>,
}

/// An action with what runs around it alone.
#[derive(Debug)]
pub(super) struct Layered {
    kind: Kind,
    callback: Callback,
    pub(super) middleware: Vec<Middleware>,
    pub(super) checks: Vec<Check>,
}

/// The rest of the way to the action: what middleware calls to go on, or doesn't call to answer by itself.
///
/// ```
/// use sandbar::dispatch::enroute::{self, Enroute, Next};
/// use sandbar::dispatch::{Answer, Request, ResponseError};
///
/// /// Lets only members of staff in.
/// async fn staff(request: Request, next: Next) -> Answer {
///     match request.headers().get("role") {
///         Some("staff") => next.run(request).await,
///         _ => Err(ResponseError::rejected("header `role`: only `staff` may do this")),
///     }
/// }
///
/// let close = enroute::command("shop.close", |_| async { Ok(()) }).middleware(staff);
/// Enroute::new().action(close).dispatcher()?;
/// # Ok::<(), sandbar::dispatch::enroute::EnrouteError>(())
/// ```
#[derive(Debug)]
#[must_use = "the action is not called before `run` is"]
pub struct Next {
    around: Arc<Around>,
    layered: Arc<Layered>,
    /// How many middlewares have been entered, those of all first.
    entered: usize,
}

impl Next {
    /// Calls the next middleware, or the action with its hooks and checks.
    ///
    /// # Errors
    /// What the action or a hook, a check or another middleware ended with.
    pub async fn run(self, request: Request) -> Answer {
        let Self {
            around,
            layered,
            entered,
        } = self;
        let next = Self {
            around: around.clone(),
            layered: layered.clone(),
            entered: entered + 1,
        };
        let mut all = around.middleware.iter().chain(&layered.middleware);
        match all.nth(entered) {
            Some(middleware) => (middleware.0)(request, next).await,
            None => layered.handle(&around, request).await,
        }
    }
}

impl Layered {
    pub(super) fn new(kind: Kind, callback: Callback) -> Self {
        Self {
            kind,
            callback,
            middleware: Vec::new(),
            checks: Vec::new(),
        }
    }

    /// The action with everything around it.
    pub(super) fn callback(self, around: &Arc<Around>) -> Callback {
        let (around, layered) = (around.clone(), Arc::new(self));
        Callback::new(move |request| {
            let all = Next {
                around: around.clone(),
                layered: layered.clone(),
                entered: 0,
            };
            all.run(request)
        })
    }

    /// The action with its hooks and checks.
    async fn handle(&self, around: &Around, request: Request) -> Answer {
        let concerned = |kind: Option<Kind>| kind.is_none_or(|kind| kind == self.kind);
        for (_, hook) in around.before.iter().filter(|(kind, _)| concerned(*kind)) {
            (hook.0)(request.clone()).await?;
        }
        for check in &self.checks {
            check.make(&request).await?;
        }
        let mut response = self.callback.call(request.clone()).await?;
        for (_, hook) in around.after.iter().filter(|(kind, _)| concerned(*kind)) {
            response = (hook.0)(request.clone(), response).await?;
        }
        Ok(response)
    }
}

impl Check {
    /// An error unless it is satisfied: another attempt later, or a rejection after the last one.
    async fn make(&self, request: &Request) -> Result<(), ResponseError> {
        let Self {
            name, max_attempts, ..
        } = self;
        if (self.run.0)(request.clone()).await? {
            Ok(())
        } else if request.attempt() >= *max_attempts {
            let text = format!("check `{name}` was not satisfied in {max_attempts} attempts");
            Err(ResponseError::rejected(text))
        } else {
            let text = format!("check `{name}` is not satisfied");
            Err(ResponseError::retry_after(text, self.delay))
        }
    }
}
