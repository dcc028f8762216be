//! Moments and ages as people read them.

use std::time::{Duration, UNIX_EPOCH};

/// A moment, given in milliseconds since 1970-01-01 UTC.
pub(super) fn moment(ms: i64) -> String {
    match u64::try_from(ms) {
        Ok(ms) => {
            humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(ms)).to_string()
        }
        Err(_) => format!("{ms} ms before 1970"),
    }
}

/// How long ago that was, in the largest unit that says something.
pub(super) fn age(ms: i64, now_ms: i64) -> String {
    let seconds = now_ms.saturating_sub(ms) / 1000;
    match seconds {
        ..0 => "in the future".to_owned(),
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_and_ages_are_readable() {
        assert_eq!(moment(1_700_000_000_123), "2023-11-14T22:13:20.123Z");
        assert_eq!(moment(-5), "-5 ms before 1970");
        for (ago, expected) in [
            (0, "0 s"),
            (119, "119 s"),
            (120, "2 min"),
            (7_200, "2 h"),
            (172_800, "2 d"),
            (-10, "in the future"),
        ] {
            assert_eq!(age(0, ago * 1000), expected);
        }
    }
}
