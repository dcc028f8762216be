//! `sandbar send`: publishes one message, or one per line of a file.
//!
//! Lines are in `send/lines.rs`. Neither waits for a reply.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use sandbar::backend::{Backend, Outgoing};
use sandbar::config::{Config, Time};
use sandbar::message::Strategy;
use sandbar::topic::TopicName;
use serde::Serialize;
use uuid::Uuid;

use super::content::{self, ContentOptions, TopicArgument};
use super::options::parse;
use super::terminal::{self, note};
use super::{Ended, broker};

mod lines;

/// Publish a message, or one per line of a file.
///
/// Prints the identifier of the message. Content that is JSON is sent as JSON, other text as text.
#[derive(Debug, Args)]
pub(super) struct Send {
    #[command(flatten)]
    topic: TopicArgument,
    /// What: text, @FILE for the content of a file, or - for standard input
    #[arg(value_name = "CONTENT")]
    content: Option<String>,
    /// Send one message for each line of this file (- for standard input), which must be JSON
    #[arg(long, value_name = "FILE", conflicts_with_all = ["content", "id"])]
    lines: Option<PathBuf>,
    /// With --lines: pass over the first lines, to go on where an earlier run ended
    #[arg(
        long,
        value_name = "N",
        default_value_t = 0,
        hide_default_value = true,
        requires = "lines"
    )]
    skip: u64,
    #[command(flatten)]
    options: ContentOptions,
    /// Every subscribed group gets a copy, instead of one group
    #[arg(long)]
    multicast: bool,
    /// Where a reply is wanted
    #[arg(long, value_name = "TOPIC", value_parser = parse::<TopicName>)]
    reply_to: Option<TopicName>,
    /// Messages of one key are handled one after the other, in order
    #[arg(long)]
    key: Option<Arc<str>>,
    /// Not to be delivered before this much time has passed
    #[arg(long, value_name = "DURATION", value_parser = parse::<Time>)]
    delay: Option<Time>,
    /// The identifier of the message [default: a new one]
    #[arg(long, value_name = "UUID")]
    id: Option<Uuid>,
    /// Print a JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Sent {
    identifier: Uuid,
    queues: u32,
}

impl Send {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<Ended> {
        if let Some(file) = &self.lines {
            let lines = lines::Lines::open(file)?;
            let mut broker = broker::find(config).await?;
            let ended = lines::send(Arc::new(self), lines, &*broker.backend()).await;
            broker.close().await;
            return ended;
        }
        let outgoing = self.outgoing(content::read(self.content.as_deref())?)?;
        let mut broker = broker::find(config).await?;
        let sent = publish(&*broker.backend(), outgoing).await;
        broker.close().await;
        let sent = sent?;
        if sent.queues == 0 {
            let topic = &self.topic.topic;
            note(format!(
                "note: accepted; no queue is bound to topic `{topic}` yet, so it waits in the topic until one is"
            ));
        }
        if self.json {
            terminal::json(&sent)?
        } else {
            terminal::line(sent.identifier)?
        }
        Ok(Ended::Done)
    }

    /// The message of these bytes, on its way.
    fn outgoing(&self, bytes: Vec<u8>) -> anyhow::Result<Outgoing> {
        let mut message = self.options.message(&self.topic.topic, bytes)?;
        message.reply_topic.clone_from(&self.reply_to);
        if self.multicast {
            message.strategy = Strategy::Multicast;
        }
        if let Some(id) = self.id {
            message.identifier = id;
        }
        let mut outgoing = Outgoing::new(message);
        outgoing.key.clone_from(&self.key);
        outgoing.delay = self.delay.map(|delay| delay.0).unwrap_or_default();
        Ok(outgoing)
    }
}

async fn publish(backend: &dyn Backend, outgoing: Outgoing) -> anyhow::Result<Sent> {
    let identifier = outgoing.message.identifier;
    match backend.publish(vec![outgoing]).await.pop() {
        Some(Ok(receipt)) => Ok(Sent {
            identifier,
            queues: receipt.queues,
        }),
        Some(Err(error)) => Err(error.into()),
        None => Err(anyhow::anyhow!(
            "the broker said nothing of the message; it may not have been sent"
        )),
    }
}
