//! Everything that a failed attempt got from the host and did to it, in order, so that it can be run again exactly.
//!
//! Pure data, bounded in size. What is recorded while a handler runs is in [`crate::call`], how it is run again in
//! [`crate::trial`].

use serde::{Deserialize, Serialize};

mod fetched;

pub use fetched::{BodyEnd, FetchFailure, FetchFailureKind, Fetched};

/// One attempt as the host saw it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    /// 1 for the first attempt.
    pub attempt: u32,
    /// The handler's idea of now, milliseconds since 1970-01-01 UTC.
    pub began_ms: i64,
    /// What its randomness was made of; `None` if it could not ask for any.
    pub seed: Option<Blob>,
    /// What it asked and did.
    pub steps: Vec<Step>,
    /// Whether there were more steps than are kept.
    pub cut: bool,
}

/// One thing that a handler asked of the host or did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// It read a key of its state for the first time and got this.
    Read {
        /// The key.
        key: String,
        /// The value, if there was one.
        value: Option<Blob>,
    },
    /// It listed keys of its state and got these stored ones.
    Listed {
        /// What they begin with.
        prefix: String,
        /// Where the page began.
        after: Option<String>,
        /// The keys.
        keys: Vec<String>,
    },
    /// It wrote a key of its state; `None` removes it.
    Wrote {
        /// The key.
        key: String,
        /// The value.
        value: Option<Blob>,
    },
    /// It published a message.
    Published {
        /// To which topic.
        topic: String,
        /// The content.
        content: Blob,
    },
    /// It sent a request and got this.
    Asked {
        /// To which topic.
        topic: String,
        /// The content of the request.
        content: Blob,
        /// What came back.
        answer: Answer,
    },
    /// It sent a request over HTTP and got this.
    Fetched {
        /// How.
        method: String,
        /// What.
        url: String,
        /// Its headers, without what proves who asks.
        headers: Vec<(String, String)>,
        /// Its body.
        content: Blob,
        /// Whether the body was larger than there is room for.
        cut: bool,
        /// What came back.
        answer: Fetched,
    },
}

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// A reply.
    Reply {
        /// Its status code.
        status: u16,
        /// Its headers.
        headers: Vec<(String, String)>,
        /// Its content.
        content: Blob,
    },
    /// None in time.
    Timeout,
    /// None, and why.
    Unavailable(String),
}

/// Bytes, as hexadecimal digits where they are text.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Blob(pub Vec<u8>);

impl Journal {
    /// The most bytes of keys, values and contents together.
    pub const MOST: usize = 64 << 10;

    /// As many of the steps, from the first one on, as are kept.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let mut size = 0_usize;
        let fits = self.steps.iter().take_while(|step| {
            size = size.saturating_add(step.size());
            size <= Self::MOST
        });
        let fits = fits.count();
        self.cut |= fits < self.steps.len();
        self.steps.truncate(fits);
        self
    }

    /// Where another run of the same message went another way: the number of the first step that differs, from 1 on, with
    /// what was done then and now. A journal that was cut agrees with whatever follows its last step.
    #[must_use]
    pub fn parts_from<'a>(&'a self, other: &'a Self) -> Option<Parting<'a>> {
        let most = match (self.cut, other.cut) {
            (true, _) => self.steps.len(),
            (_, true) => other.steps.len(),
            _ => self.steps.len().max(other.steps.len()),
        };
        let differs = |at: &usize| self.steps.get(*at) != other.steps.get(*at);
        let at = (0..most).find(differs)?;
        Some(Parting {
            step: at + 1,
            then: self.steps.get(at),
            now: other.steps.get(at),
        })
    }
}

/// The first step in which two runs differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Parting<'a> {
    /// Its number, from 1 on.
    pub step: usize,
    /// What was done then; `None`: nothing more.
    pub then: Option<&'a Step>,
    /// What is done now.
    pub now: Option<&'a Step>,
}

