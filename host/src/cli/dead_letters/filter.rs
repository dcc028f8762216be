//! Which dead letters a verb is about.

use clap::Args;
use sandbar::clock;
use sandbar::config::Time;
use sandbar::store::{LetterFilter, Reason};
use sandbar::topic::Pattern;
use uuid::Uuid;

use super::super::Usage;
use super::super::options::parse;

/// A selection by what is known of a letter; all of it must fit.
#[derive(Debug, Args)]
pub(super) struct Filter {
    /// Only messages of these topics, such as order.create, order.* or order.>
    #[arg(long, value_name = "PATTERN", value_parser = parse::<Pattern>)]
    topic: Option<Pattern>,
    /// Only those for this plugin
    #[arg(long, value_name = "NAME")]
    plugin: Option<String>,
    /// Only those that ended for this reason: rejected, failed, attempts, timeout, trap, memory, malformed, no-handler,
    /// too-large, forbidden or limit
    #[arg(long, value_name = "REASON", value_parser = parse::<Reason>)]
    reason: Option<Reason>,
    /// Only those that waited in this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<String>,
    /// Only those that ended longer ago than this
    #[arg(long, value_name = "DURATION", value_parser = parse::<Time>)]
    older_than: Option<Time>,
    /// Only those that ended less long ago than this
    #[arg(long, value_name = "DURATION", value_parser = parse::<Time>)]
    newer_than: Option<Time>,
    /// Only the message with this identifier
    #[arg(long, value_name = "UUID")]
    message: Option<Uuid>,
}

impl Filter {
    /// As the store understands it, at this moment.
    pub(super) fn letters(&self) -> LetterFilter {
        let now = clock::now_ms();
        let ago = |time: &Time| {
            let age = i64::try_from(time.0.as_millis()).unwrap_or(i64::MAX);
            now.saturating_sub(age)
        };
        LetterFilter {
            ids: Vec::new(),
            identifier: self.message,
            topic: self.topic.clone(),
            plugin: self.plugin.clone(),
            reason: self.reason,
            queue: self.queue.clone(),
            before_ms: self.older_than.as_ref().map(ago),
            since_ms: self.newer_than.as_ref().map(ago),
        }
    }
}

/// A selection for something that cannot be undone: it has to be said.
#[derive(Debug, Args)]
pub(super) struct Selection {
    /// Dead letters by their numbers
    #[arg(value_name = "ID")]
    pub(super) ids: Vec<u64>,
    #[command(flatten)]
    filter: Filter,
    /// All of them
    #[arg(long)]
    all: bool,
}

impl Selection {
    pub(super) fn letters(&self) -> Result<LetterFilter, Usage> {
        let filter = LetterFilter {
            ids: self.ids.clone(),
            ..self.filter.letters()
        };
        if filter.is_empty() && !self.all {
            return Err(Usage(
                "nothing says which dead letters; name some by ID, select them as with `--plugin NAME`, or say `--all`"
                    .to_owned(),
            ));
        }
        Ok(filter)
    }
}
