//! Which action handles a message, and what its outcome means: the seed's `BrokerDispatcher`.
//!
//! Plugins and native Rust closures are actions alike. The dispatcher knows no broker: it turns an outcome into a verdict
//! and effects, and the pipeline commits them.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::call::Call;
use crate::message::Payload;
use crate::store::Reason;
use crate::topic::{Pattern, TopicName};

mod conclude;
mod guarded;
mod native;

pub use conclude::{Circumstances, Conclusion, conclude, refuse};
pub use guarded::guarded;
pub use native::{Request, Response, ResponseError};

/// Something that handles messages.
#[async_trait]
pub trait Action: Send + Sync + fmt::Debug {
    /// Handles one message. What the call did counts only when the outcome is [`Outcome::Done`].
    async fn call(&self, call: Call) -> (Call, Outcome);

    /// The plugin's name and the digest of its component, for dead letters and logs.
    fn identity(&self) -> Identity;
}

/// Who handled a message.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The plugin's name.
    pub plugin: Option<Arc<str>>,
    /// The digest of its component.
    pub digest: Option<Arc<str>>,
}

/// How a call ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// A payload whose headers are changes on top of the request's, or an empty success.
    Done(Option<Payload>),
    /// The message is wrong: 400, never retried.
    Rejected(String),
    /// The handler cannot do it: 500, never retried.
    Failed(String),
    /// Try again later.
    Retry {
        /// Why.
        reason: String,
        /// Instead of the policy's next delay.
        after: Option<Duration>,
    },
    /// The guest broke a limit or itself.
    Crashed {
        /// [`Reason::Trap`], [`Reason::Timeout`] or [`Reason::Memory`].
        reason: Reason,
        /// For the operator; never sent to the requester.
        error: String,
    },
}

/// What a route promises.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Changes something and may reply; one handler per topic.
    Command,
    /// Asks something and replies; one handler per topic.
    Query,
    /// Tells that something happened; every handler gets it and nobody replies.
    Event,
    /// Is to be done at certain times; no topic leads to it and nobody replies.
    Periodic,
}

impl Kind {
    /// Whether somebody may get what the handler returns; then a topic has one handler.
    #[must_use]
    pub fn replies(self) -> bool {
        matches!(self, Self::Command | Self::Query)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Command => "command",
            Self::Query => "query",
            Self::Event => "event",
            Self::Periodic => "periodic",
        })
    }
}

/// One entry of the table.
#[derive(Debug, Clone)]
pub struct Route {
    /// Which topics.
    pub topic: Pattern,
    /// What it promises.
    pub kind: Kind,
    /// One line for people.
    pub description: String,
    /// Its number among the routes of its handler.
    pub index: u32,
    /// Who handles it.
    pub action: Arc<dyn Action>,
}

/// The table of topics and actions of one handler.
#[derive(Debug, Default)]
pub struct Dispatcher {
    routes: Vec<Route>,
    /// Positions in `routes`, of exact topics.
    exact: HashMap<TopicName, Vec<usize>>,
    /// Positions of patterns.
    patterns: Vec<usize>,
}

/// Two handlers where only one is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{first_kind} `{first}` of `{first_handler}` and {second_kind} `{second}` of `{second_handler}` handle the same topic; a command or query has one handler, so remove one of them or narrow its `subscribe`"
)]
pub struct Conflict {
    /// The topic of the route that was there.
    pub first: String,
    /// Its kind.
    pub first_kind: Kind,
    /// Whose it is.
    pub first_handler: String,
    /// The topic of the route that was added.
    pub second: String,
    /// Its kind.
    pub second_kind: Kind,
    /// Whose it is.
    pub second_handler: String,
}

impl Dispatcher {
    /// Adds a route.
    ///
    /// # Errors
    /// [`Conflict`] when a command or query already has a handler for exactly this topic or pattern.
    pub fn add(&mut self, route: Route) -> Result<(), Conflict> {
        let rival = self.routes.iter().find(|known| {
            known.topic == route.topic && known.kind.replies() && route.kind.replies()
        });
        if let Some(rival) = rival {
            return Err(conflict(rival, &route));
        }
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
    pub fn by_index(&self, index: u32) -> Option<&Route> {
        self.routes.iter().find(|route| route.index == index)
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
        second: second.topic.to_string(),
        second_kind: second.kind,
        second_handler: name(second),
    }
}
