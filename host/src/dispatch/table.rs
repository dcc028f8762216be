//! The table of topics and actions: who handles what, and which two handlers cannot live together.
//!
//! Nothing is called and nothing is subscribed here.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::{Action, Circumstances, Conclusion, Kind, conclude, guarded, refuse};
use crate::call::{Access, Call};
use crate::clock;
use crate::message::Message;
use crate::periodic::Schedule;
use crate::retry::RetryPolicy;
use crate::store::Reason;
use crate::topic::{Pattern, TopicName};
use crate::wire::Packet;

/// One entry of the table.
#[derive(Debug, Clone)]
pub struct Route {
    /// Which topics.
    pub topic: Pattern,
    /// What it promises.
    pub kind: Kind,
    /// When it is due, if it is periodic.
    pub schedule: Option<Schedule>,
    /// One line for people.
    pub description: String,
    /// Where it is declared: file, line and column of native code, or the file of a plugin and the number of the route
    /// in it.
    pub place: String,
    /// Its position among the routes of its handler, which is what a guest knows it by.
    pub index: u32,
    /// What messages know it by that are meant for it alone. [`Dispatcher::add`] gives it; the same route has the same
    /// number in every version of its handler, wherever it stands there.
    pub number: u32,
    /// Who handles it.
    pub action: Arc<dyn Action>,
}

/// The table of topics and actions of one handler: the seed's `BrokerDispatcher`.
///
/// ```
/// use sandbar::dispatch::{Dispatcher, Kind, Response};
/// let mut dispatcher = Dispatcher::default();
/// dispatcher.action(Kind::Query, "user.get".parse()?, |_| async { Ok(Response::text("Ann")) })?;
/// dispatcher.action(Kind::Event, "user.*".parse()?, |_| async { Ok(()) })?;
///
/// let topics: Vec<_> = dispatcher.actions().map(|(topic, _)| topic.to_string()).collect();
/// assert_eq!(topics, ["user.get", "user.*"]);
/// assert!(dispatcher.get_action(&"user.get".parse()?).is_ok());
/// assert!(dispatcher.get_action(&"shop.get".parse()?).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub struct Dispatcher {
    routes: Vec<Route>,
    /// Positions in `routes`, of exact topics.
    exact: HashMap<TopicName, Vec<usize>>,
    /// Positions of patterns.
    patterns: Vec<usize>,
    /// How many native actions run at once; as many as the limits of the first call say.
    pub(super) turns: Arc<OnceLock<Semaphore>>,
}

/// Two handlers where only one is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{first_kind} `{first}` of `{first_handler}` ({first_place}) and {second_kind} `{second}` of `{second_handler}` ({second_place}) handle the same topic; a command or query has one handler, so remove one of them or narrow its `subscribe`"
)]
pub struct Conflict {
    /// The topic of the route that was there.
    pub first: String,
    /// Its kind.
    pub first_kind: Kind,
    /// Whose it is.
    pub first_handler: String,
    /// Where it is declared, as in [`Route::place`].
    pub first_place: String,
    /// The topic of the route that was added.
    pub second: String,
    /// Its kind.
    pub second_kind: Kind,
    /// Whose it is.
    pub second_handler: String,
    /// Where it is declared.
    pub second_place: String,
}

/// Nothing handles a topic: the seed's `MinosActionNotFoundException`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no handler for topic `{0}`")]
pub struct ActionNotFound(pub TopicName);

impl Dispatcher {
    /// Adds a route.
    ///
    /// # Errors
    /// [`Conflict`] when a command or query already has a handler for exactly this topic or pattern.
    pub fn add(&mut self, mut route: Route) -> Result<(), Conflict> {
        let rival = self.routes.iter().find(|known| {
            known.topic == route.topic && known.kind.replies() && route.kind.replies()
        });
        if let Some(rival) = rival {
            return Err(conflict(rival, &route));
        }
        route.number = self.number(&route);
        let position = self.routes.len();
        match route.topic.exact() {
            _ if route.kind == Kind::Periodic => {}
            Some(topic) => self.exact.entry(topic).or_default().push(position),
            None => self.patterns.push(position),
        }
        self.routes.push(route);
        Ok(())
    }

    /// Refuses two handlers (of a host) that would both get the same command or query.
    ///
    /// # Errors
    /// [`Conflict`] that names both.
    pub fn check_beside(&self, other: &Self) -> Result<(), Conflict> {
        for mine in self.routes.iter().filter(|route| route.kind.replies()) {
            for theirs in other.routes.iter().filter(|route| route.kind.replies()) {
                if mine.topic.overlaps(&theirs.topic) {
                    return Err(conflict(mine, theirs));
                }
            }
        }
        Ok(())
    }

    /// All routes, in the order in which they were added.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Topics and patterns with their actions, in the order in which they were added: the seed's `actions`. What is
    /// periodic is among them, under the topic of its messages.
    pub fn actions(&self) -> impl Iterator<Item = (&Pattern, &Arc<dyn Action>)> {
        self.routes
            .iter()
            .map(|route| (&route.topic, &route.action))
    }

