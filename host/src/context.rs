//! The message at hand, anywhere inside a native action: the seed's context variables.
//!
//! Held by the task, not by a thread. The same functions exist for plugins as `sandbar_guest::context`; nothing is kept
//! here between messages.

use std::ops::Deref;
use std::sync::Arc;

use uuid::Uuid;

use crate::message::{Headers, Message};
use crate::topic::TopicName;

tokio::task_local! {
    static MESSAGE: Arc<Message>;
}

/// Runs a future with this as the message at hand. The host does so around every native action; a task that an action
/// spawns has to do so itself.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use sandbar::context;
/// use sandbar::message::{Message, Payload};
///
/// /// Somewhere deep below an action.
/// async fn trace() -> Option<String> {
///     context::headers()?.get("trace").map(str::to_owned)
/// }
///
/// let mut message = Message::new("user.get".parse()?, Payload::default());
/// message.payload.headers.insert("trace", "abc")?;
/// let message = Arc::new(message.with_reply_topic("replies".parse()?));
///
/// assert_eq!(trace().await, None);
/// assert_eq!(context::scope(message.clone(), trace()).await.as_deref(), Some("abc"));
/// let reply_topic = context::scope(message, async { context::reply_topic() }).await;
/// assert_eq!(reply_topic, Some("replies".parse()?));
/// # Ok(())
/// # }
/// ```
pub async fn scope<F: Future>(message: Arc<Message>, future: F) -> F::Output {
    MESSAGE.scope(message, future).await
}

/// The message at hand; none outside an action.
#[must_use]
pub fn message() -> Option<Arc<Message>> {
    MESSAGE.try_with(Arc::clone).ok()
}

/// Its headers, shared: the seed's `REQUEST_HEADERS_CONTEXT_VAR`. None outside an action.
#[must_use]
pub fn headers() -> Option<SharedHeaders> {
    message().map(SharedHeaders)
}

/// Where a reply to it is wanted, if at all: the seed's `REQUEST_REPLY_TOPIC_CONTEXT_VAR`.
#[must_use]
pub fn reply_topic() -> Option<TopicName> {
    let topic = MESSAGE.try_with(|message| message.reply_topic.clone());
    topic.ok().flatten()
}

/// The user on whose behalf it was sent.
#[must_use]
pub fn user() -> Option<Uuid> {
    let user = MESSAGE.try_with(|message| message.user().ok().flatten());
    user.ok().flatten()
}

/// The headers of a message without a copy of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedHeaders(Arc<Message>);

impl Deref for SharedHeaders {
    type Target = Headers;

    fn deref(&self) -> &Headers {
        &self.0.payload.headers
    }
}
