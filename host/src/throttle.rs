//! How much of its backlog a plugin may take at the moment: as much as its rate allows, and nothing while it is paused
//! because it keeps failing (a circuit breaker), so that an outage does not empty a queue into the dead letters.
//!
//! Pure: no I/O, no `async`, the time is passed in. What counts as a failure is decided by the pipeline.

use std::time::Duration;

/// When a plugin is paused, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerPolicy {
    /// The share of failures, above 0 and at most 1, at which it is paused.
    pub failures: f64,
    /// Fewer ends than this within the window say nothing.
    pub at_least: u32,
    /// How far back ends count.
    pub window: Duration,
    /// How long nothing is taken; then one message is tried.
    pub pause: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            failures: 0.5,
            at_least: 50,
            window: Duration::from_secs(10),
            pause: Duration::from_secs(5),
        }
    }
}

/// What may be taken now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// At most so many messages, at least one.
    Now(usize),
    /// Nothing before this moment, or before something ends.
    Later(Duration),
}

/// What an end has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The plugin is paused from now on.
    Paused,
    /// It works again.
    Resumed,
}

/// Rate and breaker of one subscription. Moments are durations since some beginning, always the same one.
#[derive(Debug)]
pub(crate) struct Throttle {
    bucket: Option<Bucket>,
    breaker: Option<Breaker>,
}

impl Throttle {
    /// `rate`: messages for each second, `None` for no limit.
    pub(crate) fn new(rate: Option<u32>, breaker: Option<BreakerPolicy>) -> Self {
        Self {
            bucket: rate.map(Bucket::new),
            breaker: breaker.map(Breaker::new),
        }
    }

    /// What may be taken now.
    pub(crate) fn room(&mut self, now: Duration) -> Room {
        let paused = self
            .breaker
            .as_ref()
            .map_or(Room::Now(usize::MAX), |breaker| breaker.room(now));
        let Room::Now(most) = paused else {
            return paused;
        };
        match self.bucket.as_mut().map(|bucket| bucket.room(now)) {
            None => Room::Now(most),
            Some(Room::Now(count)) => Room::Now(most.min(count)),
            Some(later) => later,
        }
    }

    /// Whether it is paused because it keeps failing, a message that is tried meanwhile included.
    pub(crate) fn is_paused(&self) -> bool {
        let breaker = self.breaker.as_ref();
        breaker.is_some_and(|breaker| breaker.state != State::Working)
    }

    /// Whether nothing may be taken because of the rate alone.
    pub(crate) fn is_overrun(&self, now: Duration) -> bool {
        let paused = self.breaker.as_ref().map(|breaker| breaker.room(now));
        let overrun = self.bucket.as_ref().is_some_and(|it| it.tokens < 1.0);
        overrun && !matches!(paused, Some(Room::Later(_)))
    }

    /// So many were taken.
    pub(crate) fn took(&mut self, count: usize, now: Duration) {
        if let Some(bucket) = &mut self.bucket {
            bucket.took(count, now);
        }
        if let Some(breaker) = &mut self.breaker {
            breaker.took(now);
        }
    }

    /// One has ended.
    pub(crate) fn ended(&mut self, failed: bool, now: Duration) -> Option<Change> {
        self.breaker
            .as_mut()
            .and_then(|breaker| breaker.ended(failed, now))
    }
}

/// A bucket of tokens that holds those of one second.
#[derive(Debug)]
struct Bucket {
    rate: f64,
    tokens: f64,
    filled: Duration,
}

impl Bucket {
    fn new(rate: u32) -> Self {
        let rate = f64::from(rate.max(1));
        Self {
            rate,
            tokens: rate,
            filled: Duration::ZERO,
        }
    }

    fn fill(&mut self, now: Duration) {
        let since = now.saturating_sub(self.filled).as_secs_f64();
        self.filled = self.filled.max(now);
        self.tokens = (self.tokens + since * self.rate).min(self.rate);
    }

    fn room(&mut self, now: Duration) -> Room {
        self.fill(now);
        if self.tokens < 1.0 {
            let missing = (1.0 - self.tokens) / self.rate;
            return Room::Later(now + Duration::from_secs_f64(missing) + Duration::from_micros(1));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between 1 and the rate, which is a u32"
        )]
        Room::Now(self.tokens as usize)
    }

    fn took(&mut self, count: usize, now: Duration) {
        // What came while they were waited for is not saved beyond what the bucket holds.
        self.fill(now);
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.tokens -= f64::from(count);
    }
}

#[derive(Debug)]
struct Breaker {
    policy: BreakerPolicy,
    /// Ends of this half of the window and of the one before.
    halves: [Ends; 2],
    half_began: Duration,
    state: State,
}

#[derive(Debug, Clone, Copy, Default)]
struct Ends {
    all: u32,
    failed: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Working,
    /// Until then.
    Paused(Duration),
    /// One message is tried since then.
    Trying(Duration),
}

impl Breaker {
    fn new(policy: BreakerPolicy) -> Self {
        Self {
            policy,
            halves: [Ends::default(); 2],
            half_began: Duration::ZERO,
            state: State::Working,
        }
    }

    fn room(&self, now: Duration) -> Room {
        match self.state {
            State::Working => Room::Now(usize::MAX),
            State::Paused(until) if until > now => Room::Later(until),
            State::Paused(_) => Room::Now(1),
            // One that never ends, because it was given back for example, does not pause the plugin for ever.
            State::Trying(since) if since + self.policy.pause > now => {
                Room::Later(since + self.policy.pause)
            }
            State::Trying(_) => Room::Now(1),
        }
    }

