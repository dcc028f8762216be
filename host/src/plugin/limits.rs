//! How much one call of a plugin may use, with defaults that suit a handler of messages.
//!
//! Numbers and checks of data; time and memory are enforced by [`crate::guest`].

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::hits::Limit;
use crate::message::Payload;
use crate::share::DEFAULT_WEIGHT;
use crate::throttle::BreakerPolicy;

/// What the engine has room for in one table, and the most that `limits.table_elements` can be.
pub const MOST_TABLE_ELEMENTS: usize = 100_000;

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
    /// Elements of all tables of one instance; at most [`MOST_TABLE_ELEMENTS`].
    pub table_elements: usize,
    /// Handles of resources that one instance holds.
    pub resources: usize,
    /// Bytes that one call to the host, or one reply, brings with it.
    pub hostcall_fuel: usize,
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
    /// All keys and values of the plugin.
    pub state_total: u64,
    /// The component file.
    pub file: u64,
    /// Wall time of compiling it.
    pub compile_time: Duration,
    /// Memory that compiling it may take, by estimate.
    pub compile_memory: u64,
}

impl Default for Limits {
    fn default() -> Self {
        const KIB: usize = 1024;
        const MIB: usize = 1024 * KIB;
        Self {
            time: Duration::from_secs(5),
            load_time: Duration::from_secs(2),
            memory: 64 * MIB,
            table_elements: MOST_TABLE_ELEMENTS,
            resources: 1024,
            hostcall_fuel: 16 * MIB,
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
            state_total: 64 * 1024 * 1024,
            file: 64 * 1024 * 1024,
            compile_time: Duration::from_secs(5 * 60),
            compile_memory: 2 * 1024 * 1024 * 1024,
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
            (Limit::Content, payload.content.len(), self.content),
            (Limit::Headers, payload.headers.len(), self.headers),
            (
                Limit::HeaderBytes,
                payload.headers.size(),
                self.header_bytes,
            ),
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
#[error(
    "`limits.{}` is {allowed} and the message has {size}; send less, or raise the limit",
    limit.name()
)]
pub struct TooLarge {
    /// Which limit.
    pub limit: Limit,
    /// What the message has.
    pub size: usize,
    /// What is allowed.
    pub allowed: usize,
}
