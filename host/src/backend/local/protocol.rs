//! What is said on the local socket, and nothing else: the shapes of version [`super::VERSION`], as `postcard` writes
//! them.
//!
//! Everything is borrowed, from the values that are written or from the frame that was read. What it means is in
//! [`super::convert`]. Postcard writes no names, only positions: any change here, a new order included, is a new
//! version, which a test of the written bytes reminds of.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

use crate::message::Strategy;
use crate::store::{Reason, Report};

mod faults;
mod list;
mod operation;
#[cfg(test)]
mod tests;

pub(super) use faults::{Fault, Refusal, StoreFault, Unsettled};
use list::bounded;
pub(super) use operation::{Kept, Operated, Operation, Status};

/// From a client to the owner.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request<'a> {
    /// Of no other request of this connection that waits for its answer, which carries it too.
    pub(super) id: u64,
    #[serde(borrow)]
    pub(super) call: Call<'a>,
}

/// What is asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Call<'a> {
    Health,
    DeclareTopic(&'a str),
    DeclareQueue(#[serde(borrow)] Spec<'a>),
    GetQueue(&'a str),
    DeleteQueue(&'a str),
    DeleteTopic(&'a str),
    Publish(#[serde(borrow, deserialize_with = "bounded")] Vec<Sent<'a>>),
    Receive {
        queue: &'a str,
        max: u32,
        wait: Duration,
    },
    Settle(#[serde(borrow, deserialize_with = "bounded")] Vec<Ending<'a>>),
    Extend {
        #[serde(deserialize_with = "bounded")]
        tokens: Vec<Mark>,
        lease: Duration,
    },
    StateGet {
        plugin: &'a str,
        key: &'a str,
    },
    StateKeys {
        plugin: &'a str,
        prefix: &'a str,
        after: Option<&'a str>,
        limit: u32,
    },
    DeadLetters {
        limit: u32,
    },
    /// Gives a delivery back. There is no answer.
    Release(Mark),
    /// Nobody waits any more for the `Receive` of this number. There is no answer.
    Cancel(u64),
    /// What an operator asks for.
    Operate(#[serde(borrow)] Operation<'a>),
    StateSize(&'a str),
}

/// From the owner to a client.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Response<'a> {
    /// Of the request.
    pub(super) id: u64,
    /// The list goes on in another response of the same number.
    pub(super) more: bool,
    #[serde(borrow)]
    pub(super) reply: Reply<'a>,
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply<'a> {
    Done,
    Health(&'a str),
    Queue(&'a str),
    Declared {
        queue: &'a str,
        dead_letter: Option<&'a str>,
    },
    Published(#[serde(borrow)] Vec<Result<u32, Refusal<'a>>>),
    Delivered(#[serde(borrow)] Vec<Delivered<'a>>),
    Settled(#[serde(borrow)] Vec<Result<(), Unsettled<'a>>>),
    Value {
        value: Option<Blob<'a>>,
        version: u64,
    },
    Keys(#[serde(borrow)] Vec<&'a str>),
    Letters(#[serde(borrow)] Vec<Letter<'a>>),
    Failed(#[serde(borrow)] Fault<'a>),
    StoreFailed(#[serde(borrow)] StoreFault<'a>),
    Operated(#[serde(borrow)] Operated<'a>),
    Size(Option<u64>),
}

/// A [`crate::backend::QueueSpec`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Spec<'a> {
    pub(super) name: &'a str,
    pub(super) group: &'a str,
    #[serde(borrow, deserialize_with = "bounded")]
    pub(super) topics: Vec<&'a str>,
    pub(super) dead_letter: Option<&'a str>,
    pub(super) lease: Duration,
    pub(super) ephemeral: bool,
}

/// A [`crate::message::Message`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Note<'a> {
    pub(super) topic: &'a str,
    pub(super) identifier: Uuid,
    pub(super) reply_topic: Option<&'a str>,
    pub(super) strategy: Strategy,
    pub(super) status: u16,
    #[serde(borrow)]
    pub(super) headers: Vec<(&'a str, &'a str)>,
    #[serde(borrow)]
    pub(super) content: Blob<'a>,
}

/// A [`crate::backend::Outgoing`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Sent<'a> {
    /// `None`: to the topic of the message.
    pub(super) queue: Option<&'a str>,
    #[serde(borrow)]
    pub(super) message: Note<'a>,
    pub(super) key: Option<&'a str>,
    pub(super) delay: Duration,
    pub(super) mandatory: bool,
    pub(super) route: Option<u32>,
}

/// A [`crate::backend::Token`].
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Mark {
    pub(super) id: u64,
    pub(super) fence: u64,
}

/// A [`crate::wire::Packet`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Parcel<'a> {
    Message(#[serde(borrow)] Note<'a>),
    Raw {
        topic: &'a str,
        broker_id: Option<&'a str>,
        #[serde(borrow)]
        properties: Vec<(&'a str, &'a str)>,
        #[serde(borrow)]
        body: Blob<'a>,
    },
}

/// A [`crate::backend::Delivery`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Delivered<'a> {
    #[serde(borrow)]
    pub(super) packet: Parcel<'a>,
    pub(super) attempt: u32,
    pub(super) key: Option<&'a str>,
    pub(super) route: Option<u32>,
    pub(super) token: Mark,
}

/// A [`crate::backend::Settlement`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ending<'a> {
    pub(super) token: Mark,
    #[serde(borrow)]
    pub(super) verdict: Sentence<'a>,
    #[serde(borrow, deserialize_with = "bounded")]
    pub(super) publishes: Vec<Sent<'a>>,
    #[serde(borrow)]
    pub(super) state: Option<Changes<'a>>,
}

/// A [`crate::backend::Verdict`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Sentence<'a> {
    Ack,
    Retry(Duration, #[serde(borrow)] Tried<'a>),
    DeadLetter(#[serde(borrow)] Box<Letter<'a>>),
}

/// A [`crate::store::FailedAttempt`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Tried<'a> {
    pub(super) attempt: u32,
    pub(super) at_ms: i64,
    pub(super) reason: Reason,
    pub(super) error: &'a str,
}

/// A [`crate::store::StateEffects`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Changes<'a> {
    pub(super) plugin: &'a str,
    #[serde(borrow)]
    pub(super) reads: Vec<(&'a str, u64)>,
    #[serde(borrow)]
    pub(super) writes: Vec<(&'a str, Option<Blob<'a>>)>,
}

/// A [`crate::store::DeadLetter`].
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Letter<'a> {
    #[serde(borrow)]
    pub(super) packet: Parcel<'a>,
    pub(super) reason: Reason,
    pub(super) error: &'a str,
    pub(super) plugin: Option<&'a str>,
    pub(super) digest: Option<&'a str>,
    pub(super) queue: &'a str,
    pub(super) attempts: u32,
    pub(super) at_ms: i64,
    pub(super) report: Option<Box<Report>>,
}

/// Bytes in one piece. A plain slice would be written number by number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Blob<'a>(pub(super) &'a [u8]);

impl Serialize for Blob<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Blob<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <&'a [u8]>::deserialize(deserializer).map(Blob)
    }
}
