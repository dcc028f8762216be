//! A connection that comes back, and transactions in it.
//!
//! A transaction that is dropped before its end takes its connection with it; the server rolls it back then. Nothing is
//! tried again here, except on a connection that turns out to have ended while it was idle.

use std::future::Future;
use std::sync::Arc;

use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, PgConnection, Postgres, QueryBuilder, Row, raw_sql,
};
use tokio::time::timeout;

use super::{Failure, Place};

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It changes nothing.
    Read,
    /// It changes what may be lost with the server: who has which message.
    Fast,
    /// It changes messages and state as the queues are at the moment.
    Write,
    /// It changes the queues; nobody writes meanwhile.
    Change,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Read, Self::Fast, Self::Write, Self::Change];
}

/// A connection, made when it is needed and made anew when it is lost.
#[derive(Debug)]
pub(crate) struct Session {
    place: Arc<Place>,
    connection: Option<PgConnection>,
}

/// A transaction.
#[derive(Debug)]
pub(crate) struct Tx<'s> {
    session: &'s mut Session,
    connection: PgConnection,
    begun: Begun,
}

/// A statement whose values are being bound.
pub(super) type Statement<'s> = Query<'s, Postgres, PgArguments>;

/// What is known at the beginning of a transaction that writes.
#[derive(Debug, Clone, Default)]
struct Begun {
    topology: i64,
    number: String,
}

/// Why a transaction was not committed.
#[derive(Debug)]
pub(crate) enum CommitError {
    /// It was not.
    Failed(Failure),
    /// The connection was lost before the answer came; [`Session::fate`] finds out with this number.
    InDoubt(String),
}

/// What became of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Committed,
    Aborted,
    /// Not decided; it is being ended.
    Open,
}

impl Session {
    pub(crate) fn new(place: Arc<Place>) -> Self {
        Self {
            place,
            connection: None,
        }
    }

    /// Begins a transaction, on a new connection if the old one is gone.
    pub(crate) async fn begin(&mut self, kind: Kind) -> Result<Tx<'_>, Failure> {
        let place = self.place.clone();
        let (connection, begun) = match self.connection.take() {
            None => begin(&place, self.connect().await?, kind).await?,
            Some(used) => match begin(&place, used, kind).await {
                Err(Failure::Lost(_)) => begin(&place, self.connect().await?, kind).await?,
                begun => begun?,
            },
        };
        Ok(Tx {
            session: self,
            connection,
            begun,
        })
    }

    /// What became of a transaction whose commit was in doubt. One that is still open is ended, for nobody else will.
    pub(crate) async fn fate(&mut self, number: &str) -> Result<Fate, Failure> {
        let (number, started) = number.split_once('@').unwrap_or((number, ""));
        let mut tx = self.begin(Kind::Read).await?;
        // A server that crashed forgets the numbers of transactions of which nothing had reached its disk, and gives them to
        // others. It writes a checkpoint before it takes connections again: what is not older than that is somebody else's.
        let sql = "SELECT CASE WHEN pg_postmaster_start_time()::text <> $2::text AND $1::text::numeric >= (
                SELECT split_part(next_xid, ':', 1)::numeric * 4294967296 + split_part(next_xid, ':', 2)::numeric
                FROM pg_control_checkpoint()
            ) THEN 'aborted' ELSE pg_xact_status($1::text::xid8) END";
        let query = tx.query(sql).bind(number).bind(started);
        let status: Option<String> = tx.one(query).await?;
        let fate = match status.as_deref() {
            Some("committed") => Fate::Committed,
            Some("in progress") => Fate::Open,
            _ => Fate::Aborted,
        };
        if fate == Fate::Open {
            let sql = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                       WHERE backend_xid = $1::text::xid8::xid";
            let query = tx.query(sql).bind(number);
            tx.one::<i64>(query).await?;
        }
        tx.end().await;
        Ok(fate)
    }

    /// Ends the connection.
    pub(crate) async fn close(&mut self) {
        if let Some(connection) = self.connection.take() {
            // The server notices in any case.
            drop(within(&self.place, connection.close()).await);
        }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    pub(super) async fn connect(&self) -> Result<PgConnection, Failure> {
        within(&self.place, self.place.options().connect()).await
    }
}

