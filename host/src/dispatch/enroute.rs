//! Declares native actions with everything that runs around them: the seed's `enroute`, as the attributes of the Rust
//! SDK are for plugins.
//!
//! Only declares: what runs around an action, and in which order, is in `dispatch/enroute/layers.rs`; how its messages
//! come, fail and come again is the same as for any other action.

use std::panic::Location;
use std::sync::Arc;
use std::time::Duration;

use super::{Answer, Callback, Conflict, Dispatcher, Kind, Request, Response, ResponseError};
use crate::periodic::{Schedule, ScheduleError};
use crate::topic::{Pattern, TopicError};

mod layers;

pub use layers::Next;
use layers::{After, Around, Before, Layered, Middleware};

/// The name of whoever serves native actions, and so the topic of what is periodic among them.
const PERIODIC: &str = "periodic.native";

/// Native actions with hooks and middleware: the seed's `enroute` decorators and `EnrouteFactory`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use sandbar::backend::MemoryBackend;
/// use sandbar::call::Access;
/// use sandbar::dispatch::enroute::{self, Check, Enroute};
/// use sandbar::dispatch::{Kind, Response, ResponseError};
/// use sandbar::message::{Message, Payload};
///
/// let dispatcher = Enroute::new()
///     .middleware(|request, next| async move {
///         let topic = request.raw().topic.clone();
///         Ok(next.run(request).await?.header("handled-by", topic.as_str()))
///     })
///     .before(Kind::Command, |request| async move {
///         let user = request.user().ok_or_else(|| ResponseError::rejected("a user is needed"))?;
///         tracing::info!(%user, "a command");
///         Ok(())
///     })
///     .after(None, |_, response| async move { Ok(response.header("shop", "corner")) })
///     .action(enroute::command("shop.close", |_| async { Ok(()) }))
///     .action(
///         enroute::query("shop.name", |_| async { Ok(Response::text("The Corner")) })
///             .check(Check::new("is_open", |_| async { Ok(true) }).max_attempts(3)),
///     )
///     .action(enroute::event("shop.closed", |_| async { Ok(()) }))
///     .action(enroute::periodic("0 3 * * *", |_| async { Ok(()) }))
///     .dispatcher()?;
///
/// let access = Arc::new(Access::native(Arc::new(MemoryBackend::new())));
/// let message = Message::new("shop.name".parse()?, Payload::default());
/// let ends = dispatcher.dispatch(message.with_reply_topic("replies".parse()?), &access).await;
/// let reply = &ends[0].effects.publishes[0].message.payload;
/// assert_eq!(&reply.content[..], b"The Corner");
/// assert_eq!(reply.headers.get("shop"), Some("corner"));
/// assert_eq!(reply.headers.get("handled-by"), Some("shop.name"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
#[must_use = "nothing is served before `dispatcher` is"]
pub struct Enroute {
    around: Around,
    declared: Vec<Declaration>,
}

/// One action with what runs around it alone.
#[derive(Debug)]
#[must_use = "`Enroute::action` takes it"]
pub struct Declaration {
    kind: Kind,
    /// A topic, a pattern, or a schedule.
    when: String,
    place: &'static Location<'static>,
    description: String,
    layered: Layered,
}

/// A condition of an action: a message that comes while it isn't satisfied is put off, and rejected after the last
/// attempt. Nothing waits meanwhile: the message is back in its queue.
///
/// Five attempts, 100 ms apart, unless it says otherwise; they are the attempts of the message.
#[derive(Debug)]
pub struct Check {
    name: &'static str,
    run: layers::Condition,
    max_attempts: u32,
    delay: Duration,
}

/// A declaration that cannot be served, with its place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnrouteError {
    /// Its topic.
    #[error("{place}: {error}")]
    Topic {
        /// File, line and column.
        place: String,
        /// What is wrong.
        error: TopicError,
    },
    /// Its schedule.
    #[error("{place}: {error}")]
    Schedule {
        /// File, line and column.
        place: String,
        /// What is wrong.
        error: ScheduleError,
    },
    /// Another one for the same topic.
    #[error(transparent)]
    Conflict(#[from] Conflict),
}

/// Changes something and may be answered; a topic has one handler for commands and queries.
#[track_caller]
pub fn command<F, Fut, R>(topic: &str, action: F) -> Declaration
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, ResponseError>> + Send + 'static,
    R: Into<Response>,
{
    declare(Kind::Command, topic, Callback::new(action))
}

