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

use super::commits::{Doubt, Ledger};
use super::{Failure, Place};

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It changes nothing.
    Read,
    /// It changes what may be lost with the server: who has which message.
    Fast,
    /// It changes what no other host changes.
    Own,
    /// It changes messages and state as the queues are at the moment.
    Write,
    /// It changes the queues; nobody writes meanwhile.
    Change,
}

impl Kind {
    pub(super) const ALL: [Self; 5] =
        [Self::Read, Self::Fast, Self::Own, Self::Write, Self::Change];
}

/// A connection, made when it is needed and made anew when it is lost.
#[derive(Debug)]
pub(crate) struct Session {
    place: Arc<Place>,
    connection: Option<PgConnection>,
    /// So that it can be found out whether a transaction was committed.
    ledger: Option<Ledger>,
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
    /// It left a row.
    recorded: bool,
}

impl Begun {
    fn ledger<'l>(&self, ledger: &'l mut Option<Ledger>) -> Option<&'l mut Ledger> {
        ledger.as_mut().filter(|_| self.recorded)
    }
}

/// Why a transaction was not committed.
#[derive(Debug)]
pub(crate) enum CommitError {
    /// It was not.
    Failed(Failure),
    /// The connection was lost before the answer came; [`Session::fate`] finds out.
    InDoubt(Doubt),
}

impl From<CommitError> for Failure {
    /// For what may be done again if nobody knows whether it was done.
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Failed(failure) => failure,
            CommitError::InDoubt(_) => {
                Self::Lost("the connection was lost in the middle of a commit".to_owned())
            }
        }
    }
}

impl Session {
    pub(crate) fn new(place: Arc<Place>) -> Self {
        Self {
            place,
            connection: None,
            ledger: None,
        }
    }

    /// The same, for one whose transactions that write leave a row, and can be asked for when their commit is in doubt.
    pub(crate) fn recorded(place: Arc<Place>, host: &str) -> Self {
        Self {
            ledger: Some(Ledger::new(host)),
            ..Self::new(place)
        }
    }

    /// Begins a transaction, on a new connection if the old one is gone.
    pub(crate) async fn begin(&mut self, kind: Kind) -> Result<Tx<'_>, Failure> {
        if kind == Kind::Write {
            self.register().await?;
        }
        let (connection, begun) = match self.connection.take() {
            None => {
                let connection = self.connect().await?;
                self.begin_on(connection, kind).await?
            }
            Some(used) => match self.begin_on(used, kind).await {
                Err(Failure::Lost(_)) => {
                    let connection = self.connect().await?;
                    self.begin_on(connection, kind).await?
                }
                begun => begun?,
            },
        };
        Ok(Tx {
            session: self,
            connection,
            begun,
        })
    }

    /// Each attempt has a number of its own: what a lost connection began may still be open.
    async fn begin_on(
        &mut self,
        mut connection: PgConnection,
        kind: Kind,
    ) -> Result<(PgConnection, Begun), Failure> {
        let and = match (kind, &mut self.ledger) {
            (Kind::Write, Some(ledger)) => ledger.next(),
            _ => String::new(),
        };
        let sql = AssertSqlSafe(self.place.begin(kind, &and));
        let rows = within(&self.place, raw_sql(sql).fetch_all(&mut connection)).await?;
        let begun = match (kind, rows.last()) {
            (Kind::Write | Kind::Change, Some(row)) => {
                let begun = || -> Result<Begun, sqlx::Error> {
                    Ok(Begun {
                        topology: row.try_get(0)?,
                        number: row.try_get(1)?,
                        recorded: kind == Kind::Write,
                    })
                };
                begun().map_err(|error| Failure::new(&self.place, &error))?
            }
            _ => Begun::default(),
        };
        Ok((connection, begun))
    }

    /// Gets a number for whoever writes under one, before the first transaction. If nobody knows whether it was given,
    /// it is another one.
    async fn register(&mut self) -> Result<(), Failure> {
        let host = match &self.ledger {
            Some(ledger) if !ledger.is_registered() => ledger.host().to_owned(),
            _ => return Ok(()),
        };
        let mut tx = Box::pin(self.begin(Kind::Own)).await?;
        let writer = tx.register(&host).await?;
        tx.commit().await?;
        if let Some(ledger) = &mut self.ledger {
            ledger.registered(writer);
        }
        Ok(())
    }

    /// Ends the connection.
    pub(crate) async fn close(&mut self) {
        if let Some(writer) = self.ledger.as_mut().and_then(Ledger::leave) {
            // What is left of it is removed by other hosts, later.
            drop(self.unregister(writer).await);
        }
        if let Some(connection) = self.connection.take() {
            // The server notices in any case.
            drop(within(&self.place, connection.close()).await);
        }
    }

    async fn unregister(&mut self, writer: i64) -> Result<(), Failure> {
        if self.connection.is_none() {
            return Ok(());
        }
        let mut tx = self.begin(Kind::Own).await?;
        tx.unregister(writer).await?;
        Ok(tx.commit().await?)
    }

    /// Its number was forgotten; it gets another one.
    pub(super) fn forgotten(&mut self) {
        self.ledger.as_mut().and_then(Ledger::leave);
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
                if let Some(ledger) = self.begun.ledger(&mut self.session.ledger) {
                    ledger.committed();
                }
                Ok(())
            }
            Err(Failure::Lost(lost)) => {
                let ledger = self.begun.ledger(&mut self.session.ledger);
                let doubt = ledger.and_then(|ledger| ledger.doubt(self.begun.number));
                Err(doubt.map_or(
                    CommitError::Failed(Failure::Lost(lost)),
                    CommitError::InDoubt,
                ))
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
