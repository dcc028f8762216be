//! The queues that were declared.
//!
//! Their messages have files of their own.

use sqlx::Row;

use super::{Database, Failure};
use crate::backend::QueueSpec;
use crate::store::spec;

/// A queue with its number.
#[derive(Debug, Clone)]
pub(crate) struct QueueRow {
    pub(crate) id: i64,
    pub(crate) spec: QueueSpec,
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
                let spec = spec::read(&name, group, &spec)
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
            .bind(spec::write(spec))
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
