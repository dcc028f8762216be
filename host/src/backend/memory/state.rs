//! The state of plugins, with versions.
//!
//! Not durable. Nothing is checked while writing: [`State::unchanged`] says beforehand whether writing is allowed.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::store::{StateEffects, Versioned};

/// A key without a value. That it had one in between makes no difference to whoever read that it has none.
const ABSENT: Versioned = Versioned {
    value: None,
    version: 0,
};

/// Values by plugin and key.
#[derive(Debug, Default)]
pub(super) struct State {
    plugins: HashMap<Arc<str>, Keys>,
    /// Bytes of the keys and values of each.
    sizes: HashMap<Arc<str>, u64>,
    version: u64,
}

/// The values of one plugin, with their versions.
type Keys = BTreeMap<Arc<str>, (Bytes, u64)>;

impl State {
    pub(super) fn get(&self, plugin: &str, key: &str) -> Versioned {
        match self.plugins.get(plugin).and_then(|keys| keys.get(key)) {
            Some((value, version)) => Versioned {
                value: Some(value.clone()),
                version: *version,
            },
            None => ABSENT,
        }
    }

    /// Whether every key that was read still has the version that was read.
    pub(super) fn unchanged(&self, effects: &StateEffects) -> bool {
        let keys = self.plugins.get(&effects.plugin);
        effects.reads.iter().all(|(key, version)| {
            let current = keys
                .and_then(|keys| keys.get(key))
                .map_or(ABSENT.version, |(_, version)| *version);
            current == *version
        })
    }

    pub(super) fn write(&mut self, effects: StateEffects) {
        if effects.writes.is_empty() {
            return;
        }
        let size = self.sizes.entry(effects.plugin.clone()).or_default();
        let keys = self.plugins.entry(effects.plugin).or_default();
        let of = |key: &str, value: &Bytes| (key.len() + value.len()) as u64;
        for (key, value) in effects.writes {
            self.version += 1;
            if let Some((before, _)) = keys.get(&key) {
                *size = size.saturating_sub(of(&key, before));
            }
            match value {
                Some(value) => {
                    *size = size.saturating_add(of(&key, &value));
                    keys.insert(key, (value, self.version));
                }
                None => {
                    keys.remove(&key);
                }
            }
        }
    }

    /// Bytes of the keys and values of a plugin.
    pub(super) fn size(&self, plugin: &str) -> u64 {
        self.sizes.get(plugin).copied().unwrap_or(0)
    }

    pub(super) fn keys(
        &self,
        plugin: &str,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Vec<String> {
        let Some(keys) = self.plugins.get(plugin) else {
            return Vec::new();
        };
        let first = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        keys.range::<str, _>((first, Bound::Unbounded))
            .map(|(key, _)| &**key)
            .take_while(|key| key.starts_with(prefix))
            .take(limit)
            .map(str::to_owned)
            .collect()
    }
}
