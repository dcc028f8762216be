//! The way of messages between a network broker and a host.
//!
//! Only its name; who goes it is in `queued`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The way of messages between a network broker and a host.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Straight: the broker keeps each message until it is done.
    #[default]
    Direct,
    /// Through the store of the host, which keeps each message until it is done.
    Queued,
}
