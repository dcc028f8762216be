//! The hosts that live, the queues that end with them, and what the server says of itself.
//!
//! A host that doesn't say for a while that it lives is taken for dead; its leases end by themselves.

use std::collections::HashMap;
use std::time::Duration;

use sqlx::Row;

use super::{Failure, Tx};
use crate::backend::QueueName;

/// The oldest version that has everything that is used here.
const OLDEST: i32 = 130_000;

impl Tx<'_> {
    /// This host lives for so much longer, and so many of its receivers wait, by the number of the queue.
    pub(crate) async fn alive(
        &mut self,
        host: &str,
        time: Duration,
        receivers: &HashMap<i64, usize>,
    ) -> Result<(), Failure> {
        let sql = "INSERT INTO hosts (id, until, receivers) \
                   VALUES ($1, statement_timestamp() + $2 * interval '1 millisecond', $3) \
                   ON CONFLICT (id) DO UPDATE SET until = excluded.until, receivers = excluded.receivers";
        // Numbers can always be written.
        let receivers = serde_json::to_string(receivers).unwrap_or_default();
        let query = self.query(sql).bind(host).bind(time.as_secs_f64() * 1e3);
        self.execute(query.bind(receivers)).await.map(drop)
    }

    /// This host has ended.
    pub(crate) async fn gone(&mut self, host: &str) -> Result<(), Failure> {
        let query = self.query("DELETE FROM hosts WHERE id = $1").bind(host);
        self.execute(query).await.map(drop)
    }

    /// Whether there are queues of hosts that are dead.
    pub(crate) async fn has_orphans(&mut self) -> Result<bool, Failure> {
        let sql = "SELECT EXISTS (SELECT FROM queues q WHERE q.owner IS NOT NULL AND NOT EXISTS \
                   (SELECT FROM hosts h WHERE h.id = q.owner AND h.until > statement_timestamp()))";
        let query = self.query(sql);
        self.one(query).await
    }

    /// Hides the ephemeral queues of hosts that are dead, and of this one if it `ends`; their names.
    pub(crate) async fn hide_orphans(
        &mut self,
        ends: Option<&str>,
    ) -> Result<Vec<QueueName>, Failure> {
        let sql = "UPDATE queues q SET name = NULL, owner = NULL FROM queues o \
                   WHERE o.id = q.id AND o.owner IS NOT NULL AND (o.owner = $1 OR NOT EXISTS \
                   (SELECT FROM hosts h WHERE h.id = o.owner AND h.until > statement_timestamp())) \
                   RETURNING o.name";
        let query = self.query(sql).bind(ends);
        let rows = self.rows(query).await?;
        self.raw("DELETE FROM hosts WHERE until < statement_timestamp() - interval '1 hour'")
            .await?;
        let mut names = Vec::with_capacity(rows.len());
        for row in &rows {
            let name: String = self.read(row.try_get(0))?;
            names.extend(name.parse());
        }
        Ok(names)
    }

    /// One line about the server and how safe it is told to be.
    pub(crate) async fn describe(&mut self) -> Result<String, Failure> {
        let sql = "SELECT current_setting('server_version'), current_setting('fsync') = 'on', \
                   current_setting('synchronous_commit'), pg_is_in_recovery(), \
                   current_setting('server_version_num')::int";
        let query = self.query(sql);
        let rows = self.rows(query).await?;
        let row = rows.first().ok_or_else(|| {
            Failure::Lost(format!("{} says nothing of itself", self.place().name()))
        })?;
        let version: String = self.read(row.try_get(0))?;
        let fsync: bool = self.read(row.try_get(1))?;
        let commit: String = self.read(row.try_get(2))?;
        if self.read(row.try_get(3))? {
            return Err(Failure::Refused(format!(
                "{} is a standby; name the primary server",
                self.place().name()
            )));
        }
        if self.read(row.try_get::<i32, _>(4))? < OLDEST {
            return Err(Failure::Refused(format!(
                "{} is version {version}; PostgreSQL 13 or newer is needed",
                self.place().name()
            )));
        }
        let durability = match (fsync, commit.as_str()) {
            (false, _) => "fsync is OFF: a crash of the machine may lose or damage everything",
            (true, "off") => {
                "synchronous_commit is OFF: a crash of the server loses what was confirmed last"
            }
            (true, _) => {
                "what is confirmed was flushed to its disk (fsync), and survives a crash of the server"
            }
        };
        let place = self.place().name();
        Ok(format!(
            "{place}, version {version}, synchronous_commit {commit}: {durability}"
        ))
    }
}
