//! How a store keeps a window: one key that says when a message was handled, and one that sorts by that moment.
//!
//! Pure; reading and writing is up to the validator.

use std::sync::Arc;

use bytes::Bytes;

use crate::validator::window::Key;

/// Keys that sort by age begin like this.
pub(super) const AGES: &str = "age/";

/// A message that was handled, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) key: Key,
    /// Milliseconds since 1970-01-01 UTC.
    pub(super) at: i64,
}

/// A key of the store with its new value.
type Write = (Arc<str>, Option<Bytes>);

impl Record {
    pub(super) fn new(key: Key, at: i64) -> Self {
        Self { key, at }
    }

    /// Reads a key that sorts by age.
    pub(super) fn from_age(text: &str) -> Option<Self> {
        let (at, message) = text.strip_prefix(AGES)?.split_once('/')?;
        let (identifier, topic) = message.split_once('/')?;
        Some(Self {
            key: (topic.parse().ok()?, identifier.parse().ok()?),
            at: i64::from_str_radix(at, 16).ok()?,
        })
    }

    pub(super) fn insertion(&self) -> [Write; 2] {
        let moment = Bytes::from(self.at.to_string());
        [
            (seen(&self.key).into(), Some(moment)),
            (self.age(), Some(Bytes::new())),
        ]
    }

    /// `again`: the message was handled again since, so that only its older age is deleted.
    pub(super) fn deletion(&self, again: bool) -> impl Iterator<Item = Write> + use<> {
        let seen = (!again).then(|| (seen(&self.key).into(), None));
        seen.into_iter().chain([(self.age(), None)])
    }

    fn age(&self) -> Arc<str> {
        let (topic, identifier) = &self.key;
        format!("{AGES}{:016x}/{identifier}/{topic}", self.at.max(0)).into()
    }
}

impl From<(crate::topic::TopicName, uuid::Uuid, i64)> for Record {
    fn from((topic, identifier, at): (crate::topic::TopicName, uuid::Uuid, i64)) -> Self {
        Self::new((topic, identifier), at)
    }
}

/// The key that says when a message was handled.
pub(super) fn seen((topic, identifier): &Key) -> String {
    format!("seen/{identifier}/{topic}")
}

/// What such a key says.
pub(super) fn moment(value: &[u8]) -> Option<i64> {
    std::str::from_utf8(value).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_can_be_read_and_sorts_by_age() {
        let record = |at| Record::new(("a/b.c".parse().unwrap(), uuid::Uuid::from_u128(7)), at);
        let (young, old) = (record(1_700_000_000_000), record(9));
        assert!(old.age() < young.age());
        assert_eq!(Record::from_age(&young.age()), Some(young.clone()));
        let [(seen_key, value), _] = young.insertion();
        assert_eq!(*seen_key, *seen(&young.key));
        assert_eq!(moment(&value.unwrap()), Some(young.at));
        for junk in ["", "age/", "age/x/y/z", "seen/1/2"] {
            assert_eq!(Record::from_age(junk), None, "{junk}");
        }
    }
}