    fn took(&mut self, now: Duration) {
        if self.state != State::Working {
            self.state = State::Trying(now);
        }
    }

    fn ended(&mut self, failed: bool, now: Duration) -> Option<Change> {
        match self.state {
            State::Paused(_) => None,
            State::Trying(_) if failed => {
                self.state = State::Paused(now + self.policy.pause);
                None
            }
            State::Trying(_) => {
                self.state = State::Working;
                self.halves = [Ends::default(); 2];
                Some(Change::Resumed)
            }
            State::Working => self.count(failed, now),
        }
    }

    fn count(&mut self, failed: bool, now: Duration) -> Option<Change> {
        let half = self.policy.window / 2;
        let age = now.saturating_sub(self.half_began);
        if age >= half {
            let [this, _] = self.halves;
            let before = if age < half * 2 {
                this
            } else {
                Ends::default()
            };
            self.halves = [Ends::default(), before];
            self.half_began = now;
        }
        let [this, before] = &mut self.halves;
        this.all += 1;
        this.failed += u32::from(failed);
        let (all, bad) = (this.all + before.all, this.failed + before.failed);
        let keeps_failing = f64::from(bad) >= self.policy.failures * f64::from(all);
        if !(failed && all >= self.policy.at_least && keeps_failing) {
            return None;
        }
        self.state = State::Paused(now + self.policy.pause);
        Some(Change::Paused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_rate_allows_a_second_at_once_and_then_its_share() {
        let mut throttle = Throttle::new(Some(10), None);
        assert_eq!(throttle.room(at(0)), Room::Now(10));
        throttle.took(10, at(0));
        let Room::Later(when) = throttle.room(at(0)) else {
            panic!("the bucket is empty")
        };
        assert!(when > at(99) && when < at(102), "{when:?}");
        assert_eq!(throttle.room(when), Room::Now(1));
        assert_eq!(
            throttle.room(at(5000)),
            Room::Now(10),
            "no more than a second is saved"
        );
    }

    #[test]
    fn waiting_for_messages_saves_no_more_than_a_second() {
        let mut throttle = Throttle::new(Some(10), None);
        assert_eq!(throttle.room(at(0)), Room::Now(10));
        // They come late.
        throttle.took(10, at(5000));
        assert!(matches!(throttle.room(at(5000)), Room::Later(_)));
    }

    #[test]
    fn no_rate_is_ever_exceeded() {
        for rate in [1, 7, 1000] {
            let mut throttle = Throttle::new(Some(rate), None);
            let (mut taken, mut now) = (0, Duration::ZERO);
            while now < at(10_000) {
                match throttle.room(now) {
                    Room::Now(count) => {
                        throttle.took(count, now);
                        taken += count;
                    }
                    Room::Later(when) => now = when,
                }
            }
            // Eleven seconds: the first one at once, and ten that pass.
            assert!(taken <= rate as usize * 11 + 1, "{rate}: {taken}");
            assert!(taken >= rate as usize * 10, "{rate}: {taken}");
        }
    }

    fn breaker() -> Throttle {
        let policy = BreakerPolicy {
            at_least: 4,
            ..BreakerPolicy::default()
        };
        Throttle::new(None, Some(policy))
    }

    #[test]
    fn who_keeps_failing_is_paused_tried_and_resumed() {
        let mut throttle = breaker();
        for failed in [false, true, false] {
            assert_eq!(throttle.ended(failed, at(0)), None);
        }
        assert_eq!(throttle.ended(true, at(1)), Some(Change::Paused));
        assert_eq!(throttle.room(at(2)), Room::Later(at(5001)));
        // What was in flight ends while it is paused and says nothing.
        assert_eq!(throttle.ended(false, at(3)), None);
        assert_eq!(throttle.room(at(5001)), Room::Now(1));
        throttle.took(1, at(5001));
        assert_eq!(throttle.room(at(5002)), Room::Later(at(10_001)));
        assert_eq!(throttle.ended(true, at(5010)), None);
        assert_eq!(throttle.room(at(5011)), Room::Later(at(10_010)));
        throttle.took(1, at(10_010));
        assert_eq!(throttle.ended(false, at(10_011)), Some(Change::Resumed));
        assert_eq!(throttle.room(at(10_012)), Room::Now(usize::MAX));
    }

    #[test]
    fn few_failures_and_old_ones_pause_nobody() {
        let mut throttle = breaker();
        for second in 0..60 {
            // Three in any window of ten seconds.
            let failed = second % 5 == 0;
            assert_eq!(throttle.ended(failed, at(second * 1000)), None, "{second}");
        }
        let mut throttle = breaker();
        for minute in 0..60 {
            assert_eq!(
                throttle.ended(true, at(minute * 60_000)),
                None,
                "one a minute"
            );
        }
    }

    #[test]
    fn a_trial_that_never_ends_is_not_the_last_one() {
        let mut throttle = breaker();
        for _ in 0..4 {
            throttle.ended(true, at(0));
        }
        throttle.took(1, at(5000));
        assert_eq!(throttle.room(at(9_999)), Room::Later(at(10_000)));
        assert_eq!(throttle.room(at(10_000)), Room::Now(1));
    }
}
