//! What can be chosen about a RabbitMQ broker.
//!
//! Only the values and whether they can be used; connecting is the business of `link`.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lapin::uri::AMQPUri;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RabbitMqBackend;
use super::connect::Server;
use crate::backend::kinds::Kind;
use crate::backend::{Mode, OpenError, Opened, Reach};
use crate::store::Retention;
use crate::value::{Setting, Time};

/// How to reach a RabbitMQ server, and how to use it: `[broker.rabbitmq]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RabbitMqOptions {
    /// Where the server is: `amqp://USER:PASSWORD@HOST:PORT/VHOST`, or `amqps://…` with TLS; user and password are `guest`
    /// if there are none. `env:NAME` or `file:PATH` is the place for one with a password.
    #[serde(serialize_with = "crate::value::without_password")]
    pub url: Setting,
    /// The certificate, in PEM, of who signed that of the server, if the system doesn't know it: `file:PATH`.
    pub ca: Option<Setting>,
    /// Messages of one queue that this host may hold without having settled them.
    #[schemars(range(min = 1), extend("x-unit" = "messages"))]
    pub prefetch: u16,
    /// Declares quorum queues, which are replicated over the nodes of a cluster, instead of classic ones.
    pub quorum: bool,
    /// Lets only one host at a time consume from a queue, so that messages of one key are never handled by two hosts at
    /// once. The others stand by.
    pub single_active: bool,
    /// A server that is silent for twice this time is given up; whole seconds.
    #[serde(with = "crate::value::duration")]
    #[schemars(with = "Time")]
    pub heartbeat: Duration,
    /// The way of messages from the server to plugins that say nothing about it. `queued` takes each into the data folder
    /// of the host first and acknowledges it then: what a message causes is one transaction with its end, retries need no
    /// server, and an outage leaves work to do. `direct` leaves it on the server until it is done, where other hosts get
    /// it when this one fails.
    pub receiving: Mode,
    /// The way of messages to the server. `queued` accepts them once they are in the data folder of the host, also
    /// while the server is away, and publishes them from there. Requests go straight in any case.
    pub publishing: Mode,
    /// Messages that may wait in the inbox of a plugin whose messages are received `queued`; the server keeps the rest.
    #[schemars(range(min = 1), extend("x-unit" = "messages"))]
    pub inbox: u64,
    /// How long dead letters are kept, and how many; `None`: all of them, for ever. A host is told in `[dead_letters]`.
    #[serde(skip)]
    pub letters: Option<Retention>,
}

impl Default for RabbitMqOptions {
    fn default() -> Self {
        Self {
            url: Setting::new("amqp://localhost:5672/%2f"),
            ca: None,
            prefetch: 256,
            quorum: false,
            single_active: false,
            heartbeat: Duration::from_secs(10),
            receiving: Mode::Direct,
            publishing: Mode::Direct,
            inbox: 100_000,
            letters: None,
        }
    }
}

impl Kind for RabbitMqOptions {
    const REACH: Reach = Reach::Network;
    const MODES: bool = true;

    async fn open(&self, data: &Path) -> Result<Opened, OpenError> {
        let broker = Arc::new(RabbitMqBackend::open(data, self.clone()).await?);
        Ok(Opened {
            backend: broker.clone().queued(),
            store: broker,
        })
    }

    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        // What a reference leads to is looked at when it is needed.
        if let Setting::Plain(url) = &self.url
            && let Err(error) = self.parse(url)
        {
            problems.push(("url", error));
        }
        if self.prefetch == 0 {
            let error = "`prefetch` is 0; it must be at least 1";
            problems.push(("prefetch", error.to_owned()));
        }
        if self.inbox == 0 {
            let error = "`inbox` is 0; it must be at least 1";
            problems.push(("inbox", error.to_owned()));
        }
        if !(1..=3600).contains(&self.heartbeat.as_secs()) {
            let error = format!(
                "`heartbeat` is {}; it must be between 1s and 1h",
                Time(self.heartbeat)
            );
            problems.push(("heartbeat", error));
        }
        problems
    }
}

impl RabbitMqOptions {
    /// The server, with everything that references lead to.
    pub(super) fn server(&self) -> Result<Server, String> {
        let base = Path::new("");
        let url = self.url.resolve(base);
        let ca = self.ca.as_ref().map(|ca| ca.resolve(base)).transpose();
        Ok(Server {
            uri: self.parse(&url.map_err(|error| format!("`url`: {error}"))?)?,
            ca: ca.map_err(|error| format!("`ca`: {error}"))?,
        })
    }

    fn parse(&self, url: &str) -> Result<AMQPUri, String> {
        let mut uri: AMQPUri = url.parse().map_err(|error| {
            format!("`url` is not the URL of a RabbitMQ server: {error}; write amqp://USER:PASSWORD@HOST:PORT/VHOST")
        })?;
        let seconds = u16::try_from(self.heartbeat.as_secs()).unwrap_or(u16::MAX);
        uri.query.heartbeat = Some(seconds.max(1));
        Ok(uri)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_named_without_the_password() {
        for (url, prefetch, heartbeat, keys) in [
            ("amqp://localhost", 1, 1, &[][..]),
            (
                "amqp://u:secret@[::1",
                0,
                0,
                &["url", "prefetch", "heartbeat"],
            ),
            ("http://u:secret@localhost", 1, 1, &["url"]),
            ("secret", 1, 4000, &["url", "heartbeat"]),
        ] {
            let options = RabbitMqOptions {
                url: Setting::new(url),
                prefetch,
                heartbeat: Duration::from_secs(heartbeat),
                ..RabbitMqOptions::default()
            };
            let problems = options.problems();
            let found: Vec<&str> = problems.iter().map(|(key, _)| *key).collect();
            assert_eq!(found, keys, "{url}");
            let said = problems.iter().any(|(_, text)| text.contains("secret"));
            assert!(!said, "{problems:?}");
        }
    }
}
