//! The steps of the demo: publish every event, wait until all are handled, ask for replies, count the alerts.
//!
//! Each step is bounded in time and measures itself. It only uses what any client of the broker could use, except that
//! rejected events are counted among the dead letters.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use futures_util::StreamExt as _;
use sandbar::backend::{Delivery, Effects, Opened, Outgoing, Queue, QueueSpec, Verdict};
use sandbar::client::Client;
use sandbar::control::Host;
use sandbar::message::{CONTENT_TYPE, Message, Payload};
use sandbar::store::Reason;
use sandbar::topic::TopicName;
use sandbar::wire::{self, Form};
use tokio::time::Instant;

use super::summary::{Stats, Summary};
use crate::cli::terminal::{Progress, count, note};

/// Where the plugin publishes alerts.
pub(super) const ALERT: &str = "quake.alert";
/// How long a step may make no progress.
const PATIENCE: Duration = Duration::from_secs(30);
const IN_FLIGHT: usize = 32;

/// What the demo works on.
pub(super) struct Show<'a> {
    pub(super) host: &'a Host,
    pub(super) opened: &'a Opened,
    pub(super) events: Vec<&'static str>,
    pub(super) requests: u64,
}

impl Show<'_> {
    pub(super) async fn run(&self) -> anyhow::Result<Summary> {
        let alerts = self.subscribe().await?;
        let events = number(self.events.len());
        note(format!(
            "publishing {} earthquakes as quake.recorded",
            count(events)
        ));
        let began = Instant::now();
        let (rejected, stats, publishing) = {
            let progress = Progress::new("earthquakes", Some(events));
            self.publish().await?;
            let publishing = began.elapsed();
            let (rejected, stats) = self.until_handled(events, &progress).await?;
            (rejected, stats, publishing)
        };
        let handling = began.elapsed();
        let alerts = self.count_alerts(&alerts, stats.alerts).await?;
        note(format!("asking echo for {} replies", count(self.requests)));
        let began = Instant::now();
        let mut latencies = self.ask().await?;
        let asking = began.elapsed();
        latencies.sort_unstable();
        let magnitude = |line: &&str| {
            let event: serde_json::Value = serde_json::from_str(line).ok()?;
            event.pointer("/properties/mag")?.as_f64()
        };
        Ok(Summary {
            events,
            rejected,
            stats,
            alerts,
            greatest: self
                .events
                .iter()
                .filter_map(magnitude)
                .max_by(f64::total_cmp),
            publishing,
            handling,
            requests: self.requests,
            replies: number(latencies.len()),
            asking,
            p50: percentile(&latencies, 50),
            p99: percentile(&latencies, 99),
        })
    }

    /// A queue of our own for the alerts, in a group of its own.
    async fn subscribe(&self) -> anyhow::Result<Queue> {
        let mut spec = QueueSpec::new("demo.alerts".parse()?, vec![ALERT.parse()?]);
        spec.ephemeral = true;
        Ok(self.opened.backend.declare_queue(spec).await?.queue)
    }

    async fn publish(&self) -> anyhow::Result<()> {
        let topic: TopicName = "quake.recorded".parse()?;
        for batch in self.events.chunks(512) {
            let mut messages = Vec::with_capacity(batch.len());
            for event in batch {
                messages.push(Outgoing::new(Message::new(topic.clone(), json(event)?)));
            }
            for result in self.opened.backend.publish(messages).await {
                result?;
            }
        }
        Ok(())
    }

    /// Asks the plugin how many it has counted until that and the rejected ones are all.
    async fn until_handled(
        &self,
        events: u64,
        progress: &Progress,
    ) -> anyhow::Result<(u64, Stats)> {
        let (mut last, mut since) = (0, Instant::now());
        loop {
            let stats = stats(self.host.client()).await?;
            let rejected = self.rejected(events).await?;
            let handled = stats.count + rejected;
            progress.set(handled);
            if handled >= events {
                return Ok((rejected, stats));
            }
            if handled > last {
                (last, since) = (handled, Instant::now());
            }
            anyhow::ensure!(
                since.elapsed() < PATIENCE,
                "only {handled} of {events} events were handled, and no more for {PATIENCE:?}"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn rejected(&self, most: u64) -> anyhow::Result<u64> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let letters = self.opened.store.dead_letters(most).await?;
        Ok(number(
            letters
                .iter()
                .filter(|letter| letter.reason == Reason::Rejected)
                .count(),
        ))
    }

    /// Receives alerts until there are as many as the plugin says; no longer than it takes for more to come.
    async fn count_alerts(&self, queue: &Queue, expected: u64) -> anyhow::Result<u64> {
        let backend = &self.opened.backend;
        let mut seen = HashSet::new();
        while number(seen.len()) < expected {
            let batch = backend.receive(queue, 256, Duration::from_secs(5)).await?;
            if batch.is_empty() {
                break;
            }
            for delivery in &batch {
                seen.insert(wire::decode(Form::Native, &delivery.packet)?.identifier);
            }
            let done = |delivery: Delivery| delivery.settle(Verdict::Ack, Effects::default());
            for settled in backend.settle(batch.into_iter().map(done).collect()).await {
                settled?;
            }
        }
        Ok(number(seen.len()))
    }

    /// Asks `echo` and checks what it says; how long each reply took.
    async fn ask(&self) -> anyhow::Result<Vec<Duration>> {
        let progress = Progress::new("requests", Some(self.requests));
        let client: &Arc<Client> = self.host.client();
        let requests = futures_util::stream::iter(0..self.requests).map(|request| async move {
            let content = format!("{{\"request\":{request}}}");
            let message = Message::new("echo".parse()?, json(&content)?);
            let began = Instant::now();
            let reply = client.request(message, PATIENCE).await?;
            let took = began.elapsed();
            anyhow::ensure!(
                reply.ok() && *reply.payload.content == *content.as_bytes(),
                "echo replied to {content} with status {} and other content",
                reply.payload.status
            );
            Ok(took)
        });
        let mut requests = std::pin::pin!(requests.buffer_unordered(IN_FLIGHT));
        let mut latencies = Vec::new();
        while let Some(took) = requests.next().await {
            latencies.push(took?);
            progress.set(number(latencies.len()));
        }
        Ok(latencies)
    }
}

async fn stats(client: &Client) -> anyhow::Result<Stats> {
    let message = Message::new("quake.stats".parse()?, json("{\"top\":5}")?);
    let reply = client.request(message, PATIENCE).await?;
    reply.payload.parse_json().with_context(|| {
        format!(
            "quake.stats replied with status {} and no numbers",
            reply.payload.status
        )
    })
}

fn json(text: &str) -> anyhow::Result<Payload> {
    let mut payload = Payload::new(text.to_owned());
    payload.headers.insert(CONTENT_TYPE, "application/json")?;
    Ok(payload)
}

/// Of sorted durations.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let position = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(position).copied().unwrap_or_default()
}

fn number(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}
