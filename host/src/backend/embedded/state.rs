//! Plugin state as far as it is decided: what is on disk, under what is on its way there.
//!
//! A bounded cache with a version for every value that it holds. Pure; reading what it doesn't hold is up to its caller.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

use bytes::Bytes;

use crate::store::{StateEffects, Versioned};

/// Of each of the two generations.
const KEYS: usize = 50_000;
const BYTES: usize = 32 << 20;

/// Plugin and key in one text, with a NUL between them; plugins have none in their names.
type Key = Box<str>;

fn key_of(plugin: &str, key: &str) -> Key {
    format!("{plugin}\0{key}").into()
}

/// Values by plugin and key.
#[derive(Debug, Default)]
pub(super) struct States {
    young: HashMap<Key, Versioned>,
    /// What wasn't used since the last turn; forgotten at the next one.
    old: HashMap<Key, Versioned>,
    bytes: usize,
    /// Keys with writes that are not on disk, and how many.
    dirty: BTreeMap<Key, u32>,
    version: u64,
    forgotten: u64,
}

impl States {
    /// What is known of a key.
    pub(super) fn get(&mut self, plugin: &str, key: &str) -> Option<Versioned> {
        let key = key_of(plugin, key);
        if let Some(known) = self.young.get(&key) {
            return Some(known.clone());
        }
        let known = self.old.remove(&key)?;
        self.put(key, known.clone());
        Some(known)
    }

    /// Changes whenever something is forgotten. A value that was read from the disk may be [filled](Self::fill) in only
    /// if this is still what it was before reading.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// Adds what the disk holds for a key of which nothing is known.
    pub(super) fn fill(&mut self, plugin: &str, key: &str, value: Option<Bytes>) -> Versioned {
        let value = self.versioned(value);
        self.put(key_of(plugin, key), value.clone());
        value
    }

    /// Whether every key that was read still has the version that was read.
    pub(super) fn unchanged(&self, effects: &StateEffects) -> bool {
        effects.reads.iter().all(|(key, version)| {
            let key = key_of(&effects.plugin, key);
            let known = self.young.get(&key).or_else(|| self.old.get(&key));
            known.is_some_and(|known| known.version == *version)
        })
    }

    /// Decides new values, which are still to be written.
    pub(super) fn write(&mut self, effects: &StateEffects) {
        for (key, value) in &effects.writes {
            let key = key_of(&effects.plugin, key);
            let value = self.versioned(value.clone());
            *self.dirty.entry(key.clone()).or_default() += 1;
            self.old.remove(&key);
            self.put(key, value);
        }
    }

    /// One write of a key is on disk.
    pub(super) fn written(&mut self, plugin: &str, key: &str) {
        let key = key_of(plugin, key);
        if let Some(count) = self.dirty.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.dirty.remove(&key);
            }
        }
    }

    /// Forgets everything, since what was decided was not written.
    pub(super) fn discard(&mut self) {
        self.young.clear();
        self.old.clear();
        self.dirty.clear();
        self.bytes = 0;
        self.forgotten += 1;
    }

    /// The keys of a plugin that are not on disk as they are decided, and whether they have a value.
    pub(super) fn pending(&self, plugin: &str, prefix: &str) -> BTreeMap<String, bool> {
        let start = key_of(plugin, prefix);
        let skip = plugin.len() + 1;
        self.dirty
            .range::<str, _>((Bound::Included(&*start), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&*start))
            .filter_map(|(key, _)| {
                let known = self.young.get(key).or_else(|| self.old.get(key))?;
                Some((key.get(skip..)?.to_owned(), known.value.is_some()))
            })
            .collect()
    }

    /// The keys of a plugin that are not on disk as they are decided, with the bytes of each and its value.
    pub(super) fn unwritten(&self, plugin: &str) -> Vec<(String, u64)> {
        let start = key_of(plugin, "");
        let skip = start.len();
        self.dirty
            .range::<str, _>((Bound::Included(&*start), Bound::Unbounded))
            .take_while(|(key, _)| key.starts_with(&*start))
            .filter_map(|(key, _)| {
                let known = self.young.get(key).or_else(|| self.old.get(key))?;
                let key = key.get(skip..)?;
                let value = known.value.as_ref();
                let size = value.map_or(0, |value| key.len() + value.len());
                Some((key.to_owned(), size as u64))
            })
            .collect()
    }

    fn versioned(&mut self, value: Option<Bytes>) -> Versioned {
        self.version += 1;
        let version = self.version;
        Versioned { value, version }
    }

    fn put(&mut self, key: Key, value: Versioned) {
        let size = |value: &Versioned| value.value.as_ref().map_or(0, Bytes::len);
        self.bytes += key.len() + size(&value);
        if let Some(before) = self.young.insert(key, value) {
            self.bytes = self.bytes.saturating_sub(size(&before));
        }
        if self.young.len() < KEYS && self.bytes < BYTES {
            return;
        }
        let mut old = std::mem::replace(&mut self.old, std::mem::take(&mut self.young));
        self.bytes = 0;
        self.forgotten += 1;
        // What is not on disk yet is known nowhere else.
        for key in self.dirty.keys() {
            if let Some(value) = old.remove(key) {
                self.young.insert(key.clone(), value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(states: &mut States, key: &str, value: &'static str) {
        states.write(&StateEffects {
            plugin: "p".into(),
            reads: Vec::new(),
            writes: vec![(key.into(), Some(Bytes::from_static(value.as_bytes())))],
        });
    }

    #[test]
    fn it_is_bounded_and_never_forgets_what_is_not_on_disk() {
        let mut states = States::default();
        write(&mut states, "dirty", "1");
        write(&mut states, "clean", "1");
        states.written("p", "clean");
        for n in 0..KEYS * 3 {
            states.fill("p", &n.to_string(), None);
        }
        assert!(states.young.len() + states.old.len() <= KEYS * 2 + 1);
        assert_eq!(states.get("p", "clean"), None);
        assert_eq!(
            states.get("p", "dirty").and_then(|known| known.value),
            Some("1".into())
        );
        assert_eq!(states.pending("p", "").len(), 1);
        states.written("p", "dirty");
        assert_eq!(states.pending("p", "").len(), 0);
    }

    #[test]
    fn what_is_read_often_stays() {
        let mut states = States::default();
        states.fill("p", "often", None);
        let version = states.get("p", "often").map(|known| known.version);
        for n in 0..KEYS * 3 {
            states.fill("p", &n.to_string(), None);
            assert_eq!(states.get("p", "often").map(|known| known.version), version);
        }
    }

    #[test]
    fn discarding_makes_every_version_old() {
        let mut states = States::default();
        write(&mut states, "k", "1");
        let read = states.get("p", "k").unwrap();
        let effects = |version| StateEffects {
            plugin: "p".into(),
            reads: vec![("k".into(), version)],
            writes: Vec::new(),
        };
        assert!(states.unchanged(&effects(read.version)));
        let before = states.forgotten();
        states.discard();
        assert_ne!(states.forgotten(), before);
        assert!(!states.unchanged(&effects(read.version)));
        let again = states.fill("p", "k", None);
        assert_ne!(again.version, read.version);
    }
}
