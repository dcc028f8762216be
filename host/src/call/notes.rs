//! What is remembered of a call for the case that it fails: its last log lines, and what it was refused.
//!
//! Bounded, and nothing at all for a call that does neither.

use std::collections::VecDeque;

use crate::store::{Frame, Journal, Report, Used};

/// Notes of one call.
#[derive(Debug, Default)]
pub(super) struct Notes {
    log: VecDeque<String>,
    refused: Vec<String>,
    exceeded: Vec<String>,
    trace: Vec<Frame>,
    used: Vec<Used>,
}

impl Notes {
    pub(super) fn logged(&mut self, line: String) {
        if self.log.len() >= Report::LINES {
            self.log.pop_front();
        }
        self.log.push_back(line);
    }

    pub(super) fn refused(&mut self, text: String) {
        note(&mut self.refused, text);
    }

    pub(super) fn exceeded(&mut self, text: String) {
        note(&mut self.exceeded, text);
    }

    pub(super) fn ended(&mut self, trace: Vec<Frame>, used: Vec<Used>) {
        self.trace = trace;
        self.used = used;
    }

    /// The first thing that was not granted to it.
    pub(super) fn first_refusal(&self) -> Option<&str> {
        self.refused.first().map(String::as_str)
    }

    /// The first thing that was too much.
    pub(super) fn first_excess(&self) -> Option<&str> {
        self.exceeded.first().map(String::as_str)
    }

    pub(super) fn report(&self, more: impl IntoIterator<Item = Used>, journal: Journal) -> Report {
        let mut used = self.used.clone();
        used.extend(more);
        Report {
            trace: self.trace.clone(),
            log: self.log.iter().cloned().collect(),
            refused: self.refused.iter().chain(&self.exceeded).cloned().collect(),
            used,
            journal: Some(journal),
        }
        .bounded()
    }
}

fn note(texts: &mut Vec<String>, text: String) {
    if !texts.contains(&text) && texts.len() < Report::REFUSALS {
        texts.push(text);
    }
}
