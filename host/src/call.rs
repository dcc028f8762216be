//! One call of a handler: what it was given, what it may do, and what it has done so far.
//!
//! Plugins and native actions act on the world only through a [`Call`], so that both obey the same grants and limits
//! and nothing that they do is visible before the pipeline commits it. A call does not know who executes it.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use uuid::Uuid;

use crate::backend::{Effects, Outgoing};
use crate::client::{Client, RequestError};
use crate::http::Connector;
use crate::message::{Message, PROPAGATED, Payload, Strategy};
use crate::plugin::{Grant, Grants, Hits, Limit, Limits};
use crate::store::{Frame, Report, StateEffects, Store, StoreError, Used, Versioned};
use crate::topic::TopicName;

mod http;
mod notes;
mod record;
mod state;

pub(crate) use http::Unsent;
use notes::Notes;
use record::Did;
pub use record::Replay;
use state::Written;

/// What every call of one plugin (or of one set of native actions) shares.
#[derive(Debug)]
pub struct Access {
    /// The name under which state is kept and everything is reported.
    pub plugin: Arc<str>,
    /// What it may do.
    pub grants: Grants,
    /// How much of it.
    pub limits: Limits,
    /// How often it hit a limit.
    pub hits: Arc<Hits>,
    /// Where its state is.
    pub store: Arc<dyn Store>,
    /// Who asks for it.
    pub client: Option<Arc<Client>>,
    /// Who connects for it.
    pub http: Option<Arc<Connector>>,
}

/// One call in progress.
#[derive(Debug)]
pub struct Call {
    /// The message to handle.
    pub message: Arc<Message>,
    /// 1 for the first time.
    pub attempt: u32,
    /// Which of the handler's routes matched.
    pub route: u32,
    /// When it began, milliseconds since 1970-01-01 UTC; the handler's idea of now.
    pub began_ms: i64,
    access: Arc<Access>,
    /// Nothing for a call that only replies, so that it is small where it is handed on.
    done: Option<Box<Done>>,
    /// The limits that it has hit, a bit for each.
    hit: u32,
    /// Nothing for most calls.
    notes: Option<Box<Notes>>,
    /// What is given to it again.
    replay: Option<Box<Replay>>,
    /// What it sends over HTTP.
    http: Option<Box<http::Sending>>,
}

/// What a call has asked for and done so far.
#[derive(Debug, Default)]
struct Done {
    publishes: Vec<Outgoing>,
    published_bytes: usize,
    reads: BTreeMap<Arc<str>, Versioned>,
    writes: BTreeMap<Arc<str>, Option<Bytes>>,
    /// Bytes of its writes.
    written: Written,
    /// All of it in order.
    did: Vec<Did>,
    /// What its randomness is made of, once it has failed.
    seed: Option<[u8; 32]>,
}

static NOTHING: LazyLock<Done> = LazyLock::new(Done::default);

/// What accompanies a publish.
#[derive(Debug, Clone, Default)]
pub struct PublishOptions {
    /// One group or all.
    pub strategy: Strategy,
    /// Messages of one key stay in order.
    pub key: Option<String>,
    /// Not delivered before this much time has passed.
    pub delay: Duration,
    /// Generated when absent.
    pub identifier: Option<Uuid>,
    /// Where a reply is wanted.
    pub reply_topic: Option<TopicName>,
}

