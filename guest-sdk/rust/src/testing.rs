//! Runs the handlers of a plugin in plain `cargo test`, without any WebAssembly.
//!
//! [`Host`] keeps the promises that a handler can notice: what was published or stored by a call that fails is
//! discarded, nothing is allowed that wasn't granted, time stands still. It is no broker: it retries nothing, and it
//! has neither the sandbox's limits on time and memory nor the host's defence against conflicts.

mod call;
mod outcome;
mod rules;

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use uuid::Uuid;

pub(crate) use self::call::Call;
use self::call::{Responder, World};
pub use self::outcome::{Delivery, LogLine, Outcome, Published};
use crate::backend;
use crate::content::IntoResponse;
use crate::error::{Error, Result};
use crate::export;
use crate::publish::{Reply, RequestError};
use crate::request::Meta;
use crate::response::Response;
use crate::route::{Kind, Plugin};

/// Midnight before 2026-01-01 UTC: any fixed time would do.
const START: Duration = Duration::from_secs(1_767_225_600);

/// A host for one plugin, in memory.
///
/// ```
/// use sandbar_guest::testing::Host;
/// use sandbar_guest::{Context, Error, Json, Result, Status, command};
/// use serde_json::json;
///
/// #[command("order.create")]
/// fn create(Json(order): Json<serde_json::Value>, ctx: &Context) -> Result<Json<i64>> {
///     ctx.publish("order.created", Json(&order))?;
///     let number = ctx.state().increment("orders", 1)?;
///     if order["total"] == 0 {
///         return Err(Error::rejected("total: must not be 0"));
///     }
///     Ok(Json(number))
/// }
///
/// sandbar_guest::plugin!(create);
///
/// # fn main() -> Result<()> {
/// let mut host = Host::new(PLUGIN).grant_state().grant_publish("order.*");
///
/// let outcome = host.send("order.create", Json(json!({ "total": 3 })));
/// assert_eq!(outcome.json::<i64>()?, 1);
///
/// let outcome = host.send("order.create", Json(json!({ "total": 0 })));
/// assert_eq!(outcome.status(), Status::Error);
/// // Only what the first call did has happened.
/// assert_eq!(host.published().len(), 1);
/// assert_eq!(host.state()["orders"], b"1");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Host {
    plugin: Plugin,
    world: Rc<World>,
    state: BTreeMap<String, Vec<u8>>,
    published: Vec<Published>,
    logs: Vec<LogLine>,
    delivered: u64,
}

impl Host {
    /// A host that grants nothing.
    #[must_use]
    pub fn new(plugin: Plugin) -> Self {
        let world = World {
            now: SystemTime::UNIX_EPOCH + START,
            ..World::default()
        };
        Self {
            plugin,
            world: Rc::new(world),
            state: BTreeMap::new(),
            published: Vec::new(),
            logs: Vec::new(),
            delivered: 0,
        }
    }

    fn with(mut self, change: impl FnOnce(&mut World)) -> Self {
        change(Rc::make_mut(&mut self.world));
        self
    }

    /// Sets a value of the configuration.
    #[must_use]
    pub fn config(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.with(|world| {
            world.config.insert(name.into(), value.into());
        })
    }

    /// Allows publishing to a topic or pattern.
    #[must_use]
    pub fn grant_publish(self, pattern: impl Into<String>) -> Self {
        self.with(|world| world.publish.push(pattern.into()))
    }

    /// Allows state.
    #[must_use]
    pub fn grant_state(self) -> Self {
        self.with(|world| world.state = true)
    }

    /// Allows requests to a topic, and answers them. An answer that is rejected or failed arrives as a reply with that
    /// status; `retry` becomes [`RequestError::Timeout`].
    #[must_use]
    pub fn answer<T: IntoResponse>(
        self,
        topic: impl Into<String>,
        answer: impl Fn(Vec<u8>) -> T + 'static,
    ) -> Self {
        let responder: Responder = Rc::new(move |request: Response| {
            let (content, headers, status) = match answer(request.content).into_response() {
                Ok(reply) => {
                    let reply = reply.unwrap_or_default();
                    (reply.content, reply.headers, reply.status)
                }
                Err(error) if error.is_retry() => return Err(RequestError::Timeout),
                Err(error) => {
                    let status = outcome::status(&error);
                    (error.text().as_bytes().to_vec(), Vec::new(), status)
                }
            };
            Ok(Reply {
                content,
                headers: headers.into(),
                status,
            })
        });
        self.with(|world| {
            world.responders.insert(topic.into(), responder);
        })
    }

