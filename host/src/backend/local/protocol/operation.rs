//! What an operator asks the owner of a data folder for: dead letters, and what waits in the queues.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Letter, Spec, Tried};
use crate::store::{LetterCounts, LetterFilter, LetterPage, LetterPart, LettersDone, ReplayTo};

/// What is asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) enum Operation<'a> {
    Letters {
        filter: Cow<'a, LetterFilter>,
        before: Option<u64>,
        limit: u32,
    },
    Letter(u64),
    CountLetters(Cow<'a, LetterFilter>),
    ReplayLetters(Cow<'a, LetterPart>, Cow<'a, ReplayTo>),
    PurgeLetters(Cow<'a, LetterPart>),
    Overview,
    PurgeQueue(&'a str),
    /// What the host is asked, in words that are its own.
    Host(&'a str),
}

/// What is answered.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) enum Operated<'a> {
    Letters(Cow<'a, LetterPage>),
    Letter(#[serde(borrow)] Option<Box<Kept<'a>>>),
    Counts(Cow<'a, LetterCounts>),
    Done(Cow<'a, LettersDone>),
    Overview {
        #[serde(borrow)]
        queues: Vec<Status<'a>>,
        kept: u64,
        beyond: Option<&'a str>,
    },
    Purged(u64),
    Host(Cow<'a, str>),
}

/// A [`crate::store::KeptLetter`].
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Kept<'a> {
    pub(in super::super) id: u64,
    #[serde(borrow)]
    pub(in super::super) letter: Letter<'a>,
    pub(in super::super) key: Option<&'a str>,
    pub(in super::super) route: Option<u32>,
    pub(in super::super) published_ms: i64,
    pub(in super::super) first_ms: i64,
    #[serde(borrow)]
    pub(in super::super) last: Vec<Tried<'a>>,
}

/// A [`crate::backend::QueueStatus`].
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Status<'a> {
    #[serde(borrow)]
    pub(in super::super) spec: Spec<'a>,
    pub(in super::super) ready: u64,
    pub(in super::super) in_flight: u64,
    pub(in super::super) delayed: u64,
    pub(in super::super) retrying: u64,
    pub(in super::super) parked: u64,
    pub(in super::super) oldest_ms: Option<i64>,
    pub(in super::super) receivers: u64,
}
