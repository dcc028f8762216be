//! What waits to be written: the calls of those who publish and settle, in their order.
//!
//! It is only a list; who takes from it is a writer.

use std::collections::VecDeque;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::remote::Lease;
use crate::backend::{Outgoing, PublishError, Receipt, SettleError, Token, Verdict};
use crate::store::postgres::{Columns, Failure, Hold, StateKey, StateRow};

/// Beyond this, publishers wait.
const MAX_BYTES: usize = 64 << 20;
const MAX_ROWS: usize = 65_536;
/// What one transaction takes, for others write at the same time.
const TAKE_BYTES: usize = 8 << 20;
const TAKE_ROWS: usize = 2_048;

/// A message with its columns, which are written by its caller.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) outgoing: Outgoing,
    pub(super) columns: Arc<Columns>,
}

impl Prepared {
    pub(super) fn new(outgoing: Outgoing) -> Self {
        let columns = Columns::new(&outgoing.message, outgoing.key.clone(), outgoing.route);
        let columns = Arc::new(columns);
        Self { outgoing, columns }
    }
}

/// The end of a delivery as it was ordered.
#[derive(Debug)]
pub(super) struct Settling {
    pub(super) token: Token,
    pub(super) hold: Hold,
    pub(super) lease: Lease,
    pub(super) verdict: Verdict,
    pub(super) publishes: Vec<Prepared>,
    /// What was read, with the versions; and what was decided.
    pub(super) reads: Vec<(StateKey, i64)>,
    pub(super) writes: Vec<StateRow>,
}

/// Somebody who waits for results.
#[derive(Debug)]
pub(super) enum Call {
    Publish {
        batch: Vec<Prepared>,
        caller: oneshot::Sender<Vec<Result<Receipt, PublishError>>>,
    },
    Settle {
        /// What is not in order was refused at once.
        batch: Vec<Result<Settling, SettleError>>,
        caller: oneshot::Sender<Vec<Result<(), SettleError>>>,
    },
    /// Dead letters that become messages again.
    Replay {
        batch: Vec<(i64, Prepared)>,
        caller: oneshot::Sender<Result<Vec<Replayed>, Failure>>,
    },
}

/// What became of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Replayed {
    Done,
    /// Somebody else removed it first.
    Gone,
    Refused(String),
}

impl Call {
    fn rows(&self) -> usize {
        match self {
            Self::Publish { batch, .. } => batch.len(),
            Self::Settle { batch, .. } => batch
                .iter()
                .flatten()
                .map(|settling| 1 + settling.publishes.len())
                .sum(),
            Self::Replay { batch, .. } => batch.len(),
        }
    }

    fn bytes(&self) -> usize {
        let all = |batch: &[Prepared]| batch.iter().map(|one| one.columns.size()).sum::<usize>();
        match self {
            Self::Publish { batch, .. } => all(batch),
            Self::Settle { batch, .. } => batch
                .iter()
                .flatten()
                .map(|settling| all(&settling.publishes))
                .sum(),
            Self::Replay { batch, .. } => batch.iter().map(|(_, one)| one.columns.size()).sum(),
        }
    }

    /// Whether it reads or writes state.
    pub(super) fn has_state(&self) -> bool {
        match self {
            Self::Publish { .. } | Self::Replay { .. } => false,
            Self::Settle { batch, .. } => batch
                .iter()
                .flatten()
                .any(|settling| !(settling.reads.is_empty() && settling.writes.is_empty())),
        }
    }

    /// The settlements that were in order when they were ordered.
    pub(super) fn settlements(&self) -> impl Iterator<Item = &Settling> {
        match self {
            Self::Publish { .. } | Self::Replay { .. } => [].iter(),
            Self::Settle { batch, .. } => batch.iter(),
        }
        .flatten()
    }
}

/// Calls in their order.
#[derive(Debug, Default)]
pub(super) struct Group {
    calls: VecDeque<Call>,
    rows: usize,
    bytes: usize,
}

impl Group {
    /// Whether publishers may add to it.
    pub(super) fn has_room(&self) -> bool {
        self.bytes < MAX_BYTES && self.rows < MAX_ROWS
    }

    pub(super) fn add(&mut self, call: Call) {
        self.rows += call.rows();
        self.bytes += call.bytes();
        self.calls.push_back(call);
    }

    /// Takes as many calls as one transaction should have, at least one, onto those that were taken already.
    pub(super) fn take(&mut self, taken: &mut Vec<Call>) {
        let mut rows: usize = taken.iter().map(Call::rows).sum();
        let mut bytes: usize = taken.iter().map(Call::bytes).sum();
        while let Some(call) = self.calls.front() {
            let (more_rows, more_bytes) = (call.rows(), call.bytes());
            rows += more_rows;
            bytes += more_bytes;
            if !taken.is_empty() && (rows > TAKE_ROWS || bytes > TAKE_BYTES) {
                break;
            }
            self.rows = self.rows.saturating_sub(more_rows);
            self.bytes = self.bytes.saturating_sub(more_bytes);
            taken.extend(self.calls.pop_front());
        }
    }
}
