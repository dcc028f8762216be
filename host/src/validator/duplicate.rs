//! Recognises messages that were handled before: the seed's `BrokerSubscriberDuplicateValidator`.
//!
//! A message is known by its topic and its identifier, within one group. It is recorded when it was *acknowledged*: one
//! that is tried again is not its own duplicate. How long it is remembered is up to [`Window`].

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::window::Key;
use super::{Validator, Validity, Window, WindowLimits};
use crate::clock;
use crate::message::Message;
use crate::store::{StateEffects, Store, StoreError};
use crate::topic::TopicName;

mod record;

use record::Record;

/// Refuses what was handled before; of two copies at the same time the second one waits for the end of the first.
///
/// Use one for each group, and share it between the subscribers of that group.
///
/// * [`in_memory`](Self::in_memory) forgets everything with the process.
/// * [`stored`](Self::stored) keeps the window in a [`Store`], written in the same transaction as the acknowledgement
///   where the backend owns both ([`Capabilities::transactional`](crate::backend::Capabilities::transactional)). When
///   several processes of a group share the store, they see each other's messages: of two copies that are handled at
///   the same time in different processes only one is acknowledged, and the other one comes again and is refused.
///
/// ```
/// use sandbar::message::Message;
/// use sandbar::validator::{DuplicateValidator, Validator, Validity, WindowLimits};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let validator = DuplicateValidator::in_memory(WindowLimits::default());
/// let message = Message::new("order.create".parse()?, Default::default());
/// assert!(matches!(validator.validate(&message).await?, Validity::Valid));
/// assert!(matches!(validator.validate(&message).await?, Validity::Busy(_))); // the first copy is in flight
/// validator.committed(&message); // a subscriber does this when the message is acknowledged
/// assert!(matches!(validator.validate(&message).await?, Validity::Invalid(_)));
/// # Ok(())
/// # }
/// ```
pub struct DuplicateValidator {
    inner: Mutex<Inner>,
    stored: Option<Stored>,
    clock: Clock,
}

type Clock = Arc<dyn Fn() -> i64 + Send + Sync>;

#[derive(Debug)]
struct Inner {
    window: Window,
    flights: HashMap<Key, Flight>,
    /// What the window forgot and the store still has.
    outdated: Vec<Record>,
}

/// A message that is being handled.
#[derive(Debug)]
struct Flight {
    ended: CancellationToken,
    /// When it was recorded, once it is being acknowledged.
    at: i64,
    /// The version of its record, which must be the same when it is written.
    version: u64,
    /// What is deleted together with writing its record.
    outdated: Vec<Record>,
}

#[derive(Debug)]
struct Stored {
    store: Arc<dyn Store>,
    /// The name under which the store keeps the window; no plugin has such a name.
    plugin: Arc<str>,
}

/// How many outdated records one acknowledgement deletes, at most.
const DELETED: usize = 64;
/// How many records are read at once.
const PAGE: usize = 1_000;

impl fmt::Debug for DuplicateValidator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let remembered = self.lock().window.len();
        f.debug_struct("DuplicateValidator")
            .field("remembered", &remembered)
            .field("stored", &self.stored)
            .finish_non_exhaustive()
    }
}

impl DuplicateValidator {
    /// With a window that ends with the process.
    #[must_use]
    pub fn in_memory(limits: WindowLimits) -> Self {
        Self {
            inner: Mutex::new(Inner {
                window: Window::new(limits),
                flights: HashMap::new(),
                outdated: Vec::new(),
            }),
            stored: None,
            clock: Arc::new(clock::now_ms),
        }
    }

    /// With the window that a store keeps for a group. The store must be that of the backend whose messages are judged;
    /// with another one the window is not written. One process counts what it recorded itself and what it found at the
    /// start; what others recorded since is beyond its bound until it starts again.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use sandbar::backend::MemoryBackend;
    /// use sandbar::validator::{DuplicateValidator, WindowLimits};
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let backend = Arc::new(MemoryBackend::new()); // an `EmbeddedBackend` keeps it in SQL
    /// let validator = DuplicateValidator::stored(backend, "orders", WindowLimits::default()).await?;
    /// assert_eq!(validator.remembered(), 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// When the window cannot be read.
    pub async fn stored(
        store: Arc<dyn Store>,
        group: &str,
        limits: WindowLimits,
    ) -> Result<Self, StoreError> {
        let plugin: Arc<str> = format!("duplicates:{group}").into();
        let mut validator = Self::in_memory(limits);
        let mut after: Option<String> = None;
        loop {
            let page = store
                .state_keys(&plugin, record::AGES, after.as_deref(), PAGE)
                .await?;
            let inner = validator
                .inner
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner);
            for Record { key, at } in page.iter().filter_map(|age| Record::from_age(age)) {
                let forgotten = inner.window.record(key.0, key.1, at);
                inner
                    .outdated
                    .extend(forgotten.into_iter().map(Record::from));
            }
            match page.into_iter().next_back() {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        validator.stored = Some(Stored { store, plugin });
        Ok(validator)
    }

    /// With this clock, which says the milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn with_clock(self, clock: impl Fn() -> i64 + Send + Sync + 'static) -> Self {
        let clock = Arc::new(clock);
        Self { clock, ..self }
    }

