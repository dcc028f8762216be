//! Which queues get a message: bindings of queues to topics, groups and strategies.
//!
//! Pure. It knows queues as numbers only, and nothing of what waits in them.

use std::collections::HashMap;
use std::sync::Arc;

use crate::message::Strategy;
use crate::queue::Slot;
use crate::topic::{Pattern, TopicName};

/// More remembered topics than this are forgotten all at once and found again by their bindings.
const MEMO: usize = 65_536;

/// The bindings of all queues.
#[derive(Debug, Default)]
pub(super) struct Routes {
    exact: HashMap<TopicName, Vec<Slot>>,
    patterns: Vec<(Pattern, Slot)>,
    bound: HashMap<Slot, Bound>,
    memo: HashMap<TopicName, Route>,
}

#[derive(Debug)]
struct Bound {
    /// Queues in the order of their declaration.
    order: u64,
    group: Arc<str>,
    topics: Vec<Pattern>,
}

/// The queues for one topic, in the order of their declaration.
#[derive(Debug, Clone)]
pub(super) struct Route {
    unicast: Arc<[Slot]>,
    multicast: Arc<[Slot]>,
}

impl Routes {
    /// Binds a queue to these topics and to no others. `order` is its place among the declarations.
    pub(super) fn bind(&mut self, slot: Slot, order: u64, group: &str, topics: &[Pattern]) {
        self.unbind(slot);
        let mut topics = topics.to_vec();
        topics.sort_unstable();
        topics.dedup();
        for pattern in &topics {
            match pattern.exact() {
                Some(topic) => self.exact.entry(topic).or_default().push(slot),
                None => self.patterns.push((pattern.clone(), slot)),
            }
        }
        let group = group.into();
        self.bound.insert(
            slot,
            Bound {
                order,
                group,
                topics,
            },
        );
    }

    /// Removes a queue with its bindings.
    pub(super) fn unbind(&mut self, slot: Slot) {
        self.memo.clear();
        let Some(bound) = self.bound.remove(&slot) else {
            return;
        };
        for topic in bound.topics.iter().filter_map(Pattern::exact) {
            if let Some(slots) = self.exact.get_mut(&topic) {
                slots.retain(|other| *other != slot);
                if slots.is_empty() {
                    self.exact.remove(&topic);
                }
            }
        }
        self.patterns.retain(|(_, other)| *other != slot);
    }

    /// The queues that get a message of this topic.
    pub(super) fn route(&mut self, topic: &TopicName, strategy: Strategy) -> Arc<[Slot]> {
        if let Some(route) = self.memo.get(topic) {
            return route.slots(strategy);
        }
        let route = self.find(topic);
        let slots = route.slots(strategy);
        // Topics that nobody is bound to come in any number, such as the reply topics of clients that have gone.
        if !route.multicast.is_empty() {
            if self.memo.len() >= MEMO {
                self.memo.clear();
            }
            self.memo.insert(topic.clone(), route);
        }
        slots
    }

    fn find(&self, topic: &TopicName) -> Route {
        let exact = self.exact.get(topic).into_iter().flatten();
        let matching = self
            .patterns
            .iter()
            .filter(|(pattern, _)| pattern.matches(topic));
        let mut queues: Vec<(Slot, &Bound)> = exact
            .chain(matching.map(|(_, slot)| slot))
            .filter_map(|slot| Some((*slot, self.bound.get(slot)?)))
            .collect();
        queues.sort_unstable_by_key(|(_, bound)| bound.order);
        queues.dedup_by_key(|(slot, _)| *slot);
        let first = queues.first().map(|(_, bound)| bound.group.clone());
        let of_first = |bound: &Bound| first.as_ref() == Some(&bound.group);
        Route {
            unicast: queues
                .iter()
                .filter(|(_, bound)| of_first(bound))
                .map(|(slot, _)| *slot)
                .collect(),
            multicast: queues.iter().map(|(slot, _)| *slot).collect(),
        }
    }
}

impl Route {
    fn slots(&self, strategy: Strategy) -> Arc<[Slot]> {
        match strategy {
            Strategy::Unicast => self.unicast.clone(),
            Strategy::Multicast => self.multicast.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes(queues: &[(Slot, &str, &[&str])]) -> Routes {
        let mut routes = Routes::default();
        for (slot, group, topics) in queues {
            let topics: Vec<Pattern> = topics.iter().map(|topic| topic.parse().unwrap()).collect();
            routes.bind(*slot, u64::from(*slot), group, &topics);
        }
        routes
    }

    #[test]
    fn groups_and_strategies_decide() {
        let mut routes = routes(&[
            (1, "a", &["user.*", "user.created"]),
            (2, "b", &["user.created"]),
            (3, "a", &[">"]),
            (4, "c", &[]),
        ]);
        for (topic, strategy, expected) in [
            ("user.created", Strategy::Unicast, &[1, 3][..]),
            ("user.created", Strategy::Multicast, &[1, 2, 3]),
            ("user.deleted", Strategy::Unicast, &[1, 3]),
            ("x", Strategy::Unicast, &[3]),
        ] {
            for _ in 0..2 {
                assert_eq!(
                    *routes.route(&topic.parse().unwrap(), strategy),
                    *expected,
                    "{topic}"
                );
            }
        }
        routes.unbind(1);
        let created = "user.created".parse().unwrap();
        assert_eq!(*routes.route(&created, Strategy::Unicast), [2]);
        routes.unbind(2);
        routes.bind(3, 3, "a", &[]);
        assert!(routes.route(&created, Strategy::Multicast).is_empty());
        assert!(routes.exact.is_empty() && routes.patterns.is_empty());
    }
}
