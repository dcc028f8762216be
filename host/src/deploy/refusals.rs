//! What is described and cannot be served as it is: said once in the log, and kept for whoever asks while it stays so.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Why, by the name of the plugin. It is cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Refusals(Arc<Mutex<BTreeMap<String, String>>>);

impl Refusals {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> BTreeMap<String, String> {
        self.lock().clone()
    }

    /// Says what is wrong, once.
    pub(super) fn say(&self, name: &str, text: &str) {
        let mut known = self.lock();
        if known.get(name).is_none_or(|said| said != text) {
            tracing::error!(plugin = %name, "not served as it is now: {text}");
            known.insert(name.to_owned(), text.to_owned());
        }
    }

    /// Forgets those that are over.
    pub(super) fn keep(&self, stays: impl Fn(&str) -> bool) {
        self.lock().retain(|name, _| stays(name));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
