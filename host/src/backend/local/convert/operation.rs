//! What an operator gets: the same on both sides.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;

use super::super::answer::Report;
use super::super::frame::Illegible;
use super::super::protocol::{Kept, Letter, Operated, Status, Tried};
use super::list;
use crate::backend::{Overview, QueueStatus};
use crate::store::{History, KeptLetter};

impl<'a> From<&'a Report> for Operated<'a> {
    fn from(report: &'a Report) -> Self {
        match report {
            Report::Letters(page) => Self::Letters(Cow::Borrowed(page)),
            Report::Letter(kept) => Self::Letter(kept.as_deref().map(|kept| Box::new(kept.into()))),
            Report::Counts(counts) => Self::Counts(Cow::Borrowed(counts)),
            Report::Done(done) => Self::Done(Cow::Borrowed(done)),
            Report::Overview(overview) => Self::Overview {
                queues: overview.queues.iter().map(Status::from).collect(),
                kept: overview.kept,
                beyond: overview.beyond.as_deref(),
            },
            Report::Purged(count) => Self::Purged(*count),
            Report::Host(answer) => Self::Host(Cow::Borrowed(answer)),
        }
    }
}

impl Operated<'_> {
    pub(in super::super) fn read(self, frame: &Bytes) -> Result<Report, Illegible> {
        Ok(match self {
            Self::Letters(page) => Report::Letters(page.into_owned()),
            Self::Letter(None) => Report::Letter(None),
            Self::Letter(Some(kept)) => Report::Letter(Some(Box::new(kept.read(frame)?))),
            Self::Counts(counts) => Report::Counts(counts.into_owned()),
            Self::Done(done) => Report::Done(done.into_owned()),
            Self::Overview {
                queues,
                kept,
                beyond,
            } => Report::Overview(Overview {
                queues: list(queues, Status::read)?,
                kept,
                beyond: beyond.map(str::to_owned),
            }),
            Self::Purged(count) => Report::Purged(count),
            Self::Host(answer) => Report::Host(answer.into_owned()),
        })
    }
}

impl<'a> From<&'a KeptLetter> for Kept<'a> {
    fn from(kept: &'a KeptLetter) -> Self {
        Self {
            id: kept.id,
            letter: Letter {
                report: kept.history.report.clone(),
                ..(&kept.letter).into()
            },
            key: kept.key.as_deref(),
            route: kept.route,
            published_ms: kept.published_ms,
            first_ms: kept.history.first_ms,
            last: kept.history.last.iter().map(Tried::from).collect(),
        }
    }
}

impl Kept<'_> {
    fn read(self, frame: &Bytes) -> Result<KeptLetter, Illegible> {
        let mut letter = self.letter.read(frame)?;
        let report = letter.report.take();
        Ok(KeptLetter {
            id: self.id,
            letter,
            key: self.key.map(Arc::from),
            route: self.route,
            published_ms: self.published_ms,
            history: History {
                first_ms: self.first_ms,
                last: self.last.into_iter().map(Tried::read).collect(),
                report,
            },
        })
    }
}

impl<'a> From<&'a QueueStatus> for Status<'a> {
    fn from(status: &'a QueueStatus) -> Self {
        Self {
            spec: (&status.spec).into(),
            ready: status.ready,
            in_flight: status.in_flight,
            delayed: status.delayed,
            retrying: status.retrying,
            parked: status.parked,
            oldest_ms: status.oldest_ms,
            receivers: status.receivers,
        }
    }
}

impl Status<'_> {
    fn read(self) -> Result<QueueStatus, Illegible> {
        Ok(QueueStatus {
            spec: self.spec.read()?,
            ready: self.ready,
            in_flight: self.in_flight,
            delayed: self.delayed,
            retrying: self.retrying,
            parked: self.parked,
            oldest_ms: self.oldest_ms,
            receivers: self.receivers,
        })
    }
}
