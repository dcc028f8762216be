//! What can be chosen about the postgres broker.

use std::path::Path;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PostgresBackend;
use crate::backend::kinds::Kind;
use crate::backend::{OpenError, Opened, Reach};
use crate::store::Retention;
use crate::store::postgres::Place;
use crate::value::Setting;

/// A URL that is right.
const ELSEWHERE: &str = "postgres://localhost";

/// What can be chosen about a broker in a PostgreSQL database: `[broker.postgres]`. All hosts of one schema share its
/// queues.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PostgresOptions {
    /// Where the database is: `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, or better a reference such as
    /// `env:DATABASE_URL`. `?sslmode=verify-full&sslrootcert=FILE` asks for TLS.
    pub url: Setting,
    /// The schema with the tables, made if it isn't there.
    pub schema: String,
    /// Connections that write. Some more are used: two that claim, one that reads, one for what is due, one that
    /// listens, and one while queues are declared.
    #[schemars(range(min = 1), extend("x-unit" = "connections"))]
    pub writers: usize,
    /// Connections go through a pooler in transaction mode, such as PgBouncer: nothing stays prepared, nobody listens.
    pub pooled: bool,
    /// Hears of messages of other hosts at once, on a connection of its own, instead of looking for them.
    pub listen: bool,
    /// How often to look for what nobody told: messages of other hosts, leases that ended.
    #[serde(with = "crate::value::duration")]
    #[schemars(with = "crate::value::Time")]
    pub poll: Duration,
    /// A host that has not said for so long that it lives is taken for dead, and its ephemeral queues are deleted.
    #[serde(with = "crate::value::duration")]
    #[schemars(with = "crate::value::Time")]
    pub host_timeout: Duration,
    /// How long the server may take for one answer before the connection is given up.
    #[serde(with = "crate::value::duration")]
    #[schemars(with = "crate::value::Time")]
    pub deadline: Duration,
    /// Messages that are kept in topics without a queue, all together.
    #[schemars(extend("x-unit" = "messages"))]
    pub kept: u64,
    /// How long they are kept.
    #[serde(with = "crate::value::duration")]
    #[schemars(with = "crate::value::Time")]
    pub kept_for: Duration,
    /// How long dead letters are kept, and how many; `None`: all of them, for ever. A host is told in `[dead_letters]`.
    #[serde(skip)]
    pub letters: Option<Retention>,
}

impl PostgresOptions {
    /// The defaults for the database of a URL.
    #[must_use]
    pub fn at(url: &str) -> Self {
        Self {
            url: Setting::new(url),
            ..Self::default()
        }
    }
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            url: Setting::Env("DATABASE_URL".to_owned()),
            schema: "sandbar".to_owned(),
            writers: 3,
            pooled: false,
            listen: true,
            poll: Duration::from_secs(1),
            host_timeout: Duration::from_secs(30),
            deadline: Duration::from_secs(30),
            kept: 1_000_000,
            kept_for: Duration::from_secs(7 * 24 * 60 * 60),
            letters: None,
        }
    }
}

impl Kind for PostgresOptions {
    const REACH: Reach = Reach::Network;

    async fn open(&self, _: &Path) -> Result<Opened, OpenError> {
        Ok(Opened::of(PostgresBackend::open(self.clone()).await?))
    }

    fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        // What a reference leads to is looked at when it is needed.
        let url = match &self.url {
            Setting::Plain(url) => url,
            _ => ELSEWHERE,
        };
        for (key, url, schema) in [("url", url, "x"), ("schema", ELSEWHERE, &self.schema)] {
            if let Err(OpenError::Address { reason, .. }) =
                Place::new(url, schema, self.pooled, self.deadline)
            {
                problems.push((key, format!("`{key}`: {reason}")));
            }
        }
        if self.writers == 0 {
            problems.push((
                "writers",
                "`writers` is 0; it must be at least 1".to_owned(),
            ));
        }
        for (name, time) in [
            ("poll", self.poll),
            ("host_timeout", self.host_timeout),
            ("deadline", self.deadline),
        ] {
            if time.is_zero() {
                let text = format!("`{name}` is 0; write a duration like \"1s\"");
                problems.push((name, text));
            }
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_used_is_named_without_the_password() {
        let options = |url: &str, schema: &str| PostgresOptions {
            schema: schema.to_owned(),
            ..PostgresOptions::at(url)
        };
        for (options, keys) in [
            (PostgresOptions::default(), &[][..]),
            (options("postgres://u:secret@h:1/d", "x"), &[]),
            (options("postgres://u:secret@[::1", "x"), &["url"]),
            (options("mysql://u:secret@h", ""), &["url", "schema"]),
            (options("env:NOT_SET", "a\"b"), &["schema"]),
            (
                PostgresOptions {
                    writers: 0,
                    poll: Duration::ZERO,
                    ..PostgresOptions::default()
                },
                &["writers", "poll"],
            ),
        ] {
            let problems = options.problems();
            let found: Vec<&str> = problems.iter().map(|(key, _)| *key).collect();
            assert_eq!(found, keys, "{problems:?}");
            let said = problems.iter().any(|(_, text)| text.contains("secret"));
            assert!(!said, "{problems:?}");
        }
    }
}
