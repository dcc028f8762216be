//! What became of a transaction whose commit got no answer.
//!
//! Each transaction of a writer adds a row with its number. Whoever wants to know adds the same row: the server lets that
//! wait for a transaction that is still open, finds the row of one that was committed, and keeps one out for good that was
//! not. So it doesn't matter what the server remembers of transactions, or whether it crashed meanwhile.

use std::time::Duration;

use sqlx::Row;

use super::Failure;
use super::session::{Kind, Session, Tx};

/// So many rows of a writer are kept before the older ones are removed.
const KEPT: i64 = 512;
/// How long a question waits for a transaction that is still open.
const WAIT: &str = "SET LOCAL lock_timeout TO '1s'";
/// The host of a writer that is younger may not have said yet that it lives.
const YOUNG: Duration = Duration::from_secs(60 * 60);

/// A transaction whose commit got no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Doubt {
    writer: i64,
    number: i64,
    /// Its number at the server, by which it is ended if it is still open.
    transaction: String,
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Committed,
    /// It never will be.
    Aborted,
    /// Not decided; it is being ended.
    Open,
    /// Its writer was forgotten, because its host did not live for so long.
    Forgotten,
}

/// The numbers of one writer.
#[derive(Debug)]
pub(super) struct Ledger {
    host: String,
    writer: Option<i64>,
    number: i64,
    /// Rows up to this number are removed.
    removed: i64,
}

impl Ledger {
    pub(super) fn new(host: &str) -> Self {
        Self {
            host: host.to_owned(),
            writer: None,
            number: 0,
            removed: 0,
        }
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn is_registered(&self) -> bool {
        self.writer.is_some()
    }

    /// From now on it writes under this number.
    pub(super) fn registered(&mut self, writer: i64) {
        self.writer = Some(writer);
        self.number = 0;
        self.removed = 0;
    }

    pub(super) fn leave(&mut self) -> Option<i64> {
        self.writer.take()
    }

    /// The row of the next transaction, as a statement, and without those that nobody asks for any more.
    pub(super) fn next(&mut self) -> String {
        let Some(writer) = self.writer else {
            return String::new();
        };
        self.number += 1;
        let number = self.number;
        let mut sql = format!("INSERT INTO commits VALUES ({writer}, {number}, true);");
        if number - self.removed > 2 * KEPT {
            let (after, to) = (self.removed, number - KEPT);
            sql.push_str(&format!(
                " DELETE FROM commits WHERE writer = {writer} AND number > {after} AND number <= {to};"
            ));
        }
        sql
    }

    /// The last transaction was committed, and so is what it removed.
    pub(super) fn committed(&mut self) {
        if self.number - self.removed > 2 * KEPT {
            self.removed = self.number - KEPT;
        }
    }

    /// The last transaction, if somebody can ask for it.
    pub(super) fn doubt(&self, transaction: String) -> Option<Doubt> {
        Some(Doubt {
            writer: self.writer?,
            number: self.number,
            transaction,
        })
    }
}

impl Session {
    /// What became of a transaction whose commit was in doubt. One that is still open is ended, for nobody else will.
    pub(crate) async fn fate(&mut self, doubt: &Doubt) -> Result<Fate, Failure> {
        let mut tx = self.begin(Kind::Own).await?;
        tx.raw(WAIT).await?;
        match tx.claim_commit(doubt).await {
            Ok(Some(fate)) => {
                // An answer counts when it is durable. Asking once more finds the same row.
                tx.commit().await.map_err(Failure::from)?;
                Ok(fate)
            }
            Ok(None) => {
                tx.end().await;
                self.forgotten();
                Ok(Fate::Forgotten)
            }
            Err(Failure::Again(_)) => {
                tx.end().await;
                let mut tx = self.begin(Kind::Read).await?;
                tx.terminate(&doubt.transaction).await?;
                tx.end().await;
                Ok(Fate::Open)
            }
            Err(failure) => {
                tx.end().await;
                Err(failure)
            }
        }
    }
}

impl Tx<'_> {
    /// A new writer; it has to be committed before it writes.
    pub(super) async fn register(&mut self, host: &str) -> Result<i64, Failure> {
        let query = self.query("INSERT INTO writers (host) VALUES ($1) RETURNING id");
        self.one(query.bind(host)).await
    }

    /// A writer that has ended, with nothing in doubt.
    pub(super) async fn unregister(&mut self, writer: i64) -> Result<(), Failure> {
        let query = self.query("DELETE FROM commits WHERE writer = $1");
        self.execute(query.bind(writer)).await?;
        let query = self.query("DELETE FROM writers WHERE id = $1");
        self.execute(query.bind(writer)).await.map(drop)
    }

    /// Forgets the writers of hosts that have been dead for long, and their rows.
    pub(crate) async fn forget_writers(&mut self) -> Result<u64, Failure> {
        let sql = "DELETE FROM writers w WHERE w.at < statement_timestamp() - $1 * interval '1 second' \
                   AND NOT EXISTS (SELECT FROM hosts h WHERE h.id = w.host)";
        let query = self.query(sql).bind(YOUNG.as_secs_f64());
        let gone = self.execute(query).await?;
        if gone > 0 {
            let sql = "DELETE FROM commits c WHERE NOT EXISTS (SELECT FROM writers w WHERE w.id = c.writer)";
            self.execute(self.query(sql)).await?;
        }
        Ok(gone)
    }

    async fn claim_commit(&mut self, doubt: &Doubt) -> Result<Option<Fate>, Failure> {
        let sql = "WITH w AS (SELECT id FROM writers WHERE id = $1 FOR KEY SHARE) \
                   INSERT INTO commits SELECT id, $2, false FROM w \
                   ON CONFLICT (writer, number) DO UPDATE SET done = commits.done RETURNING done";
        let query = self.query(sql).bind(doubt.writer).bind(doubt.number);
        let rows = self.rows(query).await?;
        let Some(row) = rows.first() else {
            return Ok(None);
        };
        let fate = match self.read(row.try_get(0))? {
            true => Fate::Committed,
            false => Fate::Aborted,
        };
        Ok(Some(fate))
    }

    async fn terminate(&mut self, transaction: &str) -> Result<(), Failure> {
        let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                   WHERE backend_xid = $1::text::xid8::xid";
        let query = self.query(sql).bind(transaction);
        self.one::<i64>(query).await.map(drop)
    }
}
