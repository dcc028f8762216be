//! `sandbar request`: publishes a message and prints the reply.

use clap::Args;
use sandbar::backend::PublishError;
use sandbar::client::{Client, RequestError};
use sandbar::config::{Config, Time};
use sandbar::message::Message;
use sandbar::wire;

use super::content::{self, ContentOptions, TopicArgument};
use super::options::parse;
use super::terminal::{self, note};
use super::{Ended, broker};

/// Publish a message and print the reply.
///
/// Prints the content of the reply; exit code 1 when its status is not 200, or when there is none in time.
#[derive(Debug, Args)]
pub(super) struct Request {
    #[command(flatten)]
    topic: TopicArgument,
    /// What: text, @FILE for the content of a file, or - for standard input
    #[arg(value_name = "CONTENT")]
    content: Option<String>,
    #[command(flatten)]
    options: ContentOptions,
    /// How long to wait for the reply [default: 5s]
    #[arg(id = "key:client.timeout", long = "timeout", value_name = "DURATION", value_parser = parse::<Time>)]
    timeout: Option<Time>,
    /// Print the whole reply as one JSON object
    #[arg(long)]
    json: bool,
}

impl Request {
    pub(super) async fn run(self, config: &Config) -> anyhow::Result<Ended> {
        let bytes = content::read(self.content.as_deref())?;
        let message = self.options.message(&self.topic.topic, bytes)?;
        let mut broker = broker::find(config).await?;
        if !broker.shared() {
            broker.close().await;
            let data = config.data.value.display();
            anyhow::bail!(
                "no host is running with data in {data}, so nobody would reply; start one with `sandbar run`, or name its folder with `--data`"
            );
        }
        let client = Client::connect(broker.backend()).await?;
        let timeout = self
            .timeout
            .map_or(config.request_timeout.value, |time| time.0);
        let reply = client.request(message, timeout).await;
        client.close().await;
        broker.close().await;
        match reply {
            Ok(reply) => self.print(&reply),
            Err(RequestError::Publish(PublishError::Unroutable(topic))) => {
                anyhow::bail!(
                    "no handler for topic `{topic}`; `sandbar run` prints what it handles when it starts"
                )
            }
            Err(error) => Err(error.into()),
        }
    }

    fn print(&self, reply: &Message) -> anyhow::Result<Ended> {
        let content = &reply.payload.content;
        if self.json {
            let mut envelope = wire::to_json(reply)?;
            envelope.push(b'\n');
            terminal::data(&envelope)?;
        } else if reply.ok() {
            terminal::data(&with_line_end(content))?;
        }
        if reply.ok() {
            return Ok(Ended::Done);
        }
        note(format!("status {}", reply.payload.status));
        if !self.json {
            let text = String::from_utf8_lossy(content);
            note(terminal::printable(text.trim_end()));
        }
        Ok(Ended::Failed)
    }
}

/// The content with a line end, unless it has one.
pub(super) fn with_line_end(content: &[u8]) -> Vec<u8> {
    let mut bytes = content.to_vec();
    if bytes.last() != Some(&b'\n') {
        bytes.push(b'\n');
    }
    bytes
}
