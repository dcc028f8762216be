//! What was handled lately: identifiers by topic, bounded by count and age.
//!
//! Pure: the clock is passed in. It doesn't know messages in flight, and makes nothing durable.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use uuid::Uuid;

use crate::topic::TopicName;

/// What tells one message from another: a request and its reply have the same identifier, on different topics.
pub(super) type Key = (TopicName, Uuid);

/// How much a window remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowLimits {
    /// At most so many messages.
    pub count: usize,
    /// None that is older than this.
    pub age: Duration,
}

impl Default for WindowLimits {
    fn default() -> Self {
        Self {
            count: 100_000,
            age: Duration::from_secs(24 * 60 * 60),
        }
    }
}

/// The messages that were handled lately. Moments are milliseconds of any epoch, always the same one.
///
/// ```
/// use sandbar::validator::{Window, WindowLimits};
/// use std::time::Duration;
/// use uuid::Uuid;
///
/// let (topic, first, second): (sandbar::topic::TopicName, _, _) =
///     ("t".parse()?, Uuid::from_u128(1), Uuid::from_u128(2));
/// let mut window = Window::new(WindowLimits { count: 1, age: Duration::from_millis(100) });
/// window.record(topic.clone(), first, 0);
/// assert!(window.contains(&topic, first, 99));
/// assert!(!window.contains(&topic, first, 100)); // too old
/// window.record(topic.clone(), second, 50);
/// assert!(!window.contains(&topic, first, 50)); // one too many
/// # Ok::<(), sandbar::topic::TopicError>(())
/// ```
#[derive(Debug)]
pub struct Window {
    limits: WindowLimits,
    recorded: HashMap<Key, i64>,
    /// In the order of recording; one that was recorded again is in it twice, and the earlier one counts no more.
    by_age: VecDeque<(i64, Key)>,
    latest: i64,
}

impl Window {
    /// One that remembers nothing yet.
    #[must_use]
    pub fn new(limits: WindowLimits) -> Self {
        Self {
            limits,
            recorded: HashMap::new(),
            by_age: VecDeque::new(),
            latest: i64::MIN,
        }
    }

    /// Whether the message was recorded, lately enough.
    #[must_use]
    pub fn contains(&self, topic: &TopicName, identifier: Uuid, now: i64) -> bool {
        let recorded = self.recorded.get(&(topic.clone(), identifier));
        recorded.is_some_and(|at| !self.too_old(*at, now))
    }

    /// Records a message, and forgets what is too old or too much. Returns what it forgot, with when that was recorded.
    /// A clock that goes back is taken to stand still.
    pub fn record(
        &mut self,
        topic: TopicName,
        identifier: Uuid,
        now: i64,
    ) -> Vec<(TopicName, Uuid, i64)> {
        let at = now.max(self.latest);
        self.latest = at;
        let key = (topic, identifier);
        let mut forgotten = Vec::new();
        if let Some(before) = self.recorded.insert(key.clone(), at) {
            forgotten.push((key.0.clone(), key.1, before));
        }
        self.by_age.push_back((at, key));
        while let Some((oldest, key)) = self.by_age.front() {
            let counts = self.recorded.get(key) == Some(oldest);
            if counts && self.recorded.len() <= self.limits.count && !self.too_old(*oldest, at) {
                break;
            }
            if let Some((oldest, key)) = self.by_age.pop_front()
                && counts
            {
                self.recorded.remove(&key);
                forgotten.push((key.0, key.1, oldest));
            }
        }
        forgotten
    }

    /// How many messages it remembers.
    #[must_use]
    pub fn len(&self) -> usize {
        self.recorded.len()
    }

    /// Whether it remembers none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.recorded.is_empty()
    }

    /// Whether the message was recorded and not forgotten yet, however old it is.
    pub(super) fn knows(&self, key: &Key) -> bool {
        self.recorded.contains_key(key)
    }

    pub(super) fn too_old(&self, at: i64, now: i64) -> bool {
        let age = i64::try_from(self.limits.age.as_millis()).unwrap_or(i64::MAX);
        now.saturating_sub(at) >= age
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(count: usize, age_ms: u64) -> Window {
        let age = Duration::from_millis(age_ms);
        Window::new(WindowLimits { count, age })
    }

    fn topic(name: &str) -> TopicName {
        name.parse().unwrap()
    }

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    #[test]
    fn count_and_age_bound_it() {
        let mut window = window(3, 100);
        for (now, number, forgotten) in [
            (0, 1, vec![]),
            (10, 2, vec![]),
            (20, 3, vec![]),
            (30, 4, vec![1]),
            (109, 5, vec![2]),
            (125, 6, vec![3]),
            (500, 7, vec![4, 5, 6]),
        ] {
            let gone = window.record(topic("t"), id(number), now);
            let gone: Vec<u128> = gone.iter().map(|(_, id, _)| id.as_u128()).collect();
            assert_eq!(gone, forgotten, "at {now}");
            assert!(window.contains(&topic("t"), id(number), now));
        }
        assert_eq!((window.len(), window.by_age.len()), (1, 1));
    }

    #[test]
    fn a_request_and_its_reply_are_two_messages() {
        let mut window = window(10, 100);
        assert!(window.record(topic("user.get"), id(1), 0).is_empty());
        assert!(!window.contains(&topic("user.get.reply"), id(1), 0));
        assert!(window.contains(&topic("user.get"), id(1), 0));
    }

    #[test]
    fn recorded_again_it_is_young_again() {
        let mut window = window(2, 100);
        let t = || topic("t");
        assert!(window.record(t(), id(1), 0).is_empty());
        assert_eq!(window.record(t(), id(1), 90), [(t(), id(1), 0)]);
        assert!(window.contains(&t(), id(1), 150));
        assert!(window.record(t(), id(2), 150).is_empty());
        assert_eq!(window.record(t(), id(3), 151), [(t(), id(1), 90)]);
        assert_eq!((window.len(), window.by_age.len()), (2, 2));
    }

    #[test]
    fn a_clock_that_goes_back_forgets_nothing() {
        let mut window = window(10, 100);
        assert!(window.record(topic("t"), id(1), 1_000).is_empty());
        assert!(window.record(topic("t"), id(2), 5).is_empty());
        assert!(window.contains(&topic("t"), id(1), 5));
        assert!(window.contains(&topic("t"), id(2), 1_050));
    }
}
