//! Keys of plugin state page by page: what is on disk, corrected by what is decided and not written yet.
//!
//! Pure; who reads the pages is its caller. What is pending must be looked at *before* the page is read: what is
//! committed meanwhile is in both then, not in neither.

use std::collections::{BTreeMap, BTreeSet};

/// A listing in progress.
#[derive(Debug)]
pub(super) struct Paging<'a> {
    prefix: &'a str,
    limit: usize,
    first: String,
    excluded: bool,
    found: Vec<String>,
    end: bool,
}

impl<'a> Paging<'a> {
    /// Up to `limit` keys with a prefix, after the key `after`.
    pub(super) fn new(prefix: &'a str, after: Option<&str>, limit: usize) -> Self {
        let (first, excluded) = match after {
            Some(after) if after >= prefix => (after.to_owned(), true),
            _ => (prefix.to_owned(), false),
        };
        Self {
            prefix,
            limit,
            first,
            excluded,
            found: Vec::new(),
            end: limit == 0,
        }
    }

    /// Where the next page begins, and whether it begins after that key; `None`: there is no need for one.
    pub(super) fn next(&self) -> Option<(&str, bool)> {
        (!self.end).then_some((&self.first, self.excluded))
    }

    /// Adds a page of up to `limit` keys on disk, and what is pending: keys, and whether they have a value.
    pub(super) fn add(&mut self, page: Vec<String>, pending: BTreeMap<String, bool>) {
        let last = page.last().filter(|_| page.len() == self.limit).cloned();
        let mut keys: BTreeSet<String> = page
            .into_iter()
            .take_while(|key| key.starts_with(self.prefix))
            .collect();
        let here = |key: &String| {
            (*key > self.first || (!self.excluded && *key == self.first))
                && last.as_ref().is_none_or(|last| key <= last)
        };
        for (key, exists) in pending.into_iter().filter(|(key, _)| here(key)) {
            if exists {
                keys.insert(key);
            } else {
                keys.remove(&key);
            }
        }
        self.found.extend(keys);
        match last {
            Some(last) if last.starts_with(self.prefix) && self.found.len() < self.limit => {
                (self.first, self.excluded) = (last, true);
            }
            _ => self.end = true,
        }
    }

    /// What was found.
    pub(super) fn found(mut self) -> Vec<String> {
        self.found.truncate(self.limit);
        self.found
    }
}
