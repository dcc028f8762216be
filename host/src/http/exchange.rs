//! One request with what comes of it, as far as a journal has room for it, and what all requests of one call share.
//!
//! Only notes and counts; who sends is in `http/send.rs`. A body that is not read is not fetched, so what is noted is what the
//! handler has seen.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::store::{Blob, BodyEnd, FetchFailure, FetchFailureKind, Fetched, Journal};

/// What the requests of one call share. When it is dropped, those that are under way are broken off.
#[derive(Debug)]
pub(crate) struct Traffic {
    /// Bytes of heads and bodies, in and out.
    used: AtomicUsize,
    most: usize,
    /// What is still kept for the journal.
    room: AtomicUsize,
    /// When the call is over.
    pub(super) deadline: Option<Instant>,
    pub(super) over: CancellationToken,
    /// Whether `most` was exceeded.
    exceeded: AtomicBool,
}

impl Traffic {
    pub(crate) fn new(most: usize, deadline: Option<Instant>) -> Self {
        Self {
            used: AtomicUsize::new(0),
            most,
            // With room for the rest of the steps.
            room: AtomicUsize::new(Journal::MOST / 4 * 3),
            deadline,
            over: CancellationToken::new(),
            exceeded: AtomicBool::new(false),
        }
    }

    /// The call has ended.
    pub(crate) fn end(&self) {
        self.over.cancel();
    }

    /// Whether the time of the call is over.
    pub(crate) fn is_late(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Bytes that went in and out.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether a request was broken off because there was too much of it.
    pub(crate) fn exceeded(&self) -> bool {
        self.exceeded.load(Ordering::Relaxed)
    }

    /// Counts so many bytes more.
    pub(super) fn take(&self, bytes: usize, kind: FetchFailureKind) -> Result<(), FetchFailure> {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        if before.saturating_add(bytes) <= self.most {
            return Ok(());
        }
        self.exceeded.store(true, Ordering::Relaxed);
        let most = self.most;
        Err(FetchFailure::new(
            kind,
            format!(
                "one call may send and receive {most} bytes over HTTP; raise `limits.http_bytes`"
            ),
        ))
    }

    /// As many of these bytes as are kept.
    fn kept<'b>(&self, bytes: &'b [u8]) -> (&'b [u8], bool) {
        let room = |room: usize| Some(room.saturating_sub(bytes.len()));
        let before = self
            .room
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, room)
            .unwrap_or_default();
        let kept = bytes.get(..before).unwrap_or(bytes);
        (kept, kept.len() < bytes.len())
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.end();
    }
}

/// One request and what comes of it.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(super) traffic: Arc<Traffic>,
    noted: Mutex<Noted>,
}

/// What was noted of it so far.
#[derive(Debug, Clone)]
pub(crate) struct Noted {
    /// What was sent.
    pub(crate) sent: Vec<u8>,
    /// Whether more was sent than was kept.
    pub(crate) cut: bool,
    pub(crate) answer: Fetched,
    /// What the host refused after it had begun, for the operator.
    refused: Option<String>,
}

impl Exchange {
    pub(crate) fn new(
        method: &str,
        url: String,
        headers: Vec<(String, String)>,
        traffic: Arc<Traffic>,
    ) -> Self {
        Self {
            method: method.to_owned(),
            url,
            headers,
            traffic,
            noted: Mutex::new(Noted {
                sent: Vec::new(),
                cut: false,
                answer: Fetched::Pending,
                refused: None,
            }),
        }
    }

    fn noting(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was noted so far.
    pub(crate) fn noted(&self) -> Noted {
        self.noting().clone()
    }

    /// What the host refused after it had begun.
    pub(crate) fn refusal(&self) -> Option<String> {
        self.noting().refused.clone()
    }

    pub(super) fn sent(&self, bytes: &Bytes) -> Result<(), FetchFailure> {
        self.traffic
            .take(bytes.len(), FetchFailureKind::RequestTooLarge)?;
        let (kept, cut) = self.traffic.kept(bytes);
        let mut noted = self.noting();
        noted.cut |= cut;
        noted.sent.extend_from_slice(kept);
        Ok(())
    }

    pub(super) fn responded(&self, status: u16, headers: Vec<(String, String)>) {
        self.noting().answer = Fetched::Response {
            status,
            headers,
            content: Blob::default(),
            end: BodyEnd::Unread,
        };
    }

    pub(super) fn received(&self, bytes: &Bytes) -> Result<(), FetchFailure> {
        self.traffic
            .take(bytes.len(), FetchFailureKind::ResponseTooLarge)?;
        let (kept, cut) = self.traffic.kept(bytes);
        if let Fetched::Response { content, end, .. } = &mut self.noting().answer {
            content.0.extend_from_slice(kept);
            if cut {
                *end = BodyEnd::Missing;
            }
        }
        Ok(())
    }

    /// All of the response was read. What was missing stays missing.
    pub(super) fn ended(&self) {
        if let Fetched::Response { end, .. } = &mut self.noting().answer
            && *end == BodyEnd::Unread
        {
            *end = BodyEnd::Whole;
        }
    }

    /// It failed, before or within the response.
    pub(super) fn failed(&self, failure: &FetchFailure) {
        let mut noted = self.noting();
        match &mut noted.answer {
            Fetched::Response { end, .. } if *end == BodyEnd::Unread => {
                *end = BodyEnd::Failed(failure.clone());
            }
            Fetched::Response { .. } => {}
            answer => *answer = Fetched::Failed(failure.clone()),
        }
    }

    /// No connection was made in time.
    pub(crate) fn took_long_to_connect(&self) -> bool {
        let failed = FetchFailureKind::ConnectTimeout;
        matches!(&self.noting().answer, Fetched::Failed(failure) if failure.kind == failed)
    }

    pub(super) fn refused(&self, text: String) {
        self.noting().refused = Some(text);
    }

    /// What a request got that is not sent again, with as much of its body as was kept then.
    pub(super) fn again(&self, sent: Vec<u8>, cut: bool, answer: Fetched) {
        let mut noted = self.noting();
        (noted.sent, noted.cut, noted.answer) = (sent, cut, answer);
    }
}
