//! One call of a handler: what it may do, what it has done so far, and how that ends. Nothing of it reaches the host
//! before [`Call::end`].

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;
use std::time::SystemTime;

use super::outcome::LogLine;
use super::rules;
use crate::log::Level;
use crate::publish::{Outgoing, PublishError, Reply, RequestError};
use crate::request::Meta;
use crate::response::Response;
use crate::state::StateError;

const MAX_PUBLISHED: usize = 64;
const MAX_LOG_LINES: usize = 100;
/// Small, so that plugins with many keys meet a second page in tests.
const KEYS_PER_PAGE: usize = 16;

pub(crate) type Responder = Rc<dyn Fn(Response) -> Result<Reply, RequestError>>;

/// What the test has set up.
#[derive(Clone)]
pub(crate) struct World {
    pub(super) config: BTreeMap<String, String>,
    pub(super) publish: Vec<String>,
    pub(super) state: bool,
    pub(super) responders: BTreeMap<String, Responder>,
    pub(super) now: SystemTime,
}

impl Default for World {
    fn default() -> Self {
        Self {
            config: BTreeMap::new(),
            publish: Vec::new(),
            state: false,
            responders: BTreeMap::new(),
            now: SystemTime::UNIX_EPOCH,
        }
    }
}

impl fmt::Debug for World {
    // Without the configuration: it may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field("publish", &self.publish)
            .field("state", &self.state)
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// A call under way.
#[derive(Debug, Default)]
pub(crate) struct Call {
    world: Rc<World>,
    state: BTreeMap<String, Vec<u8>>,
    changes: BTreeMap<String, Option<Vec<u8>>>,
    published: Vec<Outgoing>,
    logs: Vec<LogLine>,
    seed: u64,
}

/// What is left of a call.
pub(super) struct Effects {
    pub(super) state: BTreeMap<String, Vec<u8>>,
    pub(super) published: Vec<Outgoing>,
    pub(super) logs: Vec<LogLine>,
}

impl Call {
    pub(super) fn new(world: Rc<World>, state: BTreeMap<String, Vec<u8>>, meta: &Meta) -> Self {
        // FNV-1a over identifier and attempt, the two things that randomness depends on.
        let seed = meta.id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        Self {
            world,
            state,
            seed: seed ^ u64::from(meta.attempt),
            ..Self::default()
        }
    }

    /// Keeps what was done, or forgets it; log lines stay either way.
    pub(super) fn end(mut self, success: bool) -> Effects {
        if success {
            for (key, value) in self.changes {
                match value {
                    Some(value) => self.state.insert(key, value),
                    None => self.state.remove(&key),
                };
            }
        } else {
            self.published.clear();
        }
        Effects {
            state: self.state,
            published: self.published,
            logs: self.logs,
        }
    }

    pub(crate) fn publish(&mut self, message: Outgoing) -> Result<(), PublishError> {
        let Outgoing { topic, payload, .. } = &message;
        rules::topic(topic).map_err(PublishError::Invalid)?;
        rules::payload(&payload.content, &payload.headers).map_err(PublishError::Invalid)?;
        if let Some(id) = message
            .id
            .as_ref()
            .filter(|id| uuid::Uuid::try_parse(id).is_err())
        {
            return Err(PublishError::Invalid(format!("{id:?} is not a UUID")));
        }
        let granted = &self.world.publish;
        if !granted.iter().any(|pattern| rules::matches(pattern, topic)) {
            return Err(PublishError::Forbidden(format!(
                "topic `{topic}` is not granted; grant it with `Host::grant_publish`"
            )));
        }
        if self.published.len() >= MAX_PUBLISHED {
            return Err(PublishError::Limit(format!(
                "at most {MAX_PUBLISHED} messages per call"
            )));
        }
        self.published.push(message);
        Ok(())
    }