/// Why the host refused something to a handler.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not granted.
    #[error("{0}")]
    Forbidden(String),
    /// Malformed.
    #[error("{0}")]
    Invalid(String),
    /// Too much.
    #[error("{0}")]
    Limit(String),
    /// Not now.
    #[error("{0}")]
    Unavailable(String),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl Call {
    /// A call that has done nothing yet.
    #[must_use]
    pub fn new(
        access: Arc<Access>,
        message: Arc<Message>,
        attempt: u32,
        route: u32,
        began_ms: i64,
    ) -> Self {
        Self {
            message,
            attempt,
            route,
            began_ms,
            access,
            done: None,
            hit: 0,
            notes: None,
            replay: None,
            http: None,
        }
    }

    /// The same for an attempt that is run again.
    #[must_use]
    pub fn again(mut self, replay: Replay) -> Self {
        self.replay = Some(Box::new(replay));
        self
    }

    fn done(&self) -> &Done {
        self.done.as_deref().unwrap_or_else(|| &NOTHING)
    }

    fn doing(&mut self) -> &mut Done {
        self.done.get_or_insert_default()
    }

    /// What this call shares with the others of its plugin.
    #[must_use]
    pub fn access(&self) -> &Arc<Access> {
        &self.access
    }

    /// Buffers a message. The user and trace headers of the handled message go with it unless it sets them itself.
    ///
    /// # Errors
    /// A [`Refusal`] when the topic is not granted, something is malformed, or a limit is used up.
    pub fn publish(
        &mut self,
        topic: TopicName,
        mut payload: Payload,
        options: PublishOptions,
    ) -> Result<(), Refusal> {
        if !self.access.grants.may_publish(&topic) {
            return Err(self.forbidden(Grant::Publish, topic.as_str()));
        }
        self.check_payload(&payload)?;
        let limits = &self.access.limits;
        if self.done().publishes.len() >= limits.publishes {
            let text = format!(
                "one call may publish {} messages; raise `limits.publishes` of plugin `{}`",
                limits.publishes, self.access.plugin
            );
            return Err(self.exceeded(Limit::Publishes, text));
        }
        let bytes = self.done().published_bytes + payload.content.len() + payload.headers.size();
        if bytes > limits.publish_bytes {
            let text = format!(
                "one call may publish {} bytes; raise `limits.publish_bytes` of plugin `{}`",
                limits.publish_bytes, self.access.plugin
            );
            return Err(self.exceeded(Limit::PublishBytes, text));
        }
        self.doing().published_bytes = bytes;
        if options
            .key
            .as_ref()
            .is_some_and(|key| key.is_empty() || key.len() > 255)
        {
            return Err(Refusal::Invalid(
                "a message key has 1 to 255 bytes".to_owned(),
            ));
        }
        self.propagate(&mut payload);
        let identifier = options
            .identifier
            .unwrap_or_else(|| self.derived_identifier());
        let mut message = Message::identified(identifier, topic, payload);
        message.strategy = options.strategy;
        message.reply_topic = options.reply_topic;
        let mut outgoing = Outgoing::new(message);
        outgoing.key = options.key.map(Into::into);
        outgoing.delay = options.delay;
        let done = self.doing();
        done.did.push(Did::Published(done.publishes.len()));
        done.publishes.push(outgoing);
        Ok(())
    }

    /// The same again when the message is handled again, so that whoever gets both copies can tell.
    fn derived_identifier(&self) -> Uuid {
        let name = format!(
            "{}/{}/{}",
            self.access.plugin,
            self.route,
            self.done().publishes.len()
        );
        Uuid::new_v5(&self.message.identifier, name.as_bytes())
    }

    fn propagate(&self, payload: &mut Payload) {
        for name in PROPAGATED {
            if payload.headers.get(name).is_none()
                && let Some(value) = self.message.payload.headers.get(name)
            {
                payload.headers.put(name, value);
            }
        }
    }

    /// What asking needs, once topic and payload are allowed. The user and trace headers of the handled message go with
    /// it unless it sets them itself.
    ///
    /// # Errors
    /// A [`Refusal`] when the topic is not granted or the payload exceeds a limit.
    pub fn begin_request(
        &mut self,
        topic: TopicName,
        payload: Payload,
    ) -> Result<(Arc<Client>, Message), Refusal> {
        let message = self.request_message(topic, payload)?;
        Ok((self.client()?, message))
    }

    /// The request alone.
    ///
    /// # Errors
    /// As [`Self::begin_request`].
    pub(crate) fn request_message(
        &mut self,
        topic: TopicName,
        mut payload: Payload,
    ) -> Result<Message, Refusal> {
        if !self.access.grants.may_request(&topic) {
            return Err(self.forbidden(Grant::Request, topic.as_str()));
        }
        self.check_payload(&payload)?;
        self.propagate(&mut payload);
        Ok(Message::new(topic, payload))
    }

    /// Who asks for it.
    ///
    /// # Errors
    /// [`Refusal::Unavailable`] when nobody does.
    pub(crate) fn client(&self) -> Result<Arc<Client>, Refusal> {
        self.access
            .client
            .clone()
            .ok_or_else(|| Refusal::Unavailable("this host has no client for requests".to_owned()))
    }

    /// Everything that it did, to be committed.
    #[must_use]
    pub fn into_effects(self) -> Effects {
        let Some(done) = self.done else {
            return Effects::default();
        };
        let Done {
            publishes,
            reads,
            writes,
            mut written,
            ..
        } = *done;
        written.commit();
        let reads = reads.into_iter();
        let state = (!writes.is_empty()).then(|| {
            Box::new(StateEffects {
                plugin: self.access.plugin.clone(),
                reads: reads.map(|(key, read)| (key, read.version)).collect(),
                writes: writes.into_iter().collect(),
            })
        });
        Effects { publishes, state }
    }

    /// Refuses a payload that exceeds the limits of this plugin.
    ///
    /// # Errors
    /// [`Refusal::Limit`] with the limit's name.
    pub fn check_payload(&mut self, payload: &Payload) -> Result<(), Refusal> {
        let checked = self.access.limits.check_payload(payload);
        checked.map_err(|error| self.exceeded(error.limit, error.to_string()))
    }

    fn forbidden(&mut self, grant: Grant, topic: &str) -> Refusal {
        let verb = grant.name();
        let plugin = &self.access.plugin;
        // A guest may have put anything into it.
        let topic = self.access.grants.secrets.redact(topic);
        tracing::warn!(plugin = %plugin, message_id = %self.message.identifier, %topic, "refused: {verb} is not granted; add {topic:?} to `{verb}` under [plugins.{plugin}]");
        let text = format!(
            "plugin `{plugin}` may not {verb} `{topic}`; add `{verb} = [\"{topic}\"]` under [plugins.{plugin}]"
        );
        self.refuse(grant, text)
    }

    fn refuse(&mut self, grant: Grant, text: String) -> Refusal {
        self.access.hits.refused(grant);
        self.notes.get_or_insert_default().refused(text.clone());
        Refusal::Forbidden(text)
    }

    /// It hit a limit; counted once for each call and limit.
    pub(crate) fn hit(&mut self, limit: Limit) {
        if self.hit & limit.bit() == 0 {
            self.hit |= limit.bit();
            self.access.hits.count(limit);
        }
    }

    fn exceeded(&mut self, limit: Limit, text: String) -> Refusal {
        self.hit(limit);
        self.notes.get_or_insert_default().exceeded(text.clone());
        Refusal::Limit(text)
    }

    /// The handler logged this line.
    pub(crate) fn logged(&mut self, line: String) {
        self.notes.get_or_insert_default().logged(line);
    }

    /// It ended here, and had used so much; its randomness was made of this.
    pub(crate) fn ended(&mut self, trace: Vec<Frame>, used: Vec<Used>, seed: Option<[u8; 32]>) {
        if seed.is_some() {
            self.doing().seed = seed;
        }
        self.notes.get_or_insert_default().ended(trace, used);
    }

    /// The first thing that was not granted to it, with the line to add.
    #[must_use]
    pub fn first_refusal(&self) -> Option<&str> {
        self.notes.as_ref().and_then(|notes| notes.first_refusal())
    }

    /// The first limit that it was refused something for, with the line to change.
    #[must_use]
    pub fn first_excess(&self) -> Option<&str> {
        self.notes.as_ref().and_then(|notes| notes.first_excess())
    }

    /// What is to be known of it when it has failed; `None` if there is nothing to say beside the error.
    #[must_use]
    pub fn report(&self) -> Option<Box<Report>> {
        let notes = self.notes.as_ref()?;
        let (done, limits) = (self.done(), &self.access.limits);
        let own = [
            ("publishes", done.publishes.len(), limits.publishes),
            ("publish_bytes", done.published_bytes, limits.publish_bytes),
            ("state_writes", done.writes.len(), limits.state_writes),
        ];
        let own = own.map(|(limit, used, of)| Used::new(limit, used as u64, of as u64));
        let used = own.into_iter().chain(self.http_used());
        Some(Box::new(notes.report(used, self.journal())))
    }
}

impl From<RequestError> for Refusal {
    fn from(error: RequestError) -> Self {
        Self::Unavailable(error.to_string())
    }
}