    /// The action of a topic: that of its command or query, or else of the first event.
    ///
    /// # Errors
    /// [`ActionNotFound`] when nothing handles the topic. A message that comes all the same is answered with 500 and
    /// kept as a dead letter.
    pub fn get_action(&self, topic: &TopicName) -> Result<&Arc<dyn Action>, ActionNotFound> {
        let found = self.route(topic);
        let replies = found.iter().find(|route| route.kind.replies());
        match replies.or(found.first()) {
            Some(route) => Ok(&route.action),
            None => Err(ActionNotFound(topic.clone())),
        }
    }

    /// Who handles a topic: one command or query (an exact topic before a pattern) and every event. What is periodic is
    /// only reached by its number.
    #[must_use]
    pub fn route(&self, topic: &TopicName) -> Vec<&Route> {
        let exact = self.exact.get(topic).into_iter().flatten();
        let patterns = self.patterns.iter();
        let mut found: Vec<&Route> = Vec::new();
        for route in exact
            .chain(patterns)
            .filter_map(|position| self.routes.get(*position))
        {
            let wanted =
                route.kind == Kind::Event || !found.iter().any(|found| found.kind != Kind::Event);
            if wanted && route.topic.matches(topic) {
                found.push(route);
            }
        }
        found
    }

    /// The route of that number.
    #[must_use]
    pub fn numbered(&self, number: u32) -> Option<&Route> {
        self.routes.iter().find(|route| route.number == number)
    }

    /// A number made of what the route is, and not of where it stands: messages that carry it outlive this table. Routes
    /// that cannot be told apart are numbered in their order.
    fn number(&self, route: &Route) -> u32 {
        let schedule = route.schedule.as_ref().map(ToString::to_string);
        let schedule = schedule.unwrap_or_default();
        let parts = [route.topic.as_str(), &schedule, &route.description];
        let mut hash = Sha256::new_with_prefix(route.kind.to_string());
        for part in parts {
            hash.update([0]);
            hash.update(part);
        }
        let hash = hash.finalize();
        let first = hash.first_chunk::<4>().copied().unwrap_or_default();
        let mut number = u32::from_be_bytes(first);
        while self.numbered(number).is_some() {
            number = number.wrapping_add(1);
        }
        number
    }

    /// Handles a message outside of any queue, as its first attempt, and says what is to become of it for each of its
    /// routes: the seed's `dispatch`, but for the publishing, which is the caller's. A pipeline commits it instead,
    /// together with the acknowledgement; this is for tests of actions, and for those who have messages from elsewhere.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use sandbar::backend::{MemoryBackend, Verdict};
    /// use sandbar::call::Access;
    /// use sandbar::dispatch::{Dispatcher, Kind, Response};
    /// use sandbar::message::{Message, Payload};
    ///
    /// let mut dispatcher = Dispatcher::default();
    /// dispatcher.action(Kind::Query, "user.get".parse()?, |_| async { Ok(Response::text("Ann")) })?;
    /// let access = Arc::new(Access::native(Arc::new(MemoryBackend::new())));
    ///
    /// let message = Message::new("user.get".parse()?, Payload::default());
    /// let message = message.with_reply_topic("replies".parse()?);
    /// let ends = dispatcher.dispatch(message, &access).await;
    /// assert_eq!(ends[0].verdict, Verdict::Ack);
    /// assert_eq!(&ends[0].effects.publishes[0].message.payload.content[..], b"Ann");
    /// # Ok(())
    /// # }
    /// ```
    pub async fn dispatch(&self, message: Message, access: &Arc<Access>) -> Vec<Conclusion> {
        const NO_QUEUE: &str = "";
        let message = Arc::new(message);
        let routes = self.route(&message.topic);
        if routes.is_empty() {
            let why = ActionNotFound(message.topic.clone()).to_string();
            let (packet, now_ms) = (Packet::Message(message.clone()), clock::now_ms());
            let refusal = (Reason::NoHandler, why);
            return vec![refuse(Some(&message), packet, refusal, 1, NO_QUEUE, now_ms)];
        }
        let mut ends = Vec::with_capacity(routes.len());
        for route in routes {
            let began_ms = clock::now_ms();
            let call = || {
                let (access, message) = (access.clone(), message.clone());
                Call::new(access, message, 1, route.index, began_ms)
            };
            let (ended, outcome) = guarded(call(), &*route.action).await;
            let at = Circumstances {
                action: &*route.action,
                kind: route.kind,
                policy: &RetryPolicy::default(),
                chance: rand::random,
                clock: clock::now_ms,
                queue: NO_QUEUE,
            };
            let call = ended.unwrap_or_else(call);
            ends.push(conclude(call, outcome, &at));
        }
        ends
    }
}

fn conflict(first: &Route, second: &Route) -> Conflict {
    let name = |route: &Route| {
        let identity = route.action.identity();
        identity
            .plugin
            .map_or_else(|| "native".to_owned(), |plugin| plugin.to_string())
    };
    Conflict {
        first: first.topic.to_string(),
        first_kind: first.kind,
        first_handler: name(first),
        first_place: first.place.clone(),
        second: second.topic.to_string(),
        second_kind: second.kind,
        second_handler: name(second),
        second_place: second.place.clone(),
    }
}
