//! How much one call of a plugin may use, with defaults that suit a handler of messages.
//!
//! Numbers and checks of data; time and memory are enforced by [`crate::guest`].

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::message::Payload;
use crate::share::DEFAULT_WEIGHT;
use crate::throttle::BreakerPolicy;

/// Whether messages share an instance.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Instances are kept warm and handle one message after the other: a message may see what an earlier message of the
    /// same plugin left in the guest's memory.
    #[default]
    Reuse,
    /// A fresh instance for each message: nothing of one message can be seen by another.
    Message,
}

/// Limits of one plugin. Sizes are in bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// Wall time of one call.
    pub time: Duration,
    /// Wall time of instantiation and `routes` at load.
    pub load_time: Duration,
    /// Linear memory of one instance.
    pub memory: usize,
    /// Calls at once.
    pub concurrency: usize,
    /// Whether messages share an instance.
    pub isolation: Isolation,
    /// How much it gets of a host that is busy, from 1 to 10, compared with its neighbours.
    pub weight: u32,
    /// Messages for each second; `None` for as many as it can.
    pub rate: Option<u32>,
    /// When it is paused because it keeps failing; `None` for never.
    pub breaker: Option<BreakerPolicy>,
    /// Content of one message, in and out.
    pub content: usize,
    /// Number of headers of one message.
    pub headers: usize,
    /// Names and values of the headers of one message together.
    pub header_bytes: usize,
    /// Messages published by one call.
    pub publishes: usize,
    /// Content and headers of all messages published by one call.
    pub publish_bytes: usize,
    /// Lines logged by one call.
    pub log_lines: u32,
    /// Bytes logged by one call.
    pub log_bytes: usize,
    /// One value in the state.
    pub state_value: usize,
    /// Keys written by one call.
    pub state_writes: usize,
    /// Requests sent over HTTP by one call.
    pub http_requests: usize,
    /// Bytes of all requests and responses of one call over HTTP.
    pub http_bytes: usize,
    /// How long a connection over HTTP may take to be made.
    pub http_connect_time: Duration,
    /// The component file.
    pub file: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const KIB: usize = 1024;
        const MIB: usize = 1024 * KIB;
        Self {
            time: Duration::from_secs(5),
            load_time: Duration::from_secs(2),
            memory: 64 * MIB,
            concurrency: 5,
            isolation: Isolation::default(),
            weight: DEFAULT_WEIGHT,
            rate: None,
            breaker: Some(BreakerPolicy::default()),
            content: MIB,
            headers: 64,
            header_bytes: 16 * KIB,
            publishes: 64,
            publish_bytes: 4 * MIB,
            log_lines: 100,
            log_bytes: 64 * KIB,
            state_value: 256 * KIB,
            state_writes: 256,
            http_requests: 16,
            http_bytes: 4 * MIB,
            http_connect_time: Duration::from_secs(2),
            file: 64 * 1024 * 1024,
        }
    }
}

impl Limits {
    /// Checks content and headers of one message.
    ///
    /// # Errors
    /// [`TooLarge`] with the limit that is exceeded.
    pub fn check_payload(&self, payload: &Payload) -> Result<(), TooLarge> {
        let checks = [
            ("content", payload.content.len(), self.content),
            ("headers", payload.headers.len(), self.headers),
            ("header_bytes", payload.headers.size(), self.header_bytes),
        ];
        for (limit, size, allowed) in checks {
            if size > allowed {
                return Err(TooLarge {
                    limit,
                    size,
                    allowed,
                });
            }
        }
        Ok(())
    }
}

/// Content or headers exceed a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`limits.{limit}` is {allowed} and the message has {size}; send less, or raise the limit")]
pub struct TooLarge {
    /// The limit's name in the configuration.
    pub limit: &'static str,
    /// What the message has.
    pub size: usize,
    /// What is allowed.
    pub allowed: usize,
}
