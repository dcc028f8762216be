//! What a handler can reach beside its content: the message's metadata and the host.
//!
//! [`Context`] is passed to handlers that ask for it; the functions of this module give the most used parts of it
//! anywhere inside a call: the seed's context variables. It is not a place to keep things between messages: that is
//! [`State`].
//!
//! ```
//! use sandbar_guest::testing::Host;
//! use sandbar_guest::{command, context};
//!
//! /// Somewhere deep below a handler.
//! fn who() -> Option<String> {
//!     let user = context::headers().get("name").map(str::to_owned);
//!     context::reply_topic().and(user)
//! }
//!
//! #[command("greet")]
//! fn greet() -> String {
//!     format!("hello {}", who().unwrap_or_default())
//! }
//!
//! sandbar_guest::plugin!(greet);
//!
//! # fn main() {
//! let mut host = Host::new(PLUGIN);
//! let outcome = host.message("greet", ()).header("name", "Ann").reply_topic("replies").send();
//! assert_eq!(outcome.text(), "hello Ann");
//! assert_eq!(who(), None, "there is no message outside a call");
//! # }
//! ```

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use crate::backend;
use crate::config::Config;
use crate::content::IntoResponse;
use crate::headers::Headers;
use crate::publish::{self, Publish, PublishError, Reply, RequestError};
use crate::request::Meta;
use crate::state::State;

/// The message at hand and the way to the host.
#[derive(Debug)]
pub struct Context {
    meta: Rc<Meta>,
}

impl Context {
    /// The UUID of the message; the reply carries the same.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.meta.id
    }

    /// The topic it came on: never a pattern.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.meta.topic
    }

    /// Where a reply is wanted, if at all.
    #[must_use]
    pub fn reply_topic(&self) -> Option<&str> {
        self.meta.reply_topic.as_deref()
    }

    /// All headers of the message.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.meta.headers
    }

    /// One header of the message; case doesn't matter.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.meta.headers.get(name)
    }

    /// The user on whose behalf the message was sent: the header `user`.
    #[must_use]
    pub fn user(&self) -> Option<Uuid> {
        self.meta.user()
    }

    /// 1 at the first delivery of the message to this handler.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.meta.attempt
    }

    /// How long the handler may run, counted from its start.
    #[must_use]
    pub fn budget(&self) -> Duration {
        Duration::from_millis(self.meta.budget_ms.into())
    }

    /// Publishes a message when the handler has succeeded.
    ///
    /// # Errors
    /// See [`PublishError`].
    pub fn publish(&self, topic: &str, content: impl IntoResponse) -> Result<(), PublishError> {
        self.message(topic, content).publish()
    }

    /// A message to publish with more than topic and content.
    pub fn message(&self, topic: &str, content: impl IntoResponse) -> Publish {
        Publish::new(topic, content)
    }

    /// Asks another handler and waits for its answer, which may have any status.
    ///
    /// # Errors
    /// See [`RequestError`].
    pub fn request(
        &self,
        topic: &str,
        content: impl IntoResponse,
        timeout: Duration,
    ) -> Result<Reply, RequestError> {
        publish::request(topic, content, timeout)
    }

    /// Values that outlive the message.
    #[must_use]
    pub fn state(&self) -> State {
        State(())
    }

    /// What the operator configured.
    #[must_use]
    pub fn config(&self) -> Config {
        Config(())
    }

    /// The time of the call. It stands still until the handler returns, so that a message can be replayed exactly.
    #[must_use]
    pub fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(backend::now())
    }

    /// Random bytes; the same again when the message is replayed.
    #[must_use]
    pub fn random(&self, len: u32) -> Vec<u8> {
        backend::random(len)
    }

    /// A new identifier; the same again when the message is replayed.
    #[must_use]
    pub fn uuid(&self) -> Uuid {
        backend::uuid().parse().unwrap_or_default()
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Rc<Meta>>> = const { RefCell::new(None) };
}

/// Runs a handler with `meta` as the message at hand.
pub(crate) fn enter<T>(meta: Rc<Meta>, run: impl FnOnce(&Context) -> T) -> T {
    /// Ends the call even if the handler panics, which a test may survive.
    struct Leave(Option<Rc<Meta>>);
    impl Drop for Leave {
        fn drop(&mut self) {
            CURRENT.set(self.0.take());
        }
    }
    let _leave = Leave(CURRENT.replace(Some(Rc::clone(&meta))));
    run(&Context { meta })
}

fn current<T: Default>(read: impl FnOnce(&Meta) -> T) -> T {
    CURRENT.with_borrow(|meta| meta.as_deref().map(read).unwrap_or_default())
}

/// The headers of the message at hand; none outside a call.
#[must_use]
pub fn headers() -> Headers {
    current(|meta| meta.headers.clone())
}

/// The user on whose behalf the message at hand was sent.
#[must_use]
pub fn user() -> Option<Uuid> {
    current(Meta::user)
}

/// Where a reply to the message at hand is wanted, if at all.
#[must_use]
pub fn reply_topic() -> Option<String> {
    current(|meta| meta.reply_topic.clone())
}
