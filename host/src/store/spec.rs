//! The specification of a queue as a column: JSON without its name and group, which have columns of their own.
//!
//! It knows no SQL.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::backend::{QueueName, QueueSpec};
use crate::topic::Pattern;

/// The column `spec`.
#[derive(Serialize, Deserialize)]
struct Spec {
    topics: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dead_letter: Option<String>,
    lease_ms: u64,
    #[serde(default)]
    ephemeral: bool,
}

/// How a specification is written.
pub(super) fn write(spec: &QueueSpec) -> String {
    let spec = Spec {
        topics: spec
            .topics
            .iter()
            .map(|topic| topic.as_str().to_owned())
            .collect(),
        dead_letter: spec
            .dead_letter
            .as_ref()
            .map(|name| name.as_str().to_owned()),
        lease_ms: u64::try_from(spec.lease.as_millis()).unwrap_or(u64::MAX),
        ephemeral: spec.ephemeral,
    };
    serde_json::to_string(&spec).unwrap_or_default()
}

/// A specification out of its columns.
pub(super) fn read(name: &str, group: String, spec: &str) -> Result<QueueSpec, String> {
    let spec: Spec = serde_json::from_str(spec).map_err(|error| error.to_string())?;
    let queue = |name: &str| name.parse::<QueueName>().map_err(|error| error.to_string());
    let topics: Result<Vec<Pattern>, _> = spec.topics.iter().map(|topic| topic.parse()).collect();
    Ok(QueueSpec {
        name: queue(name)?,
        group,
        topics: topics.map_err(|error| error.to_string())?,
        dead_letter: spec.dead_letter.as_deref().map(queue).transpose()?,
        lease: Duration::from_millis(spec.lease_ms),
        ephemeral: spec.ephemeral,
        receiving: None,
    })
}