impl Step {
    /// About how many bytes it takes.
    fn size(&self) -> usize {
        const OWN: usize = 32;
        let blob = |blob: &Option<Blob>| blob.as_ref().map_or(0, |blob| blob.0.len());
        OWN + match self {
            Self::Read { key, value } | Self::Wrote { key, value } => key.len() + blob(value),
            Self::Listed {
                prefix,
                after,
                keys,
            } => {
                let keys: usize = keys.iter().map(|key| key.len() + 4).sum();
                prefix.len() + after.as_ref().map_or(0, String::len) + keys
            }
            Self::Published { topic, content } => topic.len() + content.0.len(),
            Self::Asked {
                topic,
                content,
                answer,
            } => topic.len() + content.0.len() + answer.size(),
            Self::Fetched {
                method,
                url,
                headers,
                content,
                answer,
                ..
            } => {
                let headers = headers.iter().map(|(name, value)| name.len() + value.len());
                let head = method.len() + url.len() + headers.sum::<usize>();
                head + content.0.len() + answer.size()
            }
        }
    }
}

impl Answer {
    fn size(&self) -> usize {
        match self {
            Self::Reply {
                headers, content, ..
            } => {
                let headers = headers.iter().map(|(name, value)| name.len() + value.len());
                content.0.len() + headers.sum::<usize>()
            }
            Self::Timeout => 0,
            Self::Unavailable(text) => text.len(),
        }
    }
}

impl Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use std::fmt::Write as _;
        let mut text = String::with_capacity(2 * self.0.len());
        for byte in &self.0 {
            // Writing into a string does not fail.
            write!(text, "{byte:02x}").ok();
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digit = |c: &u8| {
            char::from(*c)
                .to_digit(16)
                .and_then(|d| u8::try_from(d).ok())
        };
        let pair = |pair: &[u8]| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = text.as_bytes().chunks(2).map(pair).collect();
        bytes.map(Self).ok_or_else(|| {
            serde::de::Error::custom("bytes are written as pairs of hexadecimal digits")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(key: &str, value: &[u8]) -> Step {
        Step::Read {
            key: key.to_owned(),
            value: Some(Blob(value.to_vec())),
        }
    }

    #[test]
    fn bytes_survive_as_text() {
        for bytes in [&b""[..], b"\x00\xff\x10a"] {
            let json = serde_json::to_string(&Blob(bytes.to_vec())).unwrap();
            assert_eq!(serde_json::from_str::<Blob>(&json).unwrap().0, bytes);
        }
        for wrong in ["\"f\"", "\"zz\"", "\"+f\"", "\"ä\""] {
            assert!(serde_json::from_str::<Blob>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_journal_keeps_its_first_steps() {
        let large = vec![7; Journal::MOST / 2];
        let steps = vec![read("a", &large), read("b", &large), read("c", b"")];
        let journal = Journal {
            steps,
            ..Journal::default()
        };
        let kept = journal.bounded();
        assert_eq!((kept.steps.len(), kept.cut), (1, true));
    }

    #[test]
    fn two_runs_part_at_the_first_step_that_differs() {
        let run = |keys: &[&str], cut| Journal {
            steps: keys.iter().map(|key| read(key, b"v")).collect(),
            cut,
            ..Journal::default()
        };
        let step = |then: &Journal, now: &Journal| then.parts_from(now).map(|parting| parting.step);
        assert_eq!(
            step(&run(&["a", "b"], false), &run(&["a", "b"], false)),
            None
        );
        assert_eq!(
            step(&run(&["a", "b"], false), &run(&["a", "c"], false)),
            Some(2)
        );
        assert_eq!(step(&run(&["a"], false), &run(&["a", "c"], false)), Some(2));
        assert_eq!(step(&run(&["a", "b"], false), &run(&["a"], false)), Some(2));
        assert_eq!(step(&run(&["a"], true), &run(&["a", "c"], false)), None);
        assert_eq!(step(&run(&[], false), &run(&[], false)), None);
    }
}
