//! How long calls took: counts of times that are alike, an eighth apart at most.
//!
//! Only numbers; what they mean for a version is decided in `rollout/judge.rs`.

/// How many counts there are: from a microsecond to more than an hour.
pub const BUCKETS: usize = 248;

/// Counts of times.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Times([u64; BUCKETS]);

impl Default for Times {
    fn default() -> Self {
        Self([0; BUCKETS])
    }
}

impl From<[u64; BUCKETS]> for Times {
    fn from(counts: [u64; BUCKETS]) -> Self {
        Self(counts)
    }
}

impl Times {
    /// Which count a time in microseconds belongs to.
    #[must_use]
    pub fn bucket(us: u64) -> usize {
        let Some(power) = us.checked_ilog2().filter(|power| *power >= 3) else {
            return usize::try_from(us).unwrap_or(0);
        };
        let eighth = (us >> (power - 3)) & 7;
        let bucket = u64::from(power - 2) * 8 + eighth;
        usize::try_from(bucket).map_or(BUCKETS - 1, |bucket| bucket.min(BUCKETS - 1))
    }

    /// The longest time that belongs to a count, in microseconds.
    fn longest(bucket: usize) -> u64 {
        let bucket = bucket as u64;
        match bucket / 8 {
            0 => bucket,
            row => ((8 + bucket % 8 + 1) << (row - 1)) - 1,
        }
    }

    /// Adds a time.
    pub fn add(&mut self, us: u64) {
        if let Some(count) = self.0.get_mut(Self::bucket(us)) {
            *count += 1;
        }
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// The time that so many of a hundred do not exceed, in microseconds.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let count = self.count();
        let position = (count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let mut buckets = self.0.iter().enumerate();
        let (bucket, _) = buckets.find(|(_, count)| {
            seen += **count;
            seen >= position
        })?;
        Some(Self::longest(bucket))
    }

    /// How many were longer than that, in microseconds.
    #[must_use]
    pub fn above(&self, us: u64) -> u64 {
        self.0.iter().skip(Self::bucket(us) + 1).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_an_eighth_apart() {
        let mut last = 0;
        for us in (0..4_000).chain((4_000..10_000_000).step_by(997)) {
            let bucket = Times::bucket(us);
            assert!(bucket >= last, "{us}");
            last = bucket;
            let longest = Times::longest(bucket);
            assert!(longest >= us && longest - us <= us / 8, "{us}: {longest}");
            assert_eq!(Times::bucket(longest), bucket);
            assert_eq!(Times::bucket(longest + 1), bucket + 1);
        }
        assert_eq!(Times::bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_those_of_what_was_added() {
        let mut times = Times::default();
        assert_eq!(times.percentile(99), None);
        (0..98).for_each(|_| times.add(5));
        times.add(1_000);
        times.add(5_000);
        assert_eq!((times.count(), times.above(6)), (100, 2));
        assert_eq!(times.percentile(50), Some(5));
        let p99 = times.percentile(99).unwrap();
        assert!((1_000..1_125).contains(&p99), "{p99}");
    }
}
