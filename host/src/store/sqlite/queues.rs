//! The queues that were declared.
//!
//! Their messages have files of their own.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::Row;

use super::{Database, Failure};
use crate::backend::{QueueName, QueueSpec};
use crate::topic::Pattern;

/// A queue with its number.
#[derive(Debug, Clone)]
pub(crate) struct QueueRow {
    pub(crate) id: i64,
    pub(crate) spec: QueueSpec,
}

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

impl Database {
    /// All queues in the order of their declaration.
    pub(crate) async fn queues(&mut self) -> Result<Vec<QueueRow>, Failure> {
        let sql = "SELECT id, name, grp, spec FROM queues ORDER BY id";
        let rows = sqlx::query(sql).fetch_all(&mut self.connection).await;
        let rows = rows.map_err(|error| self.failure(&error))?;
        let folder = self.folder.path().display();
        let unreadable =
            |error: String| Failure(format!("table queues of {folder} cannot be read: {error}"));
        rows.iter()
            .map(|row| {
                let columns = || -> Result<(i64, String, String, String), sqlx::Error> {
                    Ok((
                        row.try_get(0)?,
                        row.try_get(1)?,
                        row.try_get(2)?,
                        row.try_get(3)?,
                    ))
                };
                let (id, name, group, spec) =
                    columns().map_err(|error| unreadable(error.to_string()))?;
                let spec = read(&name, group, &spec)
                    .map_err(|error| unreadable(format!("{name}: {error}")))?;
                Ok(QueueRow { id, spec })
            })
            .collect()
    }

    /// Adds a queue or changes it, inside a transaction; its number.
    pub(super) async fn put_queue(&mut self, spec: &QueueSpec) -> Result<i64, Failure> {
        let sql = "INSERT INTO queues (name, grp, spec) VALUES (?, ?, ?) \
                   ON CONFLICT (name) DO UPDATE SET grp = excluded.grp, spec = excluded.spec RETURNING id";
        let id = sqlx::query_scalar(sql)
            .bind(spec.name.as_str().to_owned())
            .bind(spec.group.clone())
            .bind(write(spec))
            .fetch_one(&mut self.connection)
            .await;
        id.map_err(|error| self.failure(&error))
    }

    /// Deletes a queue and its messages.
    pub(crate) async fn delete_queue(&mut self, id: i64) -> Result<(), Failure> {
        self.execute("BEGIN IMMEDIATE").await?;
        for sql in [
            "DELETE FROM messages WHERE queue = ? AND queue <> 0 AND due = 0",
            "DELETE FROM messages WHERE queue = ? AND queue <> 0 AND due > 0",
            "DELETE FROM queues WHERE id = ?",
        ] {
            let done = sqlx::query(sql)
                .bind(id)
                .execute(&mut self.connection)
                .await;
            done.map_err(|error| self.failure(&error))?;
        }
        self.execute("COMMIT").await
    }
}

fn write(spec: &QueueSpec) -> String {
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

fn read(name: &str, group: String, spec: &str) -> Result<QueueSpec, String> {
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
    })
}
