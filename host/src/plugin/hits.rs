//! The limits of a plugin by name, how often each was hit, and what else of a plugin is counted: refusals and instances.
//!
//! Pure: names and counters. What a limit is and who enforces it is said elsewhere; its name here is that of its count, of
//! its metric and, for most, of its key in the configuration.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A limit that a plugin can hit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Limit {
    /// Wall time of one call.
    Time,
    /// Wall time of instantiation and of asking for the routes.
    LoadTime,
    /// Linear memory of one instance.
    Memory,
    /// Stack of one call.
    Stack,
    /// Elements of all tables of one instance.
    TableElements,
    /// Core instances, memories and tables of one component; fixed.
    Instances,
    /// Handles of resources that one instance holds.
    Resources,
    /// Bytes that one call to the host brings with it.
    HostcallFuel,
    /// Random bytes that come at once; fixed.
    Random,
    /// Content of one message.
    Content,
    /// Headers of one message.
    Headers,
    /// Bytes of the headers of one message.
    HeaderBytes,
    /// Messages published by one call.
    Publishes,
    /// Bytes published by one call.
    PublishBytes,
    /// Lines logged by one call.
    LogLines,
    /// Bytes logged or printed by one call.
    LogBytes,
    /// One value in the state.
    StateValue,
    /// Keys written by one call.
    StateWrites,
    /// All keys and values of the plugin.
    StateTotal,
    /// Requests over HTTP of one call.
    HttpRequests,
    /// What one call sends and receives over HTTP.
    HttpBytes,
    /// How long a connection over HTTP takes to be made.
    HttpConnectTime,
    /// Calls at once.
    Concurrency,
    /// Messages for each second.
    Rate,
    /// Routes of one component; fixed.
    Routes,
    /// The component file.
    File,
    /// Wall time of compiling it.
    CompileTime,
    /// Memory that compiling it may take.
    CompileMemory,
}

impl Limit {
    /// All of them, in the order of the manual.
    pub const ALL: [Self; 28] = [
        Self::Time,
        Self::LoadTime,
        Self::Memory,
        Self::Stack,
        Self::TableElements,
        Self::Instances,
        Self::Resources,
        Self::HostcallFuel,
        Self::Random,
        Self::Content,
        Self::Headers,
        Self::HeaderBytes,
        Self::Publishes,
        Self::PublishBytes,
        Self::LogLines,
        Self::LogBytes,
        Self::StateValue,
        Self::StateWrites,
        Self::StateTotal,
        Self::HttpRequests,
        Self::HttpBytes,
        Self::HttpConnectTime,
        Self::Concurrency,
        Self::Rate,
        Self::Routes,
        Self::File,
        Self::CompileTime,
        Self::CompileMemory,
    ];

    /// Its name, which does not change.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Time => "time",
            Self::LoadTime => "load_time",
            Self::Memory => "memory",
            Self::Stack => "stack",
            Self::TableElements => "table_elements",
            Self::Instances => "instances",
            Self::Resources => "resources",
            Self::HostcallFuel => "hostcall_fuel",
            Self::Random => "random",
            Self::Content => "content",
            Self::Headers => "headers",
            Self::HeaderBytes => "header_bytes",
            Self::Publishes => "publishes",
            Self::PublishBytes => "publish_bytes",
            Self::LogLines => "log_lines",
            Self::LogBytes => "log_bytes",
            Self::StateValue => "state_value",
            Self::StateWrites => "state_writes",
            Self::StateTotal => "state_total",
            Self::HttpRequests => "http_requests",
            Self::HttpBytes => "http_bytes",
            Self::HttpConnectTime => "http_connect_time",
            Self::Concurrency => "concurrency",
            Self::Rate => "rate",
            Self::Routes => "routes",
            Self::File => "file",
            Self::CompileTime => "compile_time",
            Self::CompileMemory => "compile_memory",
        }
    }

    /// Its key in the configuration; `None` if it is fixed.
    #[must_use]
    pub fn key(self) -> Option<String> {
        match self {
            Self::Instances | Self::Random | Self::Routes => None,
            Self::Stack => Some("engine.stack".to_owned()),
            _ => Some(format!("limits.{}", self.name())),
        }
    }

    /// Its bit in a set of limits.
    pub(crate) const fn bit(self) -> u32 {
        1 << (self as u8)
    }
}

/// What a handler may do only if it is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Grant {
    /// Publishing to a topic.
    Publish,
    /// Asking a topic.
    Request,
    /// Keeping state.
    State,
    /// Sending to an address over HTTP.
    Http,
}

impl Grant {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Publish, Self::Request, Self::State, Self::Http];

    /// Its key in the configuration, which does not change.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Request => "request",
            Self::State => "state",
            Self::Http => "http",
        }
    }
}

/// How often each limit of one plugin was hit, once for each call and limit; what it was refused, and its instances. Counts
/// of all its versions, since the host was started.
#[derive(Debug, Default)]
pub struct Hits {
    counts: [AtomicU64; Limit::ALL.len()],
    refusals: [AtomicU64; Grant::ALL.len()],
    started: AtomicU64,
    ended: AtomicU64,
    kept: Kept,
}

/// An instance, counted as long as this is there.
#[derive(Debug)]
pub(super) struct Alive(Arc<Hits>);

