//! The schema: made if it isn't there, brought up to date if it is older, left alone if it is newer or of somebody else.
//!
//! All hosts that start at once do it one after the other; each migration is done once.

use sqlx::{AssertSqlSafe, Connection, PgConnection, Row, raw_sql};

use super::session::within;
use super::{Failure, Place, Session};
use crate::backend::OpenError;

/// The version of the schema, kept in `meta`. Each number has a migration.
const SCHEMA: i32 = 4;
const MIGRATIONS: [(i32, &str); 4] = [
    (1, include_str!("001_initial.sql")),
    (2, include_str!("002_commits.sql")),
    (3, include_str!("003_state_sizes.sql")),
    (4, include_str!("004_state_growth.sql")),
];

/// What is found in the place of the schema.
struct Found {
    schema: bool,
    tables: bool,
    version: i32,
}

impl Session {
    /// Makes sure that the schema is there and of this release.
    pub(crate) async fn migrate(&self) -> Result<(), OpenError> {
        let server = |failure: Failure| OpenError::Server(failure.text().to_owned());
        let place = self.place();
        let mut connection = self.connect().await.map_err(server)?;
        let found = lock(place, &mut connection).await.map_err(server)?;
        if found.version > SCHEMA {
            return Err(OpenError::NewerSchema {
                place: place.name().to_owned(),
                found: found.version.into(),
                known: SCHEMA.into(),
            });
        }
        if found.tables && found.version == 0 {
            return Err(OpenError::Server(format!(
                "{} holds tables of another program; name a schema of its own for Sandbar",
                place.name()
            )));
        }
        apply(place, &mut connection, &found)
            .await
            .map_err(server)?;
        // Everything is committed.
        drop(connection.close().await);
        Ok(())
    }
}

async fn lock(place: &Place, connection: &mut PgConnection) -> Result<Found, Failure> {
    let look = async {
        raw_sql("BEGIN").execute(&mut *connection).await?;
        let sql = "SELECT pg_advisory_xact_lock(hashtextextended($1 || ':migration', 0))";
        let query = sqlx::query(sql).persistent(false).bind(place.schema());
        query.execute(&mut *connection).await?;
        let sql = "SELECT EXISTS (SELECT FROM pg_namespace WHERE nspname = $1), \
                   EXISTS (SELECT FROM pg_tables WHERE schemaname = $1), \
                   EXISTS (SELECT FROM pg_tables WHERE schemaname = $1 AND tablename = 'meta')";
        let query = sqlx::query(sql).persistent(false).bind(place.schema());
        let row = query.fetch_one(&mut *connection).await?;
        let mut found = Found {
            schema: row.try_get(0)?,
            tables: row.try_get(1)?,
            version: 0,
        };
        if row.try_get(2)? {
            let sql = format!("SELECT schema_version FROM \"{}\".meta", place.schema());
            let row = raw_sql(AssertSqlSafe(sql))
                .fetch_optional(&mut *connection)
                .await;
            found.version = row
                .ok()
                .flatten()
                .map_or(Ok(0), |row| row.try_get::<i32, _>(0))?;
        }
        Ok(found)
    };
    within(place, look).await
}

async fn apply(place: &Place, connection: &mut PgConnection, found: &Found) -> Result<(), Failure> {
    let apply = async {
        if !found.schema {
            let sql = format!("CREATE SCHEMA \"{}\"", place.schema());
            raw_sql(AssertSqlSafe(sql))
                .execute(&mut *connection)
                .await?;
        }
        let sql = format!("SET LOCAL search_path TO \"{}\"", place.schema());
        raw_sql(AssertSqlSafe(sql))
            .execute(&mut *connection)
            .await?;
        for (_, sql) in MIGRATIONS
            .iter()
            .filter(|(version, _)| *version > found.version)
        {
            raw_sql(*sql).execute(&mut *connection).await?;
        }
        let sql = format!("UPDATE meta SET schema_version = {SCHEMA}; COMMIT");
        raw_sql(AssertSqlSafe(sql))
            .execute(&mut *connection)
            .await?;
        Ok(())
    };
    within(place, apply).await
}