    /// Who answers a request.
    pub(crate) fn responder(
        &self,
        topic: &str,
        payload: &Response,
        timeout_ms: u32,
    ) -> Result<Responder, RequestError> {
        rules::topic(topic).map_err(RequestError::Invalid)?;
        rules::payload(&payload.content, &payload.headers).map_err(RequestError::Invalid)?;
        let responder = self.world.responders.get(topic).ok_or_else(|| {
            RequestError::Forbidden(format!(
                "topic `{topic}` is not granted; grant and answer it with `Host::answer`"
            ))
        })?;
        if timeout_ms == 0 {
            return Err(RequestError::Timeout);
        }
        Ok(Rc::clone(responder))
    }

    fn granted(&self) -> Result<(), StateError> {
        if self.world.state {
            return Ok(());
        }
        Err(StateError::Forbidden(
            "state is not granted; grant it with `Host::grant_state`".to_owned(),
        ))
    }

    pub(crate) fn state_get(&self, key: &str) -> Result<Option<Vec<u8>>, StateError> {
        self.granted()?;
        Ok(match self.changes.get(key) {
            Some(change) => change.clone(),
            None => self.state.get(key).cloned(),
        })
    }

    pub(crate) fn state_set(
        &mut self,
        key: &str,
        value: Option<Vec<u8>>,
    ) -> Result<(), StateError> {
        self.granted()?;
        self.changes.insert(key.to_owned(), value);
        Ok(())
    }

    pub(crate) fn state_increment(&mut self, key: &str, delta: i64) -> Result<i64, StateError> {
        let held = match self.state_get(key)? {
            None => 0,
            Some(value) => std::str::from_utf8(&value)
                .ok()
                .and_then(|text| text.parse::<i64>().ok())
                .ok_or(StateError::NotANumber)?,
        };
        let sum = held.checked_add(delta).ok_or(StateError::NotANumber)?;
        self.state_set(key, Some(sum.to_string().into_bytes()))?;
        Ok(sum)
    }

    pub(crate) fn state_list(
        &self,
        prefix: &str,
        cursor: Option<&str>,
    ) -> Result<(Vec<String>, Option<String>), StateError> {
        self.granted()?;
        let changed = |key: &String| self.changes.contains_key(key);
        let held = self.state.keys().filter(|key| !changed(key));
        let new = self.changes.iter().filter(|(_, value)| value.is_some());
        let mut keys: Vec<String> = held
            .chain(new.map(|(key, _)| key))
            .filter(|key| {
                key.starts_with(prefix) && cursor.is_none_or(|cursor| key.as_str() > cursor)
            })
            .cloned()
            .collect();
        keys.sort_unstable();
        let more = keys.len() > KEYS_PER_PAGE;
        keys.truncate(KEYS_PER_PAGE);
        let next = keys.last().filter(|_| more).cloned();
        Ok((keys, next))
    }

    pub(crate) fn config(&self) -> &BTreeMap<String, String> {
        &self.world.config
    }

    pub(crate) fn now(&self) -> u64 {
        self.world
            .now
            .duration_since(SystemTime::UNIX_EPOCH)
            .ok()
            .and_then(|since| u64::try_from(since.as_nanos()).ok())
            .unwrap_or_default()
    }

    pub(crate) fn random(&mut self, len: u32) -> Vec<u8> {
        let len = usize::try_from(len).unwrap_or(usize::MAX);
        let words = std::iter::repeat_with(|| self.next_word().to_le_bytes());
        words.flatten().take(len).collect()
    }

    pub(crate) fn uuid(&mut self) -> String {
        let high = u128::from(self.next_word()) << 64;
        let bytes = (high | u128::from(self.next_word())).to_be_bytes();
        uuid::Builder::from_random_bytes(bytes)
            .into_uuid()
            .to_string()
    }

    /// SplitMix64.
    fn next_word(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.seed;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    pub(crate) fn log(&mut self, level: Level, message: &str, fields: Vec<(String, String)>) {
        if self.logs.len() < MAX_LOG_LINES {
            self.logs.push(LogLine {
                level,
                message: message.to_owned(),
                fields,
            });
        }
    }
}
