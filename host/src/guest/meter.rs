//! Budgets of one instance: memory, tables, log.
//!
//! Counts and refuses; what a refusal means for the message is decided by [`super`].

use wasmtime::ResourceLimiter;

use super::engine::{MOST_CORE_INSTANCES, MOST_MEMORIES, MOST_TABLES};
use crate::plugin::{Limit, Limits};

/// What an instance may take. Remembers that it was exceeded, because the guest itself reports that as a plain trap.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) memory: usize,
    /// What was asked for when it was refused.
    pub(super) denied: Option<usize>,
    /// Linear memory of all memories of the instance together.
    pub(super) used: usize,
    /// Elements of its tables: the same.
    pub(super) tables: usize,
    pub(super) tables_denied: Option<usize>,
    tables_used: usize,
}

impl Meter {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            memory: limits.memory,
            denied: None,
            used: 0,
            tables: limits.table_elements,
            tables_denied: None,
            tables_used: 0,
        }
    }

    /// Forgets what was refused.
    pub(super) fn forgive(&mut self) {
        self.denied = None;
        self.tables_denied = None;
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
        current: usize,
        desired: usize,
        _: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let more = desired.saturating_sub(current);
        let total = self.tables_used.saturating_add(more);
        if total > self.tables {
            self.tables_denied = Some(total);
            return Ok(false);
        }
        self.tables_used = total;
        Ok(true)
    }

    // As where there is a pool, also where there is none.
    fn instances(&self) -> usize {
        MOST_CORE_INSTANCES
    }

    fn memories(&self) -> usize {
        MOST_MEMORIES
    }

    fn tables(&self) -> usize {
        MOST_TABLES
    }
}

/// What one call may still log.
#[derive(Debug)]
pub(super) struct LogBudget {
    pub(super) lines: u32,
    bytes: usize,
    /// Nothing more is logged.
    cut: bool,
}

/// What becomes of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Logged,
    /// It is the first that is dropped, because of this.
    Cut(Limit),
    Dropped,
}

impl LogBudget {
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            lines: limits.log_lines,
            bytes: limits.log_bytes,
            cut: false,
        }
    }

    /// Takes a line from the budget.
    pub(super) fn take(&mut self, bytes: usize) -> Line {
        if self.cut {
            return Line::Dropped;
        }
        if self.lines == 0 {
            return self.cut(Limit::LogLines);
        }
        let Some(left) = self.bytes.checked_sub(bytes) else {
            return self.cut(Limit::LogBytes);
        };
        self.lines -= 1;
        self.bytes = left;
        Line::Logged
    }

    /// Ends it, because there was more than this allows.
    pub(super) fn cut(&mut self, limit: Limit) -> Line {
        if std::mem::replace(&mut self.cut, true) {
            Line::Dropped
        } else {
            Line::Cut(limit)
        }
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