impl Alive {
    /// One was started.
    pub(super) fn new(hits: &Arc<Hits>) -> Self {
        hits.started.fetch_add(1, Ordering::Relaxed);
        Self(hits.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        // After its start, for whoever reads both.
        self.0.ended.fetch_add(1, Ordering::Release);
    }
}

/// What is known of how much a plugin keeps in its state, so that the store is not asked before each write.
#[derive(Debug)]
pub(crate) struct Kept {
    /// What the store said last.
    said: AtomicU64,
    /// What was written since, as if nothing of it had replaced anything.
    since: AtomicU64,
    /// The same of calls that are going on.
    pending: AtomicU64,
}

impl Hits {
    /// One more.
    pub fn count(&self, limit: Limit) {
        if let Some(counter) = self.counts.get(limit as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often this one was hit.
    #[must_use]
    pub fn of(&self, limit: Limit) -> u64 {
        let counter = self.counts.get(limit as usize);
        counter.map_or(0, |counter| counter.load(Ordering::Relaxed))
    }

    /// Something was not granted.
    pub(crate) fn refused(&self, grant: Grant) {
        if let Some(counter) = self.refusals.get(grant as usize) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How often something was refused because it is not granted, by the grant that is missing.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let counts = self.refusals.iter();
        let counts = counts.map(|counter| counter.load(Ordering::Relaxed));
        Grant::ALL.into_iter().map(Grant::name).zip(counts)
    }

    /// How many instances were started, and how many of them are there now.
    #[must_use]
    pub fn instances(&self) -> (u64, u64) {
        // In this order, so that there are never fewer than none.
        let ended = self.ended.load(Ordering::Acquire);
        let started = self.started.load(Ordering::Acquire);
        (started, started.saturating_sub(ended))
    }

    /// Every limit by name, with how often it was hit, those that never were as well.
    pub fn all(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Limit::ALL
            .into_iter()
            .map(|limit| (limit.name(), self.of(limit)))
    }
}

impl Hits {
    pub(crate) fn kept(&self) -> &Kept {
        &self.kept
    }
}

impl Default for Kept {
    fn default() -> Self {
        Self {
            // Nothing fits before the store was asked.
            said: AtomicU64::new(u64::MAX),
            since: AtomicU64::new(0),
            pending: AtomicU64::new(0),
        }
    }
}

impl Kept {
    /// The store is asked again once this part of the total was written, because other hosts write as well.
    const PART: u64 = 16;

    /// Whether there is room for so many bytes more, whatever they replace. Otherwise the store has to be asked.
    pub(crate) fn fits(&self, more: u64, total: u64) -> bool {
        let (said, since) = (
            self.said.load(Ordering::Relaxed),
            self.since.load(Ordering::Relaxed),
        );
        let all = said.saturating_add(since).saturating_add(self.pending());
        since <= total / Self::PART && all.saturating_add(more) <= total
    }

    /// The store said so.
    pub(crate) fn learn(&self, size: u64) {
        self.since.store(0, Ordering::Relaxed);
        self.said.store(size, Ordering::Relaxed);
    }

    /// Bytes of the writes of calls that are going on.
    pub(crate) fn pending(&self) -> u64 {
        self.pending.load(Ordering::Relaxed)
    }

    /// A call that had so many bytes pending has now so many.
    pub(crate) fn pend(&self, before: u64, after: u64) {
        self.pending
            .fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
    }

    /// So many bytes are being committed.
    pub(crate) fn commit(&self, bytes: u64) {
        self.since.fetch_add(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_limit_has_a_place_and_a_name_of_its_own() {
        let names: BTreeSet<&str> = Limit::ALL.iter().map(|limit| limit.name()).collect();
        assert_eq!(names.len(), Limit::ALL.len());
        let hits = Hits::default();
        for (position, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, position);
            for _ in 0..=position {
                hits.count(limit);
            }
        }
        for ((name, count), (position, limit)) in hits.all().zip(Limit::ALL.iter().enumerate()) {
            assert_eq!((name, count), (limit.name(), position as u64 + 1));
        }
        let all = Limit::ALL.iter().fold(0, |all, limit| all | limit.bit());
        assert_eq!(all.count_ones() as usize, Limit::ALL.len());
    }

    #[test]
    fn refusals_and_instances_are_counted() {
        let hits = Arc::new(Hits::default());
        for (position, grant) in Grant::ALL.into_iter().enumerate() {
            assert_eq!(grant as usize, position);
            for _ in 0..=position {
                hits.refused(grant);
            }
        }
        let refusals: Vec<_> = hits.refusals().collect();
        let expected = [("publish", 1), ("request", 2), ("state", 3), ("http", 4)];
        assert_eq!(refusals, expected);
        let first = Alive::new(&hits);
        let second = Alive::new(&hits);
        drop(first);
        assert_eq!(hits.instances(), (2, 1));
        drop(second);
        assert_eq!(hits.instances(), (2, 0));
    }

    #[test]
    fn what_fits_for_certain_is_not_asked_for() {
        let kept = Kept::default();
        assert!(!kept.fits(0, 1600), "nothing is known yet");
        kept.learn(1000);
        assert!(kept.fits(600, 1600) && !kept.fits(601, 1600));
        // Another call has written and not ended.
        kept.pend(0, 200);
        kept.pend(200, 100);
        assert!(kept.fits(500, 1600) && !kept.fits(501, 1600));
        kept.pend(100, 0);
        kept.commit(100);
        assert!(kept.fits(500, 1600) && !kept.fits(501, 1600));
        kept.commit(1);
        assert!(!kept.fits(1, 1600), "a sixteenth was written since");
        kept.learn(900);
        assert!(kept.fits(700, 1600) && !kept.fits(701, 1600));
    }
}
