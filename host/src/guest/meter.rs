//! Memory and log budgets of one instance.
//!
//! Counts and refuses; what a refusal means for the message is decided by [`super`].

use wasmtime::ResourceLimiter;

/// Tables of one component hold at most this many elements.
const MOST_TABLE_ELEMENTS: usize = 100_000;

/// The memory budget. Remembers that it was exceeded, because the guest itself reports that as a plain trap.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) memory: usize,
    /// What was asked for when it was refused.
    pub(super) denied: Option<usize>,
    /// Linear memory of all memories of the instance together.
    pub(super) used: usize,
}

impl Meter {
    pub(super) fn new(memory: usize) -> Self {
        Self {
            memory,
            denied: None,
            used: 0,
        }
    }
}

impl ResourceLimiter for Meter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let total = self.used.saturating_add(desired.saturating_sub(current));
        if total > self.memory {
            self.denied = Some(total);
            return Ok(false);
        }
        self.used = total;
        Ok(true)
    }

    fn table_growing(
        &mut self,
        _: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        Ok(desired <= MOST_TABLE_ELEMENTS)
    }
}

/// What one call may still log.
#[derive(Debug, Default)]
pub(super) struct LogBudget {
    pub(super) lines: u32,
    pub(super) bytes: usize,
}

impl LogBudget {
    /// Takes a line from the budget: `Some(true)` if it may be logged, `Some(false)` for the first one that may not.
    pub(super) fn take(&mut self, bytes: usize) -> Option<bool> {
        if self.lines == 0 && self.bytes == 0 {
            return None;
        }
        if self.lines == 0 || self.bytes < bytes {
            *self = Self::default();
            return Some(false);
        }
        self.lines -= 1;
        self.bytes -= bytes;
        Some(true)
    }
}

/// Text of a guest without what could act on a terminal or break a line.
pub(super) fn printable(text: &str, most: usize) -> String {
    let clean = |c: char| {
        if c.is_control() && c != '\t' {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.trim_end().chars().take(most).map(clean).collect()
}
