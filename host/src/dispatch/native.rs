//! Native Rust closures as actions, with the same semantics as plugins.
//!
//! They are part of the host: granted everything, not isolated, and the baseline of the benchmarks. What runs around
//! them is in `dispatch/enroute.rs`.

use std::fmt;
use std::panic::Location;
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;

use super::{
    Action, Answer, Conflict, Dispatcher, Identity, Kind, Outcome, Request, Response,
    ResponseError, Route,
};
use crate::call::{Access, Call};
use crate::context;
use crate::periodic::Schedule;
use crate::plugin::{Grants, Limits};
use crate::store::{Reason, Store};
use crate::topic::Pattern;

/// A function that handles messages: what the seed's `get_callback` makes of one. Cheap to clone.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use sandbar::dispatch::{Callback, Request, Response, ResponseError};
/// use sandbar::message::{Message, Payload};
///
/// let asynchronous = Callback::new(|request| async move { Ok(Response::new(request.content())) });
/// let synchronous = Callback::sync(|request| match request.has_content() {
///     true => Ok(Response::new(request.content())),
///     false => Err(ResponseError::rejected("there is no content")),
/// });
/// for callback in [asynchronous, synchronous] {
///     let message = Message::new("echo".parse()?, Payload::text("hello"));
///     assert_eq!(callback.call(Request::new(message)).await, Ok(Response::new("hello")));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Callback(Arc<dyn Fn(Request) -> BoxFuture<'static, Answer> + Send + Sync>);

impl Callback {
    /// A function whose result is awaited.
    #[must_use]
    pub fn new<F, Fut, R>(function: F) -> Self
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, ResponseError>> + Send + 'static,
        R: Into<Response>,
    {
        Self(Arc::new(move |request| {
            let answer = function(request);
            Box::pin(async move { answer.await.map(Into::into) })
        }))
    }

    /// A function whose result is there when it returns. It runs on the threads of the async runtime, so it must not
    /// block.
    #[must_use]
    pub fn sync<F, R>(function: F) -> Self
    where
        F: Fn(Request) -> Result<R, ResponseError> + Send + Sync + 'static,
        R: Into<Response>,
    {
        Self(Arc::new(move |request| {
            Box::pin(std::future::ready(function(request).map(Into::into)))
        }))
    }

    /// Calls it.
    ///
    /// # Errors
    /// As the function does.
    pub async fn call(&self, request: Request) -> Answer {
        (self.0)(request).await
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Callback")
    }
}

/// A callback among the others of its dispatcher.
#[derive(Debug)]
struct Native {
    callback: Callback,
    /// Shared by all of them.
    turns: Arc<OnceLock<Semaphore>>,
}

#[async_trait]
impl Action for Native {
    async fn call(&self, call: Call) -> (Call, Outcome) {
        let (attempt, access) = (call.attempt, call.access().clone());
        let (route, began_ms) = (call.route, call.began_ms);
        let concurrency = access.limits.concurrency.max(1);
        let turns = self.turns.get_or_init(|| Semaphore::new(concurrency));
        let _turn = match turns.try_acquire() {
            Ok(turn) => Some(turn),
            // The semaphore is never closed.
            Err(_) => turns.acquire().await.ok(),
        };
        let request = Request::of(call);
        let message = request.message().clone();
        // Called inside the scope: what a closure does before it returns its future is part of the action.
        let answer = context::scope(message.clone(), async {
            self.callback.call(request.clone()).await
        });
        let answer = tokio::time::timeout(access.limits.time, answer).await;
        let call = request.take();
        let call = call.unwrap_or_else(|| Call::new(access, message, attempt, route, began_ms));
        let outcome = match answer {
            Ok(Ok(response)) => Outcome::Done(Some(response.into())),
            Ok(Err(ResponseError::Rejected(text))) => Outcome::Rejected(text),
            Ok(Err(ResponseError::Failed(text))) => Outcome::Failed(text),
            Ok(Err(ResponseError::Retry(reason, after))) => Outcome::Retry { reason, after },
            Err(elapsed) => Outcome::Crashed {
                reason: Reason::Timeout,
                error: elapsed.to_string(),
            },
        };
        (call, outcome)
    }

    fn identity(&self) -> Identity {
        Identity::default()
    }
}

impl Access {
    /// What native actions share: the name `native`, all grants, the default limits, no client.
    #[must_use]
    pub fn native(store: Arc<dyn Store>) -> Self {
        Self {
            plugin: "native".into(),
            grants: Grants::all(),
            limits: Limits::default(),
            hits: Arc::default(),
            store,
            client: None,
            http: None,
        }
    }
}

impl Dispatcher {
    /// Adds an asynchronous native action.
    ///
    /// # Errors
    /// [`Conflict`] when the topic already has a command or query; it names the lines of both.
    ///
    /// ```
    /// use sandbar::dispatch::{Dispatcher, Kind};
    /// let mut dispatcher = Dispatcher::default();
    /// dispatcher.action(Kind::Query, "user.get".parse()?, |request| async move {
    ///     Ok(Some(request.raw().payload.clone()))
    /// })?;
    /// let twice = dispatcher.action(Kind::Command, "user.get".parse()?, |_| async { Ok(()) });
    /// assert!(twice.is_err_and(|conflict| conflict.first_place.contains(".rs:")));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn action<F, Fut, R>(
        &mut self,
        kind: Kind,
        topic: Pattern,
        action: F,
    ) -> Result<(), Conflict>
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, ResponseError>> + Send + 'static,
        R: Into<Response>,
    {
        self.callback(kind, topic, Callback::new(action))
    }

    /// Adds a synchronous native action, which must not block.
    ///
    /// # Errors
    /// As [`Dispatcher::action`].
    ///
    /// ```
    /// use sandbar::dispatch::{Dispatcher, Kind, Response};
    /// let mut dispatcher = Dispatcher::default();
    /// dispatcher.action_sync(Kind::Query, "double".parse()?, |request| {
    ///     Response::json(&(2 * request.json::<i64>()?))
    /// })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[track_caller]
    pub fn action_sync<F, R>(
        &mut self,
        kind: Kind,
        topic: Pattern,
        action: F,
    ) -> Result<(), Conflict>
    where
        F: Fn(Request) -> Result<R, ResponseError> + Send + Sync + 'static,
        R: Into<Response>,
    {
        self.callback(kind, topic, Callback::sync(action))
    }

    /// Adds a callback.
    ///
    /// # Errors
    /// As [`Dispatcher::action`].
    #[track_caller]
    pub fn callback(
        &mut self,
        kind: Kind,
        topic: Pattern,
        callback: Callback,
    ) -> Result<(), Conflict> {
        let place = Location::caller().to_string();
        self.add_native(kind, topic, None, String::new(), place, callback)
    }

    pub(super) fn add_native(
        &mut self,
        kind: Kind,
        topic: Pattern,
        schedule: Option<Schedule>,
        description: String,
        place: String,
        callback: Callback,
    ) -> Result<(), Conflict> {
        let index = u32::try_from(self.routes().len()).unwrap_or(u32::MAX);
        let turns = self.turns.clone();
        self.add(Route {
            topic,
            kind,
            schedule,
            description,
            place,
            index,
            number: 0,
            action: Arc::new(Native { callback, turns }),
        })
    }
}
