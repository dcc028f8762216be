//! What this host knows of a queue in the database: where to look for messages next, and which ones it has in flight.
//!
//! Pure, the time is passed in. Only a hint: whose a message is, is decided by the database.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant;

use crate::message::Message;
use crate::store::History;

/// A queue beyond its specification.
#[derive(Debug)]
pub(super) struct Remote {
    /// Its number in the database.
    pub(super) id: i64,
    /// Grows when something may have become ready; a receiver that saw another number looks again.
    pub(super) arrivals: u64,
    /// When somebody received from it last.
    pub(super) wanted: Option<Instant>,
    /// Nothing below this number is known to be ready. Without it every claim would pass by the remains of all messages
    /// that the server could not clean up yet.
    first: i64,
    leases: HashMap<u64, Lease>,
    /// Messages that nobody has and that are ready at some moment.
    put_off: HashMap<u64, Instant>,
    /// No lease ends before this moment, and nothing that was put off is ready.
    first_end: Option<Instant>,
}

/// A message in flight.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    pub(super) fence: u64,
    /// When it ends as far as this host can tell.
    pub(super) end: Instant,
    pub(super) key: Option<Arc<str>>,
    pub(super) message: Arc<Message>,
    pub(super) route: Option<u32>,
    /// When the message was published.
    pub(super) at_ms: i64,
    /// Its attempts so far, if one has failed.
    pub(super) history: Option<History>,
}

impl Remote {
    /// A queue of which nothing is known.
    pub(super) fn new(id: i64) -> Self {
        Self {
            id,
            arrivals: 0,
            wanted: None,
            first: 0,
            leases: HashMap::new(),
            put_off: HashMap::new(),
            first_end: None,
        }
    }

    /// A message became ready.
    pub(super) fn arrived(&mut self, id: i64) {
        self.arrivals = self.arrivals.wrapping_add(1);
        self.first = self.first.min(id);
    }

    /// Where the claim that begins now looks first. What arrives until [`looked`](Self::looked) counts for the next one.
    pub(super) fn look(&mut self) -> i64 {
        std::mem::replace(&mut self.first, i64::MAX)
    }

    /// A claim that looked from `first` on got messages up to `last`, or did not happen.
    pub(super) fn looked(&mut self, first: i64, last: Option<i64>) {
        let next = last.map_or(first, |last| last.saturating_add(1).max(first));
        self.first = self.first.min(next);
    }

    /// A message is in flight, on its own or again.
    pub(super) fn lease(&mut self, id: u64, lease: Lease) {
        let end = lease.end;
        self.leases.insert(id, lease);
        self.first_end = Some(self.first_end.map_or(end, |first| first.min(end)));
    }

    /// A message that nobody has is ready at some moment.
    pub(super) fn put_off(&mut self, id: u64, end: Instant) {
        self.put_off.insert(id, end);
        self.first_end = Some(self.first_end.map_or(end, |first| first.min(end)));
    }

    /// A message in flight.
    pub(super) fn leased(&self, id: u64, fence: u64) -> Option<&Lease> {
        self.leases.get(&id).filter(|lease| lease.fence == fence)
    }

    /// A message is no longer in flight.
    pub(super) fn take(&mut self, id: u64, fence: u64) -> Option<Lease> {
        self.leased(id, fence)?;
        self.leases.remove(&id)
    }

    /// Moves the end of a lease; whether it ends earlier now than anybody knew.
    pub(super) fn extend(&mut self, id: u64, fence: u64, end: Instant) -> bool {
        let Some(lease) = self.leases.get_mut(&id).filter(|l| l.fence == fence) else {
            return false;
        };
        let earlier = end < lease.end;
        lease.end = end;
        self.first_end = Some(self.first_end.map_or(end, |first| first.min(end)));
        earlier
    }

    /// Has a claim look for messages again whose leases have ended. They stay in flight until somebody claims them.
    pub(super) fn expire(&mut self, now: Instant) {
        if self.first_end.is_none_or(|first| first > now) {
            return;
        }
        let ends = self.leases.iter().map(|(id, lease)| (*id, lease.end));
        let ends = ends.chain(self.put_off.iter().map(|(id, end)| (*id, *end)));
        self.first_end = None;
        for (id, end) in ends {
            if end <= now {
                self.first = self.first.min(id.cast_signed());
            } else {
                self.first_end = Some(self.first_end.map_or(end, |first| first.min(end)));
            }
        }
        self.put_off.retain(|_, end| *end > now);
    }

    /// When [`expire`](Self::expire) may have something to do.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.first_end
    }

    /// Everything that is in flight.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = (u64, Lease)> {
        self.leases.drain()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::message::Payload;

    fn lease(fence: u64, end: Instant) -> Lease {
        Lease {
            fence,
            end,
            key: None,
            message: Arc::new(Message::new("t".parse().unwrap(), Payload::default())),
            route: None,
            at_ms: 0,
            history: None,
        }
    }

    #[test]
    fn a_claim_begins_where_something_may_be_ready() {
        let mut remote = Remote::new(1);
        assert_eq!(remote.look(), 0);
        remote.looked(0, Some(50));
        assert_eq!(remote.look(), 51);
        // Nothing was found, but meanwhile an older message came back.
        remote.arrived(7);
        remote.looked(51, None);
        assert_eq!(remote.look(), 7);
        remote.looked(7, Some(7));
        assert_eq!(remote.look(), 8);
        remote.looked(8, None);
        remote.arrived(100);
        assert_eq!(remote.look(), 8);
    }

    #[test]
    fn leases_that_end_are_looked_for_and_stay_until_they_are_claimed() {
        let now = Instant::now();
        let (soon, late) = (now + Duration::from_secs(1), now + Duration::from_secs(9));
        let mut remote = Remote::new(1);
        for (id, end) in [(3, soon), (4, late), (5, soon)] {
            remote.lease(id, lease(id * 10, end));
        }
        let first = remote.look();
        remote.looked(first, Some(5));
        remote.expire(now);
        assert_eq!((remote.first, remote.next_end()), (6, Some(soon)));
        remote.expire(soon);
        assert_eq!((remote.first, remote.next_end()), (3, Some(late)));
        assert!(remote.take(3, 31).is_none() && remote.take(3, 30).is_some());
        // Claimed again, by whichever host: the old token is of no use.
        remote.lease(5, lease(51, late));
        assert!(remote.leased(5, 50).is_none() && remote.leased(5, 51).is_some());
        assert!(remote.extend(5, 51, soon) && !remote.extend(5, 50, soon));
        assert_eq!(remote.next_end(), Some(soon));
        remote.expire(soon);
        remote.put_off(2, late);
        remote.expire(late);
        assert_eq!((remote.first, remote.next_end()), (2, None));
    }
}
