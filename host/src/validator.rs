//! Whether a message that arrived is to be handled: the seed's `BrokerSubscriberValidator`.
//!
//! [`DuplicateValidator`] recognises what was handled before, [`filter`] asks a closure. A validator only judges; what
//! becomes of a message that it refuses is up to [`FilteredSubscriber`](crate::subscriber::FilteredSubscriber), which
//! acknowledges and counts it.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures_util::future::BoxFuture;

use crate::message::Message;
use crate::store::{StateEffects, StoreError};

mod checked;
mod duplicate;
mod window;

pub(crate) use checked::Checked;
pub use duplicate::DuplicateValidator;
pub use window::{Window, WindowLimits};

/// Judges messages, and learns how those end that it let pass.
///
/// For each message that it calls [`Valid`](Validity::Valid) exactly one of [`committed`](Self::committed) and
/// [`released`](Self::released) is called later.
///
/// ```
/// use async_trait::async_trait;
/// use sandbar::message::Message;
/// use sandbar::store::StoreError;
/// use sandbar::validator::{Validator, Validity};
///
/// /// Lets only messages with a user pass.
/// #[derive(Debug)]
/// struct HasUser;
///
/// #[async_trait]
/// impl Validator for HasUser {
///     async fn validate(&self, message: &Message) -> Result<Validity, StoreError> {
///         Ok(match message.user() {
///             Ok(Some(_)) => Validity::Valid,
///             Ok(None) => Validity::Invalid("it has no user".to_owned()),
///             Err(error) => Validity::Invalid(error.to_string()),
///         })
///     }
/// }
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let message = Message::new("user.get".parse()?, Default::default());
/// assert!(matches!(HasUser.validate(&message).await?, Validity::Invalid(_)));
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Validator: Send + Sync + fmt::Debug {
    /// Judges a message that arrived.
    ///
    /// # Errors
    /// When what it needs to know cannot be read; the message waits and is judged again.
    async fn validate(&self, message: &Message) -> Result<Validity, StoreError>;

    /// What is to become durable together with the acknowledgement of a message that was valid.
    fn record(&self, _message: &Message) -> Option<Box<StateEffects>> {
        None
    }

    /// A message that was valid has been acknowledged.
    fn committed(&self, _message: &Message) {}

    /// A message that was valid was not handled to its end; it comes again, or has become a dead letter.
    fn released(&self, _message: &Message) {}
}

/// What a validator says of a message.
pub enum Validity {
    /// It may be handled.
    Valid,
    /// It is not to be handled, for this reason.
    Invalid(String),
    /// It cannot be said yet: wait for this, and ask again.
    Busy(BoxFuture<'static, ()>),
}

impl fmt::Debug for Validity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Valid => f.write_str("Valid"),
            Self::Invalid(why) => f.debug_tuple("Invalid").field(why).finish(),
            Self::Busy(_) => f.write_str("Busy"),
        }
    }
}

/// A validator that asks a closure.
///
/// ```
/// use sandbar::message::Message;
/// use sandbar::validator::{Validity, filter};
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let validator = filter(|message| message.ok());
/// let message = Message::new("user.get".parse()?, Default::default());
/// assert!(matches!(validator.validate(&message).await?, Validity::Valid));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn filter<F>(passes: F) -> Arc<dyn Validator>
where
    F: Fn(&Message) -> bool + Send + Sync + 'static,
{
    Arc::new(Filter(passes))
}

struct Filter<F>(F);

impl<F> fmt::Debug for Filter<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filter")
    }
}

#[async_trait]
impl<F: Fn(&Message) -> bool + Send + Sync> Validator for Filter<F> {
    async fn validate(&self, message: &Message) -> Result<Validity, StoreError> {
        Ok(match self.0(message) {
            true => Validity::Valid,
            false => Validity::Invalid("a filter refused it".to_owned()),
        })
    }
}
