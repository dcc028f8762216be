//! What the last attempt at a message left behind beside its error: where the guest was, what it logged, what it was
//! refused, and how much of its limits it had used.
//!
//! Pure data, bounded in number and size, and free of what could act on a terminal.

use serde::{Deserialize, Serialize};

use super::Journal;
use super::history::cut;

/// For people who want to know why a handler failed. Kept with the dead letter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Where a guest was that crashed, the innermost function first.
    pub trace: Vec<Frame>,
    /// The last lines that it logged, the oldest first, each with its level.
    pub log: Vec<String>,
    /// What the host refused it, with what to do about each.
    pub refused: Vec<String>,
    /// What it had used of its limits.
    pub used: Vec<Used>,
    /// What it got from the host and did, so that it can be run again.
    #[serde(default)]
    pub journal: Option<Journal>,
}

/// A function of a guest that had not returned.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Its name, or its number in its module.
    pub function: String,
    /// File, line and column, if the component has line tables (DWARF).
    pub source: Option<String>,
}

/// How much of a limit was used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Used {
    /// The limit's name in the configuration.
    pub limit: String,
    /// What was used, or asked for when it was refused: milliseconds, bytes, or a number.
    pub used: u64,
    /// What is allowed, in the same unit.
    pub of: u64,
}

impl Used {
    /// So much of that limit.
    #[must_use]
    pub fn new(limit: &str, used: u64, of: u64) -> Self {
        Self {
            limit: limit.to_owned(),
            used,
            of,
        }
    }
}

impl Report {
    /// The most functions that are kept.
    pub const FRAMES: usize = 32;
    /// The most lines of the log.
    pub const LINES: usize = 20;
    /// The most refusals.
    pub const REFUSALS: usize = 8;
    /// The most bytes of one text.
    pub const LONGEST: usize = 400;

    /// With as much of everything as is kept.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.trace.truncate(Self::FRAMES);
        for frame in &mut self.trace {
            frame.function = text(&frame.function);
            frame.source = frame.source.as_deref().map(text);
        }
        let early = self.log.len().saturating_sub(Self::LINES);
        self.log.drain(..early);
        self.refused.truncate(Self::REFUSALS);
        for line in self.log.iter_mut().chain(&mut self.refused) {
            *line = text(line);
        }
        self.used.truncate(Self::FRAMES);
        self.journal = self.journal.map(Journal::bounded);
        self
    }
}

/// The beginning of a text in one line, without what could act on a terminal.
pub(crate) fn text(text: &str) -> String {
    let clean = |c: char| {
        if c.is_control() && c != '\t' {
            '\u{fffd}'
        } else {
            c
        }
    };
    cut(text, Report::LONGEST).chars().map(clean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_bounded_and_harmless() {
        let long = "\u{1b}[31m".to_owned() + &"x".repeat(10_000);
        let report = Report {
            trace: vec![
                Frame {
                    function: long.clone(),
                    source: Some(long.clone()),
                };
                1000
            ],
            log: (0..1000).map(|number| format!("{number} {long}")).collect(),
            refused: vec![long; 1000],
            used: vec![Used::new("time", 1, 2); 1000],
            journal: None,
        };
        let report = report.bounded();
        assert_eq!(report.trace.len(), Report::FRAMES);
        assert_eq!(report.log.len(), Report::LINES);
        assert!(report.log[0].starts_with("980 "), "the last lines");
        let json = serde_json::to_string(&report).unwrap();
        // Every byte of a text may take more than one in JSON.
        assert!(json.len() < 64 << 10, "{}", json.len());
        assert!(!json.contains("\\u001b"), "{json}");
    }
}