impl<'s> Tx<'s> {
    /// The version of the queues that this transaction sees until its end.
    pub(crate) fn topology(&self) -> i64 {
        self.begun.topology
    }

    /// Makes everything durable and visible.
    pub(crate) async fn commit(mut self) -> Result<(), CommitError> {
        let committed = raw_sql("COMMIT").execute(&mut self.connection);
        match within(&self.session.place, committed).await {
            Ok(_) => {
                self.session.connection = Some(self.connection);
                Ok(())
            }
            Err(Failure::Lost(_)) if !self.begun.number.is_empty() => {
                Err(CommitError::InDoubt(self.begun.number))
            }
            Err(failure) => Err(CommitError::Failed(failure)),
        }
    }

    /// Ends a transaction of which nothing shall remain, or which changed nothing.
    pub(crate) async fn end(mut self) {
        let ended = raw_sql("ROLLBACK").execute(&mut self.connection);
        if within(&self.session.place, ended).await.is_ok() {
            self.session.connection = Some(self.connection);
        }
    }

    /// A statement whose values are to be bound.
    pub(super) fn query(&self, sql: &'static str) -> Statement<'static> {
        sqlx::query(sql).persistent(!self.session.place.pooled())
    }

    /// The same of a statement that was put together; it holds no values of anybody.
    pub(super) fn made(&self, sql: String) -> Statement<'static> {
        sqlx::query(AssertSqlSafe(sql)).persistent(!self.session.place.pooled())
    }

    pub(super) async fn execute(&mut self, query: Statement<'_>) -> Result<u64, Failure> {
        let done = query.execute(&mut self.connection);
        let done = within(&self.session.place, done).await?;
        Ok(done.rows_affected())
    }

    pub(super) async fn rows(&mut self, query: Statement<'_>) -> Result<Vec<PgRow>, Failure> {
        let rows = query.fetch_all(&mut self.connection);
        within(&self.session.place, rows).await
    }

    /// The rows of a query that was put together.
    pub(super) async fn built(
        &mut self,
        query: &mut QueryBuilder<Postgres>,
    ) -> Result<Vec<PgRow>, Failure> {
        let query = query.build().persistent(!self.session.place.pooled());
        self.rows(query).await
    }

    /// The only column of the only row.
    pub(super) async fn one<T>(&mut self, query: Statement<'_>) -> Result<T, Failure>
    where
        T: for<'r> sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>,
    {
        let row = query.fetch_one(&mut self.connection);
        let row = within(&self.session.place, row).await?;
        self.read(row.try_get(0))
    }

    /// Statements without values.
    pub(super) async fn raw(&mut self, sql: &'static str) -> Result<(), Failure> {
        let done = raw_sql(sql).execute(&mut self.connection);
        within(&self.session.place, done).await.map(drop)
    }

    /// What a column says, or why it cannot be read.
    pub(super) fn read<T>(&self, read: Result<T, sqlx::Error>) -> Result<T, Failure> {
        read.map_err(|error| Failure::new(&self.session.place, &error))
    }

    pub(super) fn place(&self) -> &Place {
        &self.session.place
    }
}

async fn begin(
    place: &Place,
    mut connection: PgConnection,
    kind: Kind,
) -> Result<(PgConnection, Begun), Failure> {
    let sql = AssertSqlSafe(place.begin(kind).to_owned());
    let rows = raw_sql(sql).fetch_all(&mut connection);
    let rows = within(place, rows).await?;
    let begun = match (kind, rows.last()) {
        (Kind::Write | Kind::Change, Some(row)) => {
            let begun = || -> Result<Begun, sqlx::Error> {
                Ok(Begun {
                    topology: row.try_get(0)?,
                    number: row.try_get(1)?,
                })
            };
            begun().map_err(|error| Failure::new(place, &error))?
        }
        _ => Begun::default(),
    };
    Ok((connection, begun))
}

/// Waits no longer than anybody should.
pub(super) async fn within<T>(
    place: &Place,
    work: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Failure> {
    match timeout(place.deadline(), work).await {
        Ok(done) => done.map_err(|error| Failure::new(place, &error)),
        Err(_) => Err(Failure::silent(place)),
    }
}
