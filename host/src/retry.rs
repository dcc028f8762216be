//! When a message that could not be handled is tried again.
//!
//! Pure: the attempt and the chance are passed in. What is retried at all is decided in [`crate::dispatch`].

use std::time::Duration;

/// Exponential back-off with full jitter.
#[derive(Debug, Clone, PartialEq)]
pub struct RetryPolicy {
    /// Attempts in all, the first one included.
    pub max_attempts: u32,
    /// The upper bound of the first delay.
    pub initial: Duration,
    /// How the bound grows from attempt to attempt.
    pub multiplier: f64,
    /// No bound grows beyond this.
    pub max: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self {
            max_attempts: 5,
            initial: Duration::from_millis(200),
            multiplier: 2.0,
            max: Duration::from_secs(60),
        }
    }
}

impl RetryPolicy {
    /// The delay before the attempt after `attempt` (counted from 1), or `None` when they are used up. `chance` is
    /// uniform in 0..1.
    #[must_use]
    pub fn after(&self, attempt: u32, chance: f64) -> Option<Duration> {
        if attempt >= self.max_attempts {
            return None;
        }
        let exponent = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        let bound = self.initial.as_secs_f64() * self.multiplier.powi(exponent);
        let bound = bound.min(self.max.as_secs_f64());
        Some(Duration::try_from_secs_f64(bound * chance.clamp(0.0, 1.0)).unwrap_or(self.max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_maximum_and_end() {
        let policy = RetryPolicy {
            max_attempts: 12,
            ..RetryPolicy::default()
        };
        let bounds: Vec<u128> = (1..12)
            .map(|n| policy.after(n, 1.0).unwrap().as_millis())
            .collect();
        assert_eq!(
            bounds,
            [
                200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 60000
            ]
        );
        assert_eq!(policy.after(12, 1.0), None);
        assert_eq!(policy.after(1, 0.0), Some(Duration::ZERO));
        assert_eq!(policy.after(3, 0.5), Some(Duration::from_millis(400)));
    }
}
