//! Values that outlive a message. Not a cache: what is written becomes visible together with the acknowledgement of
//! the message, and not at all if the handler fails.

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::backend;
use crate::content;

/// Why state could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StateError {
    /// The operator has not granted state to this plugin.
    Forbidden(String),
    /// A limit of this plugin is used up: the size of a value or of all of them.
    Limit(String),
    /// The stored value is not a decimal integer, or the sum leaves 64 bits.
    NotANumber,
    /// The store can't be reached; worth another attempt.
    Unavailable(String),
    /// The value is not the JSON that was expected, or can't be written as JSON.
    Malformed(String),
}

/// The plugin's own key–value space.
///
/// Handlers that run at the same time don't have to lock: the host notices when a value that was read has changed
/// before the message is acknowledged, and runs the handler again. For counters [`State::increment`] is the better
/// choice, since increments can be added up.
#[derive(Debug, Clone, Copy)]
pub struct State(pub(crate) ());

impl State {
    /// The value of a key, if it has one.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        backend::state_get(key)
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn set(&self, key: &str, value: impl AsRef<[u8]>) -> Result<(), StateError> {
        backend::state_set(key, value.as_ref())
    }

    /// Removes a key; one that isn't there is no error.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn delete(&self, key: &str) -> Result<(), StateError> {
        backend::state_delete(key)
    }

    /// Adds to a decimal integer (0 when absent) and returns the sum.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn increment(&self, key: &str, delta: i64) -> Result<i64, StateError> {
        backend::state_increment(key, delta)
    }

    /// All keys that begin with `prefix`, in ascending order.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn keys(&self, prefix: &str) -> Result<Vec<String>, StateError> {
        let (mut keys, mut cursor) = backend::state_list(prefix, None)?;
        while let Some(from) = cursor {
            let (more, next) = backend::state_list(prefix, Some(&from))?;
            keys.extend(more);
            cursor = next;
        }
        Ok(keys)
    }

    /// The value of a key, decoded from JSON.
    ///
    /// # Errors
    /// See [`StateError`]; [`StateError::Malformed`] with the path of the field that doesn't fit.
    pub fn get_json<T: DeserializeOwned>(&self, key: &str) -> Result<Option<T>, StateError> {
        let Some(value) = self.get(key)? else {
            return Ok(None);
        };
        content::decode(&value)
            .map(Some)
            .map_err(|error| StateError::Malformed(format!("{key}: {error}")))
    }

    /// Sets the value of a key to JSON.
    ///
    /// # Errors
    /// See [`StateError`].
    pub fn set_json<T: Serialize + ?Sized>(&self, key: &str, value: &T) -> Result<(), StateError> {
        let value = serde_json::to_vec(value)
            .map_err(|error| StateError::Malformed(format!("{key}: {error}")))?;
        self.set(key, value)
    }
}

impl fmt::Display for StateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden(text) => write!(f, "state forbidden: {text}"),
            Self::Limit(text) => write!(f, "state limit: {text}"),
            Self::NotANumber => f.write_str("state value is not a number"),
            Self::Unavailable(text) => write!(f, "state unavailable: {text}"),
            Self::Malformed(text) => write!(f, "state value malformed: {text}"),
        }
    }
}

impl std::error::Error for StateError {}
