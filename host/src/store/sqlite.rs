//! The SQLite database of a data folder: opening it, and what is read and written in it.
//!
//! All SQL of the embedded broker is here and below. It decides nothing about messages: which rows are written when is
//! the business of `backend::embedded`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Row, SqliteConnection};

use super::row;
use crate::backend::OpenError;

mod ahead;
mod bulk;
mod dead;
mod failure;
mod flush;
mod folder;
mod kept;
mod letters;
mod look;
mod place;
mod queues;
mod read;
mod state;
mod write;

pub(crate) use super::row::Columns;
pub(crate) use failure::Failure;
pub(crate) use flush::{Confirmation, Flusher, Room};
pub(crate) use folder::Folder;
pub(crate) use kept::Declared;
pub(crate) use look::{Gone, Waiting};
pub(crate) use place::Place;
pub(crate) use read::{Due, StoredRow};
pub(crate) use write::{Batch, NewRow, RetryRow, StateRow};

use ahead::Ahead;
use bulk::Bulks;

/// The version of the schema, kept in `user_version`. Each number has a migration.
const SCHEMA: i64 = 3;
const SET_SCHEMA: &str = "PRAGMA user_version = 3";
const MIGRATIONS: [(i64, &str); 3] = [
    (1, include_str!("sqlite/001_initial.sql")),
    (2, include_str!("sqlite/002_letters.sql")),
    (3, include_str!("sqlite/003_state_sizes.sql")),
];

/// How long to wait for another program that looks into the database.
const BUSY: Duration = Duration::from_secs(5);
/// Pages of the write-ahead log before they are moved into the database: 32 MiB, so that most messages have been
/// settled by then and their pages are written once for many of them.
const CHECKPOINT_PAGES: &str = "8192";
const LOG_LIMIT: &str = "67108864";
const CACHE_KIB: &str = "-16384";

/// The one connection that writes.
#[derive(Debug)]
pub(crate) struct Database {
    connection: SqliteConnection,
    flushing: SqliteSynchronous,
    bulks: Bulks,
    ahead: Ahead,
    // Declared last: the folder is free for others only when the connection has ended.
    folder: Folder,
}

/// A connection that only reads.
#[derive(Debug)]
pub(crate) struct Reader {
    connection: SqliteConnection,
    folder: PathBuf,
}

impl Database {
    /// Opens or creates the database of a folder and brings its schema up to date. Every commit is flushed to the disk.
    pub(crate) async fn open(folder: Folder) -> Result<Self, OpenError> {
        Self::opened(folder, SqliteSynchronous::Full).await
    }

    /// The same, with commits that are on disk when the flusher says so.
    pub(crate) async fn open_apart(folder: Folder) -> Result<(Self, Flusher), OpenError> {
        let (path, file) = (folder.path().to_owned(), folder.database());
        let database = Self::opened(folder, SqliteSynchronous::Normal).await?;
        let flusher = Flusher::start(flush::log(path.clone(), file));
        let flusher = flusher.map_err(|error| OpenError::Other {
            path,
            reason: format!("no thread that flushes: {error}"),
        })?;
        Ok((database, flusher))
    }

    async fn opened(folder: Folder, flushing: SqliteSynchronous) -> Result<Self, OpenError> {
        let file = folder.database();
        let connect = || async {
            let mut connection = options(&file, flushing).connect().await?;
            migrate(&mut connection, &file).await?;
            Ok(connection)
        };
        let connection = connect()
            .await
            .map_err(|error: Problem| error.explain(&file))?;
        Ok(Self {
            connection,
            flushing,
            bulks: Bulks::new(),
            ahead: Ahead::new(&file),
            folder,
        })
    }

    /// A second connection, for reading while the first one writes.
    pub(crate) async fn reader(&self) -> Result<Reader, Failure> {
        Reader::open(self.folder.path()).await
    }

    /// One line about the library and how safe it is told to be.
    pub(crate) async fn describe(&mut self) -> Result<String, Failure> {
        let sql = "SELECT sqlite_version(), journal_mode, synchronous \
                   FROM pragma_journal_mode, pragma_synchronous";
        let row = self.fetch_one(sql).await?;
        let describe = || -> Result<String, sqlx::Error> {
            let (version, journal): (String, String) = (row.try_get(0)?, row.try_get(1)?);
            // Less than 1 would not even flush before the log is moved into the database.
            let safe = match journal == "wal" && row.try_get::<i64, _>(2)? >= 1 {
                true => "",
                false => ", UNSAFE",
            };
            let path = self.folder.path().display();
            Ok(format!(
                "SQLite {version} in {path}, journal {journal}{safe}: what is confirmed was flushed to the disk \
                 (fdatasync), and survives a power cut if the disk keeps that promise"
            ))
        };
        describe().map_err(|error| self.failure(&error))
    }

