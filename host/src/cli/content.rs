//! The content and the headers of a message, as `send` and `request` take them.
//!
//! Content that is JSON is sent as JSON, other text as text; text that only looks like JSON is refused, because it is a
//! typing error nearly always.

use std::io::Read as _;

use anyhow::Context as _;
use clap::Args;
use sandbar::message::{CONTENT_TYPE, Message, Payload};
use sandbar::topic::TopicName;

use super::Usage;
use super::options::parse;

/// What a message says.
#[derive(Debug, Args)]
pub(super) struct ContentOptions {
    /// A header; may be given several times
    #[arg(short = 'H', long = "header", value_name = "NAME=VALUE")]
    pub(super) headers: Vec<String>,
    /// Send the content as it is, even if it looks like JSON and is none
    #[arg(long)]
    pub(super) raw: bool,
}

/// The topic of a message.
#[derive(Debug, Args)]
pub(super) struct TopicArgument {
    /// Where to, such as order.create
    #[arg(value_name = "TOPIC", value_parser = parse::<TopicName>)]
    pub(super) topic: TopicName,
}

/// Reads `CONTENT`, `@FILE` or `-`.
pub(super) fn read(content: Option<&str>) -> anyhow::Result<Vec<u8>> {
    match content {
        None => Ok(Vec::new()),
        Some("-") => {
            let mut bytes = Vec::new();
            std::io::stdin()
                .lock()
                .read_to_end(&mut bytes)
                .context("standard input")?;
            Ok(bytes)
        }
        Some(text) => match text.strip_prefix('@') {
            Some(file) => std::fs::read(file)
                .map_err(|error| Usage(format!("content file {file}: {error}")).into()),
            None => Ok(text.as_bytes().to_owned()),
        },
    }
}

impl ContentOptions {
    /// A payload of these bytes.
    pub(super) fn payload(&self, bytes: Vec<u8>) -> Result<Payload, Usage> {
        let kind = if self.raw {
            raw_kind(&bytes)
        } else {
            kind(&bytes)?
        };
        let mut payload = Payload::new(bytes);
        if let Some(kind) = kind {
            payload
                .headers
                .insert(CONTENT_TYPE, kind)
                .map_err(|error| Usage(error.to_string()))?;
        }
        for header in &self.headers {
            let (name, value) = header.split_once('=').ok_or_else(|| {
                Usage(format!(
                    "header {header:?} has no `=`; write it like `-H trace=abc`"
                ))
            })?;
            let inserted = payload.headers.insert(name.trim(), value.trim());
            inserted.map_err(|error| Usage(error.to_string()))?;
        }
        Ok(payload)
    }

    /// A message of these bytes.
    pub(super) fn message(&self, topic: &TopicName, bytes: Vec<u8>) -> Result<Message, Usage> {
        let message = Message::new(topic.clone(), self.payload(bytes)?);
        message.user().map_err(|error| Usage(error.to_string()))?;
        Ok(message)
    }
}

/// The content type of what was given; an error for what was meant to be JSON.
fn kind(bytes: &[u8]) -> Result<Option<&'static str>, Usage> {
    match check_json(bytes) {
        Ok(()) => Ok(Some("application/json")),
        Err(error) if matches!(first(bytes), Some(b'{' | b'[' | b'"')) => Err(Usage(format!(
            "the content looks like JSON and is none: {error}; correct it, or add --raw to send it as it is"
        ))),
        Err(_) => Ok(raw_kind(bytes)),
    }
}

/// Whether bytes are one JSON value.
pub(super) fn check_json(bytes: &[u8]) -> Result<(), serde_json::Error> {
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).map(|_| ())
}

fn raw_kind(bytes: &[u8]) -> Option<&'static str> {
    (!bytes.is_empty() && std::str::from_utf8(bytes).is_ok()).then_some("text/plain; charset=utf-8")
}

fn first(bytes: &[u8]) -> Option<u8> {
    bytes.iter().copied().find(|c| !c.is_ascii_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_json_text_or_an_error() {
        for (content, expected) in [
            ("{\"a\":1}", Some("application/json")),
            ("17", Some("application/json")),
            ("hello", Some("text/plain; charset=utf-8")),
            ("", None),
        ] {
            assert_eq!(kind(content.as_bytes()), Ok(expected), "{content}");
        }
        assert_eq!(kind(b"\xff\xfe"), Ok(None));
        for content in ["{\"a\":", " [1,", "\"x"] {
            assert!(kind(content.as_bytes()).is_err(), "{content}");
        }
    }
}
