//! The queues as they were declared, with the version of all of them together.
//!
//! Which topics they are bound to is part of their specification; what follows from it is decided elsewhere.

use sqlx::Row;

use super::{Failure, Tx};
use crate::backend::{QueueName, QueueSpec};
use crate::store::spec;

/// All queues at one moment.
#[derive(Debug)]
pub(crate) struct Topology {
    pub(crate) version: i64,
    /// In the order of their declaration.
    pub(crate) queues: Vec<QueueRow>,
}

/// A queue with its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueRow {
    pub(crate) id: i64,
    pub(crate) spec: QueueSpec,
}

impl Tx<'_> {
    /// The version of the queues, which grows with every change.
    pub(crate) async fn topology_version(&mut self) -> Result<i64, Failure> {
        let query = self.query("SELECT topology FROM meta");
        self.one(query).await
    }

    /// The queues, in one statement with their version, so that both are of the same moment.
    pub(crate) async fn topology_now(&mut self) -> Result<Topology, Failure> {
        let sql = "SELECT m.topology, q.id, q.name, q.grp, q.spec \
                   FROM meta m LEFT JOIN queues q ON q.name IS NOT NULL ORDER BY q.id";
        let query = self.query(sql);
        let rows = self.rows(query).await?;
        let (mut version, mut queues) = (0, Vec::with_capacity(rows.len()));
        for row in &rows {
            version = self.read(row.try_get(0))?;
            let Some(id) = self.read(row.try_get::<Option<i64>, _>(1))? else {
                continue;
            };
            let name: String = self.read(row.try_get(2))?;
            let group = self.read(row.try_get(3))?;
            let text: String = self.read(row.try_get(4))?;
            let spec = spec::read(&name, group, &text).map_err(|error| {
                let place = self.place().name();
                Failure::Refused(format!(
                    "queue `{name}` of {place} cannot be read: {error}; delete it, or use a newer release"
                ))
            })?;
            queues.push(QueueRow { id, spec });
        }
        Ok(Topology { version, queues })
    }

    /// Adds a queue or changes it; its number, and whether anything is new. `owner`: the host that it ends with.
    pub(crate) async fn put_queue(
        &mut self,
        spec: &QueueSpec,
        owner: &str,
    ) -> Result<(i64, bool), Failure> {
        let sql = "SELECT id, grp, spec, owner FROM queues WHERE name = $1";
        let query = self.query(sql).bind(spec.name.as_str());
        let text = spec::write(spec);
        let owner = spec.ephemeral.then_some(owner);
        if let Some(row) = self.rows(query).await?.first() {
            let id = self.read(row.try_get(0))?;
            let same = self.read(row.try_get::<String, _>(1))? == spec.group
                && self.read(row.try_get::<String, _>(2))? == text
                && self.read(row.try_get::<Option<String>, _>(3))?.as_deref() == owner;
            if same {
                return Ok((id, false));
            }
            let sql = "UPDATE queues SET grp = $2, spec = $3, owner = $4 WHERE id = $1";
            let query = self.query(sql).bind(id).bind(&spec.group);
            self.execute(query.bind(text).bind(owner)).await?;
            return Ok((id, true));
        }
        let sql =
            "INSERT INTO queues (name, grp, spec, owner) VALUES ($1, $2, $3, $4) RETURNING id";
        let query = self.query(sql).bind(spec.name.as_str()).bind(&spec.group);
        let id = self.one(query.bind(text).bind(owner)).await?;
        Ok((id, true))
    }

    /// The number of a queue.
    pub(crate) async fn queue_id(&mut self, name: &QueueName) -> Result<Option<i64>, Failure> {
        let query = self.query("SELECT max(id) FROM queues WHERE name = $1");
        self.one(query.bind(name.as_str())).await
    }

    /// Takes the name and the bindings from a queue. Its messages are removed later, for there may be many.
    pub(crate) async fn hide_queue(&mut self, id: i64) -> Result<(), Failure> {
        let query = self.query("UPDATE queues SET name = NULL, owner = NULL WHERE id = $1");
        self.execute(query.bind(id)).await.map(drop)
    }

    /// Says that the queues have changed.
    pub(crate) async fn changed(&mut self) -> Result<(), Failure> {
        self.raw("UPDATE meta SET topology = topology + 1").await
    }

    /// Removes some messages of the queues that are hidden, and the queues that have none left. Whether there is more.
    pub(crate) async fn sweep(&mut self, most: i64) -> Result<bool, Failure> {
        let query = self.query("SELECT min(id) FROM queues WHERE name IS NULL");
        let Some(queue) = self.one::<Option<i64>>(query).await? else {
            return Ok(false);
        };
        for sql in [
            "DELETE FROM messages WHERE queue = $1 AND id IN (SELECT id FROM messages WHERE queue = $1 LIMIT $2)",
            "DELETE FROM parked WHERE queue = $1 AND (key, id) IN (SELECT key, id FROM parked WHERE queue = $1 LIMIT $2)",
            "DELETE FROM later WHERE queue = $1 AND (due, id) IN (SELECT due, id FROM later WHERE queue = $1 LIMIT $2)",
        ] {
            let query = self.query(sql).bind(queue).bind(most);
            if self.execute(query).await? > 0 {
                return Ok(true);
            }
        }
        let query = self.query("DELETE FROM queues WHERE id = $1 AND name IS NULL");
        self.execute(query.bind(queue)).await?;
        Ok(true)
    }
}