    /// Undoes what a failed transaction left open; connects anew if the connection itself is broken.
    pub(crate) async fn recover(&mut self) {
        let ended = sqlx::query("ROLLBACK").execute(&mut self.connection).await;
        if matches!(ended, Ok(_) | Err(sqlx::Error::Database(_))) {
            return;
        }
        let options = options(&self.folder.database(), self.flushing);
        if let Ok(connection) = options.connect().await {
            self.connection = connection;
            self.ahead.reconnected();
        }
    }

    /// Makes room in the log for the next transactions, if it lacks it; between two of them.
    pub(crate) async fn make_room(&mut self) {
        self.ahead.keep().await;
    }

    /// Moves the write-ahead log into the database and ends.
    pub(crate) async fn close(mut self) -> Result<(), Failure> {
        let checkpoint = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)");
        let moved = checkpoint
            .execute(&mut self.connection)
            .await
            .map_err(|error| self.failure(&error));
        let path = self.folder.path().to_owned();
        let closed = self
            .connection
            .close()
            .await
            .map_err(|error| Failure::new(&path, &error));
        moved.and(closed)
    }

    async fn execute(&mut self, sql: &'static str) -> Result<(), Failure> {
        match sqlx::query(sql).execute(&mut self.connection).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.failure(&error)),
        }
    }

    async fn fetch_one(&mut self, sql: &'static str) -> Result<sqlx::sqlite::SqliteRow, Failure> {
        let row = sqlx::query(sql).fetch_one(&mut self.connection).await;
        row.map_err(|error| self.failure(&error))
    }

    fn failure(&self, error: &sqlx::Error) -> Failure {
        Failure::new(self.folder.path(), error)
    }
}

impl Reader {
    /// A connection of its own, for whoever reads long enough to hold up others. Only for the owner of the folder.
    pub(crate) async fn open(folder: &Path) -> Result<Self, Failure> {
        let options = options(&folder::database(folder), SqliteSynchronous::Normal).read_only(true);
        let connected = options.create_if_missing(false).connect().await;
        Ok(Self {
            connection: connected.map_err(|error| Failure::new(folder, &error))?,
            folder: folder.to_owned(),
        })
    }

    /// Ends once its files are closed, so that their disk can be taken away. There is nothing to lose.
    pub(crate) async fn close(self) {
        drop(self.connection.close().await);
    }

    fn failure(&self, error: &sqlx::Error) -> Failure {
        Failure::new(&self.folder, error)
    }
}

fn options(file: &Path, flushing: SqliteSynchronous) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(flushing)
        .foreign_keys(false)
        .busy_timeout(BUSY)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .pragma("journal_size_limit", LOG_LIMIT)
        .pragma("cache_size", CACHE_KIB)
        .pragma("temp_store", "memory")
        .disable_statement_logging()
}

/// Why opening did not work, before it is put into words.
enum Problem {
    Sql(sqlx::Error),
    Open(OpenError),
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        Self::Sql(error)
    }
}

impl Problem {
    fn explain(self, file: &Path) -> OpenError {
        match self {
            Self::Open(error) => error,
            Self::Sql(error) => failure::open_error(file, &error),
        }
    }
}

/// Applies the migrations that the database doesn't have yet, all or none. Beginning with the lock for writing also
/// waits for the end of whatever a dropped connection of this process is still doing.
async fn migrate(connection: &mut SqliteConnection, file: &Path) -> Result<(), Problem> {
    sqlx::query("BEGIN IMMEDIATE")
        .execute(&mut *connection)
        .await?;
    let sql = "SELECT user_version, (SELECT count(*) FROM sqlite_schema) FROM pragma_user_version";
    let row = sqlx::query(sql).fetch_one(&mut *connection).await?;
    let (found, tables): (i64, i64) = (row.try_get(0)?, row.try_get(1)?);
    if found > SCHEMA {
        let file = file.to_owned();
        return Err(Problem::Open(OpenError::Newer {
            file,
            found,
            known: SCHEMA,
        }));
    }
    if found == 0 && tables > 0 {
        return Err(Problem::Open(OpenError::Other {
            path: file.to_owned(),
            reason: "it holds tables of another program; move it away, or use another --data"
                .to_owned(),
        }));
    }
    for (_, sql) in MIGRATIONS.iter().filter(|(version, _)| *version > found) {
        sqlx::raw_sql(*sql).execute(&mut *connection).await?;
    }
    sqlx::query(SET_SCHEMA).execute(&mut *connection).await?;
    sqlx::query("COMMIT").execute(&mut *connection).await?;
    Ok(())
}
