//! What the owner answers, as values of the host, on both sides.
//!
//! Long lists travel in parts; [`Answer::append`] puts them together again.

use std::sync::Arc;

use bytes::Bytes;

use super::convert::{list, parse};
use super::frame::{self, Illegible, TooLong, Written};
use super::protocol::{Blob, Delivered, Letter, Refusal, Reply, Response, Unsettled};
use crate::backend::{
    BackendError, DeclaredQueue, Delivery, Overview, PublishError, Queue, QueueName, Receipt,
    Release, SettleError,
};
use crate::store::{
    DeadLetter, KeptLetter, LetterCounts, LetterPage, LettersDone, StoreError, Versioned,
};

/// The end of a call.
#[derive(Debug)]
pub(super) enum Answer {
    Done,
    Health(String),
    Queue(Queue),
    Declared(DeclaredQueue),
    Published(Vec<Result<Receipt, PublishError>>),
    Delivered(Vec<Delivery>),
    Settled(Vec<Result<(), SettleError>>),
    Value(Versioned),
    Keys(Vec<String>),
    Letters(Vec<DeadLetter>),
    Failed(BackendError),
    StoreFailed(StoreError),
    Operated(Report),
    Size(Option<u64>),
}

/// What an operator gets.
#[derive(Debug)]
pub(super) enum Report {
    Letters(LetterPage),
    Letter(Option<Box<KeptLetter>>),
    Counts(LetterCounts),
    Done(LettersDone),
    Overview(Overview),
    Purged(u64),
    Host(String),
}

impl Answer {
    /// Writes it as the answer, or a part of the answer, to a request.
    pub(super) fn write(&self, id: u64, more: bool) -> Result<Written, TooLong> {
        frame::write(&Response {
            id,
            more,
            reply: self.into(),
        })
    }

    /// Reads an answer with the number of its request and whether there is more of it.
    pub(super) fn read(
        frame: &Bytes,
        release: &Arc<dyn Release>,
    ) -> Result<(u64, bool, Self), Illegible> {
        let response: Response<'_> = frame::read(frame)?;
        let answer = match response.reply {
            Reply::Done => Self::Done,
            Reply::Health(detail) => Self::Health(detail.to_owned()),
            Reply::Queue(name) => Self::Queue(Queue { name: parse(name)? }),
            Reply::Declared { queue, dead_letter } => Self::Declared(DeclaredQueue {
                queue: Queue {
                    name: parse(queue)?,
                },
                dead_letter: match dead_letter {
                    Some(name) => Some(Queue { name: parse(name)? }),
                    None => None,
                },
            }),
            Reply::Published(results) => Self::Published(list(results, |result| {
                Ok(match result {
                    Ok(queues) => Ok(Receipt { queues }),
                    Err(refusal) => Err(refusal.read()?),
                })
            })?),
            Reply::Delivered(deliveries) => {
                Self::Delivered(list(deliveries, |one| one.read(frame, release))?)
            }
            Reply::Settled(results) => Self::Settled(list(results, |result| {
                Ok(match result {
                    Ok(()) => Ok(()),
                    Err(error) => Err(error.read()?),
                })
            })?),
            Reply::Value { value, version } => Self::Value(Versioned {
                value: value.map(|blob| frame::detach(frame, blob.0)),
                version,
            }),
            Reply::Keys(keys) => Self::Keys(keys.into_iter().map(str::to_owned).collect()),
            Reply::Letters(letters) => Self::Letters(list(letters, |letter| letter.read(frame))?),
            Reply::Failed(fault) => Self::Failed(fault.read()?),
            Reply::StoreFailed(fault) => Self::StoreFailed(fault.read()),
            Reply::Operated(operated) => Self::Operated(operated.read(frame)?),
            Reply::Size(size) => Self::Size(size),
        };
        Ok((response.id, response.more, answer))
    }

    /// Adds the next part of a list; anything else takes the place of what was there.
    pub(super) fn append(self, next: Self) -> Self {
        match (self, next) {
            (Self::Delivered(all), Self::Delivered(part)) => Self::Delivered(joined(all, part)),
            (Self::Keys(all), Self::Keys(part)) => Self::Keys(joined(all, part)),
            (Self::Letters(all), Self::Letters(part)) => Self::Letters(joined(all, part)),
            (_, next) => next,
        }
    }

    /// Why a call to the backend failed.
    pub(super) fn into_error(self) -> BackendError {
        match self {
            Self::Failed(error) => error,
            _ => BackendError::Unavailable(UNEXPECTED.to_owned()),
        }
    }

    /// Why a call to the store failed.
    pub(super) fn into_store_error(self) -> StoreError {
        match self {
            Self::StoreFailed(error) => error,
            Self::Failed(error) => StoreError::Unavailable(error.to_string()),
            _ => StoreError::Unavailable(UNEXPECTED.to_owned()),
        }
    }
}

/// What is said of an answer to another question.
pub(super) const UNEXPECTED: &str = "the host gave an answer that doesn't fit the question; restart it with this release of sandbar";

fn joined<T>(mut all: Vec<T>, part: Vec<T>) -> Vec<T> {
    all.extend(part);
    all
}

impl<'a> From<&'a Answer> for Reply<'a> {
    fn from(answer: &'a Answer) -> Self {
        match answer {
            Answer::Done => Self::Done,
            Answer::Health(detail) => Self::Health(detail),
            Answer::Queue(queue) => Self::Queue(queue.name.as_str()),
            Answer::Declared(declared) => {
                let name = |queue: &'a Queue| QueueName::as_str(&queue.name);
                Self::Declared {
                    queue: name(&declared.queue),
                    dead_letter: declared.dead_letter.as_ref().map(name),
                }
            }
            Answer::Published(results) => {
                let receipt = |result: &'a Result<Receipt, PublishError>| match result {
                    Ok(receipt) => Ok(receipt.queues),
                    Err(error) => Err(Refusal::from(error)),
                };
                Self::Published(results.iter().map(receipt).collect())
            }
            Answer::Delivered(list) => Self::Delivered(list.iter().map(Delivered::from).collect()),
            Answer::Settled(results) => {
                let settled = |result: &'a Result<(), SettleError>| match result {
                    Ok(()) => Ok(()),
                    Err(error) => Err(Unsettled::from(error)),
                };
                Self::Settled(results.iter().map(settled).collect())
            }
            Answer::Value(found) => Self::Value {
                value: found.value.as_deref().map(Blob),
                version: found.version,
            },
            Answer::Keys(keys) => Self::Keys(keys.iter().map(String::as_str).collect()),
            Answer::Letters(letters) => Self::Letters(letters.iter().map(Letter::from).collect()),
            Answer::Failed(error) => Self::Failed(error.into()),
            Answer::StoreFailed(error) => Self::StoreFailed(error.into()),
            Answer::Operated(report) => Self::Operated(report.into()),
            Answer::Size(size) => Self::Size(*size),
        }
    }
}
