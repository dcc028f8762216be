//! Plugin state that is decided and not written yet, on top of what the database holds.
//!
//! Pure. A value gets its version when it is decided, and keeps it in the database; so what was read before it was
//! written is checked like everything else.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use crate::store::postgres::StateRow;
use crate::store::{StateEffects, Versioned};

/// The version of a key without a value.
pub(super) const ABSENT: i64 = 0;

/// Values by plugin and key, in one text with a NUL between them; plugins have none in their names.
#[derive(Debug)]
pub(super) struct Overlay {
    pending: BTreeMap<Box<str>, Pending>,
    next: i64,
}

#[derive(Debug)]
struct Pending {
    version: i64,
    value: Option<Bytes>,
}

impl Pending {
    fn read(&self) -> i64 {
        if self.value.is_some() {
            self.version
        } else {
            ABSENT
        }
    }
}

fn key_of(plugin: &str, key: &str) -> Box<str> {
    format!("{plugin}\0{key}").into()
}

impl Overlay {
    /// Nothing is pending. The versions of all hosts differ if their seeds do.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            pending: BTreeMap::new(),
            next: (seed >> 2).cast_signed(),
        }
    }

    /// What is pending for a key.
    pub(super) fn get(&self, plugin: &str, key: &str) -> Option<Versioned> {
        let pending = self.pending.get(&key_of(plugin, key))?;
        Some(Versioned {
            value: pending.value.clone(),
            version: pending.read().cast_unsigned(),
        })
    }

    /// Whether something that was read has been decided differently since.
    pub(super) fn contradicts(&self, effects: &StateEffects) -> bool {
        effects.reads.iter().any(|(key, version)| {
            let pending = self.pending.get(&key_of(&effects.plugin, key));
            pending.is_some_and(|pending| pending.read().cast_unsigned() != *version)
        })
    }

    /// Decides new values, which are still to be written.
    pub(super) fn write(&mut self, effects: &StateEffects) -> Vec<StateRow> {
        let mut rows = Vec::with_capacity(effects.writes.len());
        for (key, value) in &effects.writes {
            self.next += 1;
            let version = self.next;
            let value = value.clone();
            rows.push(StateRow {
                key: (effects.plugin.clone(), key.clone()),
                version,
                value: value.clone(),
            });
            self.pending
                .insert(key_of(&effects.plugin, key), Pending { version, value });
        }
        rows
    }

    /// Values are written or never will be; what was decided on top of them stays pending.
    pub(super) fn settled(&mut self, rows: &[StateRow]) {
        for row in rows {
            let key = key_of(&row.key.0, &row.key.1);
            if self
                .pending
                .get(&key)
                .is_some_and(|pending| pending.version == row.version)
            {
                self.pending.remove(&key);
            }
        }
    }

    /// The pending keys of a plugin, with the bytes of each and its value.
    pub(super) fn unwritten(&self, plugin: &str) -> Vec<(String, u64)> {
        let start = key_of(plugin, "");
        let skip = start.len();
        self.pending
            .range::<str, _>((Bound::Included(&*start), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&*start))
            .filter_map(|(key, pending)| {
                let (key, value) = (key.get(skip..)?, pending.value.as_ref());
                let size = value.map_or(0, |value| key.len() + value.len());
                Some((key.to_owned(), size as u64))
            })
            .collect()
    }

    /// The pending keys of a plugin, and whether they have a value.
    pub(super) fn pending(&self, plugin: &str, prefix: &str) -> BTreeMap<String, bool> {
        let start = key_of(plugin, prefix);
        let skip = plugin.len() + 1;
        self.pending
            .range::<str, _>((Bound::Included(&*start), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&*start))
            .filter_map(|(key, pending)| {
                Some((key.get(skip..)?.to_owned(), pending.value.is_some()))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn effects(reads: &[(&str, u64)], writes: &[(&str, Option<&'static str>)]) -> StateEffects {
        let value = |text: &'static str| Bytes::from_static(text.as_bytes());
        StateEffects {
            plugin: "p".into(),
            reads: reads
                .iter()
                .map(|(key, version)| ((*key).into(), *version))
                .collect(),
            writes: writes
                .iter()
                .map(|(key, text)| ((*key).into(), text.map(value)))
                .collect(),
        }
    }

    #[test]
    fn the_last_decision_counts_until_it_is_settled() {
        let mut overlay = Overlay::new(u64::MAX);
        let first = overlay.write(&effects(&[], &[("k", Some("1")), ("gone", None)]));
        let read = overlay.get("p", "k").unwrap();
        assert_eq!(read.version, first[0].version.cast_unsigned());
        assert_eq!(
            overlay.get("p", "gone").unwrap().version,
            ABSENT.cast_unsigned()
        );
        assert!(!overlay.contradicts(&effects(
            &[("k", read.version), ("gone", 0), ("other", 7)],
            &[]
        )));
        assert!(overlay.contradicts(&effects(&[("k", read.version + 1)], &[])));

        let second = overlay.write(&effects(&[("k", read.version)], &[("k", Some("2"))]));
        assert!(overlay.contradicts(&effects(&[("k", read.version)], &[])));
        overlay.settled(&first);
        assert_eq!(overlay.get("p", "k").unwrap().value, Some("2".into()));
        assert_eq!(overlay.get("p", "gone"), None);
        assert_eq!(
            overlay.pending("p", "k"),
            BTreeMap::from([("k".to_owned(), true)])
        );
        overlay.settled(&second);
        assert_eq!(overlay.get("p", "k"), None);
    }
}