    /// How many messages it remembers.
    #[must_use]
    pub fn remembered(&self) -> usize {
        self.lock().window.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the store says of a message of which the window knows nothing: another process may have handled it.
    async fn look_up(&self, stored: &Stored, key: &Key) -> Result<Validity, StoreError> {
        let found = stored
            .store
            .state_get(&stored.plugin, &record::seen(key))
            .await?;
        let now = (self.clock)();
        let mut inner = self.lock();
        let at = found.value.as_deref().and_then(record::moment);
        if at.is_some_and(|at| !inner.window.too_old(at, now)) {
            return Ok(duplicate(&key.0, key.1));
        }
        if let Some(flight) = inner.flights.get_mut(key) {
            flight.version = found.version;
            // Written again, its earlier record would never be deleted.
            flight
                .outdated
                .extend(at.map(|at| Record::new(key.clone(), at)));
        }
        Ok(Validity::Valid)
    }

    fn end(&self, key: &Key) -> Option<Flight> {
        let flight = self.lock().flights.remove(key)?;
        flight.ended.cancel();
        Some(flight)
    }
}

/// Ends the flight of a message that turns out not to be valid, or whose judgement is broken off.
struct Takeoff<'a> {
    validator: &'a DuplicateValidator,
    key: &'a Key,
    airborne: bool,
}

impl Drop for Takeoff<'_> {
    fn drop(&mut self) {
        if !self.airborne {
            self.validator.end(self.key);
        }
    }
}

#[async_trait]
impl Validator for DuplicateValidator {
    async fn validate(&self, message: &Message) -> Result<Validity, StoreError> {
        let key = key_of(message);
        {
            let mut inner = self.lock();
            if inner.window.contains(&key.0, key.1, (self.clock)()) {
                return Ok(duplicate(&key.0, key.1));
            }
            if let Some(first) = inner.flights.get(&key) {
                return Ok(Validity::Busy(
                    first.ended.clone().cancelled_owned().boxed(),
                ));
            }
            inner.flights.insert(key.clone(), Flight::default());
        }
        let Some(stored) = &self.stored else {
            return Ok(Validity::Valid);
        };
        let mut takeoff = Takeoff {
            validator: self,
            key: &key,
            airborne: false,
        };
        let validity = self.look_up(stored, &key).await?;
        takeoff.airborne = matches!(validity, Validity::Valid);
        Ok(validity)
    }

    fn record(&self, message: &Message) -> Option<Box<StateEffects>> {
        let stored = self.stored.as_ref()?;
        let (key, at) = (key_of(message), (self.clock)());
        let mut inner = self.lock();
        let inner = &mut *inner;
        let flight = inner.flights.get_mut(&key)?;
        flight.at = at;
        let first = inner.outdated.len().saturating_sub(DELETED);
        flight.outdated.extend(inner.outdated.drain(first..));
        let window = &inner.window;
        let outdated = flight
            .outdated
            .iter()
            .flat_map(|old| old.deletion(window.knows(&old.key)));
        let record = Record::new(key.clone(), at);
        Some(Box::new(StateEffects {
            plugin: stored.plugin.clone(),
            reads: vec![(record::seen(&key).into(), flight.version)],
            writes: outdated.chain(record.insertion()).collect(),
        }))
    }

    fn committed(&self, message: &Message) {
        let key = key_of(message);
        let now = (self.clock)();
        let mut inner = self.lock();
        let Some(flight) = inner.flights.remove(&key) else {
            return;
        };
        let at = if self.stored.is_some() {
            flight.at
        } else {
            now
        };
        let forgotten = inner.window.record(key.0, key.1, at);
        if self.stored.is_some() {
            inner
                .outdated
                .extend(forgotten.into_iter().map(Record::from));
        }
        drop(inner);
        flight.ended.cancel();
    }

    fn released(&self, message: &Message) {
        if let Some(flight) = self.end(&key_of(message)) {
            // What was to be deleted with it is still there.
            self.lock().outdated.extend(flight.outdated);
        }
    }
}

impl Default for Flight {
    fn default() -> Self {
        Self {
            ended: CancellationToken::new(),
            at: 0,
            version: 0,
            outdated: Vec::new(),
        }
    }
}

fn key_of(message: &Message) -> Key {
    (message.topic.clone(), message.identifier)
}

fn duplicate(topic: &TopicName, identifier: Uuid) -> Validity {
    Validity::Invalid(format!(
        "message {identifier} of topic `{topic}` was handled before"
    ))
}
