//! `sandbar receive`: prints messages as they arrive.
//!
//! A message is acknowledged after it was written and flushed, so that one that nobody saw comes again.

use std::time::Duration;

use clap::Args;
use sandbar::backend::{Backend, Delivery, Effects, Queue, QueueName, QueueSpec, Verdict};
use sandbar::config::{Config, Time};
use sandbar::message::Message;
use sandbar::topic::Pattern;
use sandbar::wire::{self, Form};
use tokio::time::Instant;
use uuid::Uuid;

use super::options::parse;
use super::request::with_line_end;
use super::signals::Signals;
use super::terminal::{self, note};
use super::{Ended, Usage, broker, options};

/// Print messages as they arrive.
///
/// Without --group the messages go to a queue that is gone when the command ends; with --group to one that stays and
/// keeps messages while nobody receives. Of a message that is not multicast only one group gets a copy, and this
/// command is a group of its own beside the host's.
///
/// Ends after --count messages (exit code 0), after --timeout (0, or 1 if there were fewer than --count), or with
/// Ctrl-C (130).
#[derive(Debug, Args)]
pub(super) struct Receive {
    /// A topic, or a pattern such as order.* or order.>
    #[arg(value_name = "TOPIC", value_parser = parse::<Pattern>)]
    topic: Pattern,
    /// End after this many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// End after this time
    #[arg(long, value_name = "DURATION", value_parser = parse::<Time>)]
    timeout: Option<Time>,
    /// Receive as this group, through a queue that stays
    #[arg(long, value_name = "NAME", value_parser = options::group)]
    group: Option<String>,
    /// Print each message as one JSON object on a line
    #[arg(long)]
    json: bool,
}

impl Receive {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<Ended> {
        let mut signals = Signals::new()?;
        // It may take long, so others get their turn meanwhile.
        let mut broker = broker::find(config).await?;
        broker.share(&config.data.value, None)?;
        let backend = broker.backend();
        let queue = backend.declare_queue(self.queue()?).await?.queue;
        let ended = tokio::select! {
            ended = self.receive(&*backend, &queue) => ended,
            () = signals.next() => Ok(Ended::Interrupted),
        };
        if self.group.is_none()
            && let Err(error) = backend.delete_queue(&queue.name).await
        {
            tracing::debug!(%error, "the queue stays until the broker drops it");
        }
        broker.close().await;
        ended
    }

    fn queue(&self) -> anyhow::Result<QueueSpec> {
        let name = match &self.group {
            Some(group) => format!("{group}.{}", self.topic),
            None => format!("_receive.{}", Uuid::now_v7().simple()),
        };
        let name = name
            .parse::<QueueName>()
            .map_err(|error| Usage(error.to_string()))?;
        let mut spec = QueueSpec::new(name, vec![self.topic.clone()]);
        match &self.group {
            Some(group) => spec.group.clone_from(group),
            None => spec.ephemeral = true,
        }
        Ok(spec)
    }

    async fn receive(&self, backend: &dyn Backend, queue: &Queue) -> anyhow::Result<Ended> {
        /// How long one call waits; the loop goes on.
        const WAIT: Duration = Duration::from_secs(20);
        let until = self.timeout.map(|timeout| Instant::now() + timeout.0);
        let mut received = 0_u64;
        loop {
            let missing = self
                .count
                .map_or(256, |count| count.saturating_sub(received));
            if missing == 0 {
                return Ok(Ended::Done);
            }
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                let Some(count) = self.count else {
                    return Ok(Ended::Done);
                };
                note(format!("received {received} of {count} messages in time"));
                return Ok(Ended::Failed);
            }
            let wait = left.map_or(WAIT, |left| left.min(WAIT));
            let most = usize::try_from(missing.min(256)).unwrap_or(256);
            let batch = backend.receive(queue, most, wait).await?;
            received += u64::try_from(batch.len()).unwrap_or(0);
            self.print(backend, batch).await?;
        }
    }

    async fn print(&self, backend: &dyn Backend, batch: Vec<Delivery>) -> anyhow::Result<()> {
        let mut text = Vec::new();
        for delivery in &batch {
            match wire::decode(Form::Native, &delivery.packet) {
                Ok(message) => text.extend(self.text(&message)?),
                Err(error) => note(format!("a message cannot be read and is dropped: {error}")),
            }
        }
        terminal::data(&text)?;
        let done = |delivery: Delivery| delivery.settle(Verdict::Ack, Effects::default());
        for error in backend.settle(batch.into_iter().map(done).collect()).await {
            if let Err(error) = error {
                note(format!(
                    "a message was printed and not acknowledged, so it comes again: {error}"
                ));
            }
        }
        Ok(())
    }

    fn text(&self, message: &Message) -> anyhow::Result<Vec<u8>> {
        Ok(with_line_end(&if self.json {
            wire::to_json(message)?
        } else {
            message.payload.content.to_vec()
        }))
    }
}