    /// Sets the time of all following calls.
    #[must_use]
    pub fn at(self, now: SystemTime) -> Self {
        self.with(|world| world.now = now)
    }

    /// Stores a value beforehand.
    #[must_use]
    pub fn stored(mut self, key: impl Into<String>, value: impl Into<Vec<u8>>) -> Self {
        self.state.insert(key.into(), value.into());
        self
    }

    /// Delivers a message to the handlers of a topic; see [`Delivery::send`].
    pub fn send(&mut self, topic: &str, content: impl IntoResponse) -> Outcome {
        self.message(topic, content).send()
    }

    /// A message to deliver with more than topic and content.
    pub fn message(&mut self, topic: &str, content: impl IntoResponse) -> Delivery<'_> {
        Delivery::new(self, topic, content)
    }

    /// A run of the periodic handler of that name, as if it were due.
    ///
    /// ```
    /// use sandbar_guest::testing::Host;
    /// use sandbar_guest::{Context, Result, periodic};
    ///
    /// #[periodic("*/5 * * * *")]
    /// fn count(ctx: &Context) -> Result<()> {
    ///     ctx.state().increment("runs", 1)?;
    ///     Ok(())
    /// }
    ///
    /// sandbar_guest::plugin!(count);
    ///
    /// # fn main() {
    /// let mut host = Host::new(PLUGIN).grant_state();
    /// assert!(host.periodic("count").send().is_ok());
    /// assert_eq!(host.state()["runs"], b"1");
    /// # }
    /// ```
    pub fn periodic(&mut self, handler: &'static str) -> Delivery<'_> {
        Delivery::new(self, "periodic.plugin", ()).to(handler)
    }

    /// What successful calls published, oldest first.
    #[must_use]
    pub fn published(&self) -> &[Published] {
        &self.published
    }

    /// What successful calls stored.
    #[must_use]
    pub fn state(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.state
    }

    /// What was logged, by failing calls as well.
    #[must_use]
    pub fn logs(&self) -> &[LogLine] {
        &self.logs
    }

    /// A new identifier for a message: different for each, the same in every run of a test.
    fn next_id(&mut self) -> Uuid {
        self.delivered += 1;
        let number = u128::from(self.delivered);
        uuid::Builder::from_random_bytes(number.to_be_bytes()).into_uuid()
    }

    /// The routes of a topic: exact ones, or else patterns, and every event besides.
    fn routes(&self, topic: &str) -> Vec<u32> {
        let routes = || (0_u32..).zip(self.plugin.routes());
        let mut found: Vec<u32> = routes()
            .filter(|(_, route)| route.kind == Kind::Event && rules::matches(route.topic, topic))
            .map(|(index, _)| index)
            .collect();
        let mut answering =
            routes().filter(|(_, route)| matches!(route.kind, Kind::Command | Kind::Query));
        let exact = answering.clone().find(|(_, route)| route.topic == topic);
        let one = exact.or_else(|| answering.find(|(_, route)| rules::matches(route.topic, topic)));
        found.extend(one.map(|(index, _)| index));
        found
    }

    /// The route of a periodic handler.
    fn scheduled(&self, handler: &str) -> Option<u32> {
        let mut routes = (0_u32..).zip(self.plugin.routes());
        let found = routes.find(|(_, route)| route.kind == Kind::Periodic && route.name == handler);
        found.map(|(index, _)| index)
    }

    /// Runs one handler and keeps what it did if it succeeded.
    fn call(&mut self, route: u32, meta: Meta, content: Vec<u8>) -> Outcome {
        let handler = usize::try_from(route)
            .ok()
            .and_then(|index| self.plugin.routes().get(index))
            .map_or("", |route| route.name);
        let headers = meta.headers.clone();
        let call = Call::new(
            Rc::clone(&self.world),
            std::mem::take(&mut self.state),
            &meta,
        );
        let plugin = self.plugin;
        let (call, result) =
            backend::with_call(call, || export::call(&plugin, route, meta, content));
        let result = result.map(|result| -> Result<_> {
            let reply = result?.map(|reply| outcome::reply(&headers, reply));
            if let Some(reply) = &reply {
                rules::payload(&reply.content, &Vec::from(reply.headers.clone()))
                    .map_err(|text| Error::failed(format!("reply: {text}")))?;
            }
            Ok(reply)
        });
        let effects = call.end(matches!(result, Ok(Ok(_))));
        self.state = effects.state;
        self.logs.extend(effects.logs);
        self.published
            .extend(effects.published.into_iter().map(Published::from));
        match result {
            Ok(result) => Outcome { handler, result },
            // A trap for the real host; for a test the panic itself says more.
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}