/// Asks something and is answered; a topic has one handler for commands and queries.
#[track_caller]
pub fn query<F, Fut, R>(topic: &str, action: F) -> Declaration
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, ResponseError>> + Send + 'static,
    R: Into<Response>,
{
    declare(Kind::Query, topic, Callback::new(action))
}

/// Tells that something happened; any number of actions may handle the same event, each with attempts of its own.
#[track_caller]
pub fn event<F, Fut, R>(topic: &str, action: F) -> Declaration
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, ResponseError>> + Send + 'static,
    R: Into<Response>,
{
    declare(Kind::Event, topic, Callback::new(action))
}

/// Something to do at certain times, given as a cron expression in UTC: minute, hour, day of month, month, day of week.
///
/// One run of it is under way at a time, and one that was missed is not made up for. The header `due` says when it was
/// due.
#[track_caller]
pub fn periodic<F, Fut, R>(schedule: &str, action: F) -> Declaration
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, ResponseError>> + Send + 'static,
    R: Into<Response>,
{
    declare(Kind::Periodic, schedule, Callback::new(action))
}

#[track_caller]
fn declare(kind: Kind, when: &str, callback: Callback) -> Declaration {
    Declaration {
        kind,
        when: when.to_owned(),
        place: Location::caller(),
        description: String::new(),
        layered: Layered::new(kind, callback),
    }
}

impl Declaration {
    /// One line for people.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = text.into();
        self
    }

    /// Runs around this action, inside the middleware of all; the first one listed is outermost.
    pub fn middleware<F, Fut>(mut self, middleware: F) -> Self
    where
        F: Fn(Request, Next) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        self.layered.middleware.push(Middleware::new(middleware));
        self
    }

    /// Is asked before this action.
    pub fn check(mut self, check: Check) -> Self {
        self.layered.checks.push(check);
        self
    }
}

impl Check {
    /// A condition with the name that refusals say.
    pub fn new<F, Fut>(name: &'static str, condition: F) -> Self
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<bool, ResponseError>> + Send + 'static,
    {
        Self {
            name,
            run: layers::Condition::new(condition),
            max_attempts: 5,
            delay: Duration::from_millis(100),
        }
    }

    /// At this attempt of the message it is rejected.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// How long the message is put off.
    #[must_use]
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }
}

impl Enroute {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// An action.
    pub fn action(mut self, declaration: Declaration) -> Self {
        self.declared.push(declaration);
        self
    }

    /// Runs before every action of a kind, or of all kinds (`None`). An error ends the call.
    pub fn before<F, Fut>(mut self, kind: impl Into<Option<Kind>>, hook: F) -> Self
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), ResponseError>> + Send + 'static,
    {
        self.around.before.push((kind.into(), Before::new(hook)));
        self
    }

    /// Runs after every action of a kind that has succeeded, or of all kinds (`None`). It returns the response, changed
    /// or not; an error ends the call.
    pub fn after<F, Fut>(mut self, kind: impl Into<Option<Kind>>, hook: F) -> Self
    where
        F: Fn(Request, Response) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        self.around.after.push((kind.into(), After::new(hook)));
        self
    }

    /// Runs around every action; the first one listed is outermost.
    pub fn middleware<F, Fut>(mut self, middleware: F) -> Self
    where
        F: Fn(Request, Next) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Answer> + Send + 'static,
    {
        self.around.middleware.push(Middleware::new(middleware));
        self
    }

    /// The table of all of them.
    ///
    /// # Errors
    /// [`EnrouteError`] at the first declaration that cannot be served; it says in which line.
    pub fn dispatcher(self) -> Result<Dispatcher, EnrouteError> {
        let around = Arc::new(self.around);
        let mut dispatcher = Dispatcher::default();
        for declaration in self.declared {
            let Declaration {
                kind,
                when,
                place,
                description,
                layered,
            } = declaration;
            let place = place.to_string();
            let (topic, schedule) = if kind == Kind::Periodic {
                match when.parse::<Schedule>() {
                    Ok(schedule) => (PERIODIC, Some(schedule)),
                    Err(error) => return Err(EnrouteError::Schedule { place, error }),
                }
            } else {
                (when.as_str(), None)
            };
            let topic: Pattern = match topic.parse() {
                Ok(topic) => topic,
                Err(error) => return Err(EnrouteError::Topic { place, error }),
            };
            let callback = layered.callback(&around);
            dispatcher.add_native(kind, topic, schedule, description, place, callback)?;
        }
        Ok(dispatcher)
    }
}
