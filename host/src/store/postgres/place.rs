//! Where the database is, and how every transaction in it begins.
//!
//! It opens no connection.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::PgConnectOptions;

use super::session::Kind;
use crate::backend::OpenError;

/// How long a transaction may wait for its host; a host that was stopped in the middle of one would keep its locks.
const IDLE: &str = "10s";
/// How long a change of the queues waits for the transactions of all hosts.
const PATIENCE: &str = "20s";

/// Where [`Place::begin`] puts what belongs to one transaction.
const AND: &str = "/* and */";

/// So that the channel of the schema has a legal name too.
const LONGEST_SCHEMA: usize = 55;

/// A schema in a database.
#[derive(Clone)]
pub(crate) struct Place {
    options: PgConnectOptions,
    schema: String,
    name: String,
    pooled: bool,
    deadline: Duration,
    begin: Arc<[String; 5]>,
}

impl Place {
    /// The schema in the database of a URL. `pooled`: connections go through a pooler that hands out another one for
    /// each transaction. No answer takes longer than `deadline`.
    pub(crate) fn new(
        url: &str,
        schema: &str,
        pooled: bool,
        deadline: Duration,
    ) -> Result<Self, OpenError> {
        let wrong = |reason: String| OpenError::Address {
            kind: "postgres",
            reason,
        };
        if !["postgres://", "postgresql://"]
            .iter()
            .any(|scheme| url.starts_with(scheme))
        {
            return Err(wrong(
                "the URL has to begin with postgres://, as in postgres://user@host:5432/database"
                    .to_owned(),
            ));
        }
        let mut options: PgConnectOptions = url
            .parse()
            .map_err(|error: sqlx::Error| wrong(error.to_string()))?;
        if schema.is_empty() || schema.len() > LONGEST_SCHEMA || schema.contains(['"', '\0']) {
            return Err(wrong(format!(
                "{schema:?} is not a name of a schema; use 1 to {LONGEST_SCHEMA} bytes without quotation marks"
            )));
        }
        options = options
            .application_name("sandbar")
            // Poolers refuse what they don't know at the start of a connection.
            .extra_float_digits(None)
            .disable_statement_logging();
        let name = format!(
            "PostgreSQL at {}:{}/{} (schema {schema})",
            options.get_socket().map_or_else(
                || options.get_host().to_owned(),
                |path| path.display().to_string()
            ),
            options.get_port(),
            options
                .get_database()
                .unwrap_or_else(|| options.get_username()),
        );
        let begin = Kind::ALL.map(|kind| begin(schema, kind));
        Ok(Self {
            options,
            schema: schema.to_owned(),
            name,
            pooled,
            deadline,
            begin: Arc::new(begin),
        })
    }

    /// For people; without a password.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    pub(super) fn schema(&self) -> &str {
        &self.schema
    }

    /// On which hosts hear of each other.
    pub(super) fn channel(&self) -> String {
        format!("sandbar:{}", self.schema)
    }

    /// Whether a statement cannot stay prepared.
    pub(super) fn pooled(&self) -> bool {
        self.pooled
    }

    pub(super) fn deadline(&self) -> Duration {
        self.deadline
    }

    /// The statements that begin a transaction, `and` among them once the queues cannot change any more.
    pub(super) fn begin(&self, kind: Kind, and: &str) -> String {
        let [read, fast, own, write, change] = &*self.begin;
        let begin = match kind {
            Kind::Read => read,
            Kind::Fast => fast,
            Kind::Own => own,
            Kind::Write => write,
            Kind::Change => change,
        };
        begin.replace(AND, and)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Everything is local to the transaction. The planner knows nothing useful of tables that are empty one moment and full
/// the next, so it is told to take the indexes.
fn begin(schema: &str, kind: Kind) -> String {
    let common = format!(
        "BEGIN; SET LOCAL search_path TO \"{schema}\"; \
         SELECT set_config('idle_in_transaction_session_timeout', '{IDLE}', true), \
                set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true), \
                set_config('enable_hashjoin', 'off', true), set_config('enable_mergejoin', 'off', true), \
                set_config('jit', 'off', true), set_config('plan_cache_mode', 'force_generic_plan', true);"
    );
    // What is decided from the queues as they are must be committed before they change. Locks of the transaction, for
    // those of a session are lost behind a pooler.
    let lock = |shared: &str| {
        format!(
            "SELECT pg_advisory_xact_lock{shared}(hashtextextended(current_schema() || ':topology', 0)); \
             {AND} SELECT topology, pg_current_xact_id()::text FROM meta"
        )
    };
    match kind {
        Kind::Read | Kind::Own => common,
        // A claim that is lost in a crash of the server is as good as one that ran out.
        Kind::Fast => format!("{common} SET LOCAL synchronous_commit TO off"),
        Kind::Write => format!("{common} {}", lock("_shared")),
        Kind::Change => format!(
            "{common} SET LOCAL lock_timeout TO '{PATIENCE}'; {}",
            lock("")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(url: &str, schema: &str) -> Result<Place, OpenError> {
        Place::new(url, schema, false, Duration::from_secs(1))
    }

    #[test]
    fn a_place_is_named_without_its_password() {
        let place = place("postgres://me:secret@db.example:6000/orders", "sandbar").unwrap();
        assert_eq!(
            place.name(),
            "PostgreSQL at db.example:6000/orders (schema sandbar)"
        );
        assert!(!format!("{place:?}").contains("secret"));
    }

    #[test]
    fn a_wrong_address_is_refused_with_what_to_do() {
        for (url, schema, expected) in [
            (
                "mysql://x",
                "s",
                "the URL has to begin with postgres://, as in postgres://user@host:5432/database",
            ),
            (
                "postgres://x",
                "a\"; DROP",
                "\"a\\\"; DROP\" is not a name of a schema; use 1 to 55 bytes without quotation marks",
            ),
        ] {
            let error = place(url, schema).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
