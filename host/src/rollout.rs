//! Another version that handles a share of the messages: which messages, what is counted of both sides, and what follows
//! from it.
//!
//! Pure: nothing is handled, switched or remembered here, and the time is passed in.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

mod compare;
mod judge;
mod times;

pub use compare::{Difference, Ends, compare};
pub use judge::{Judgement, judge};
pub use times::{BUCKETS, Times};

/// How a version is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// How much it handles.
    pub share: Share,
    /// How many messages each side needs before they are compared.
    pub min_messages: u64,
    /// How many crashes are one too few for the end.
    pub max_crashes: u64,
    /// When it is promoted if nothing speaks against it, in milliseconds; `None`: only by hand.
    pub lasts_ms: Option<u64>,
}

impl Policy {
    /// What is tried for ten minutes, with no crash and a hundred messages.
    #[must_use]
    pub fn new(share: Share) -> Self {
        Self {
            share,
            min_messages: 100,
            max_crashes: 0,
            lasts_ms: Some(600_000),
        }
    }
}

/// A part of the messages, in hundredths of a percent: more than nothing, less than all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u16", into = "u16")]
pub struct Share(u16);

/// All of them.
const ALL: u16 = 10_000;

impl TryFrom<u16> for Share {
    type Error = String;

    fn try_from(share: u16) -> Result<Self, String> {
        match share {
            1..ALL => Ok(Self(share)),
            _ => Err("a share is more than 0% and less than 100%".to_owned()),
        }
    }
}

impl From<Share> for u16 {
    fn from(share: Share) -> Self {
        share.0
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not a share; write it like \"10%\" or \"0.5%\", more than 0% and less than 100%"
            )
        };
        let number = text.strip_suffix('%').ok_or_else(wrong)?;
        let (whole, part) = number.split_once('.').unwrap_or((number, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_digit());
        if !digits(whole) || !digits(part) || whole.len() > 2 || part.len() > 2 {
            return Err(wrong());
        }
        let hundredths: u16 = format!("{whole}{part:0<2}").parse().map_err(|_| wrong())?;
        Self::try_from(hundredths).map_err(|_| wrong())
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 100, self.0 % 100);
        match part {
            0 => write!(f, "{whole}%"),
            _ if part.is_multiple_of(10) => write!(f, "{whole}.{}%", part / 10),
            _ => write!(f, "{whole}.{part:02}%"),
        }
    }
}

/// Says which messages a version gets: the same on every host and after every start, and all of a key or none.
#[derive(Debug, Clone)]
pub struct Choice {
    seed: Sha256,
    share: Share,
}

impl Choice {
    /// The choice for the version with this digest.
    #[must_use]
    pub fn new(digest: &str, share: Share) -> Self {
        let seed = Sha256::new_with_prefix(digest);
        Self { seed, share }
    }

    /// Whether it gets the messages of this key, or the message without a key that is identified by this.
    #[must_use]
    pub fn takes(&self, key: &[u8]) -> bool {
        let mut hash = self.seed.clone();
        hash.update([0]);
        hash.update(key);
        let hash = hash.finalize();
        let first = hash.first_chunk::<8>().copied().unwrap_or_default();
        u64::from_be_bytes(first) % u64::from(ALL) < u64::from(self.share.0)
    }

    /// How much it gets.
    #[must_use]
    pub fn share(&self) -> Share {
        self.share
    }
}

/// What is counted of one side.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Side {
    /// Messages that were done.
    pub done: u64,
    /// Messages that were called wrong.
    pub rejected: u64,
    /// Calls that failed, or asked for another attempt.
    pub failed: u64,
    /// Calls that trapped, or needed too much time or memory.
    pub crashed: u64,
    /// How long calls took.
    pub times: Times,
}

impl Side {
    /// All calls that ended.
    #[must_use]
    pub fn messages(&self) -> u64 {
        self.done + self.rejected + self.failed + self.crashed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_written_as_it_is_read() {
        for text in ["10%", "0.5%", "0.01%", "99.99%", "1%", "12.25%"] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), text);
        }
        for wrong in ["0%", "100%", "10", "0.001%", "-1%", "a%", "%", "1.%", "+1%"] {
            assert!(wrong.parse::<Share>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_share_of_the_keys_is_chosen_and_always_the_same_ones() {
        for (text, expected) in [("1%", 100.0_f64), ("10%", 1_000.0), ("50%", 5_000.0)] {
            let choice = Choice::new("sha256:a", text.parse().unwrap());
            let taken = |choice: &Choice| {
                let keys = 0..10_000_u32;
                let taken = keys.filter(|key| choice.takes(&key.to_be_bytes()));
                taken.collect::<Vec<_>>()
            };
            let first = taken(&choice);
            let apart = (first.len() as f64 - expected).abs();
            assert!(apart < 5.0 * expected.sqrt(), "{text}: {}", first.len());
            assert_eq!(first, taken(&Choice::new("sha256:a", choice.share())));
            assert_ne!(first, taken(&Choice::new("sha256:b", choice.share())));
        }
    }

    #[test]
    fn a_larger_share_keeps_what_a_smaller_one_had() {
        let small = Choice::new("sha256:a", "5%".parse().unwrap());
        let large = Choice::new("sha256:a", "25%".parse().unwrap());
        for key in 0..10_000_u32 {
            let key = key.to_be_bytes();
            assert!(!small.takes(&key) || large.takes(&key));
        }
    }
}
