//! What goes wrong with a PostgreSQL server, by what can be done about it, in words that an operator can act upon.
//!
//! It decides nothing: whether and when to try again is the caller's business.

use super::Place;

/// A transaction failed; nothing of it happened, unless its commit was in doubt.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// There is no connection, or it is gone; a new one may work.
    #[error("{0}")]
    Lost(String),
    /// Another transaction was in the way; it works when it is tried again.
    #[error("{0}")]
    Again(String),
    /// The server cannot or may not do it at the moment.
    #[error("{0}")]
    Refused(String),
    /// It never works with these values.
    #[error("{0}")]
    Invalid(String),
}

impl Failure {
    pub(super) fn new(place: &Place, error: &sqlx::Error) -> Self {
        let place = place.name();
        let Some(database) = error.as_database_error() else {
            return match error {
                sqlx::Error::Encode(_) | sqlx::Error::ColumnDecode { .. } => {
                    Self::Invalid(format!("{place}: {error}"))
                }
                sqlx::Error::Tls(_) | sqlx::Error::Configuration(_) => {
                    Self::Refused(format!("{place} cannot be reached: {error}"))
                }
                _ => Self::Lost(format!("{place} cannot be reached: {error}")),
            };
        };
        let code = database.code().unwrap_or_default();
        let says = database.message();
        // https://www.postgresql.org/docs/current/errcodes-appendix.html
        match &*code {
            // 23505: a row came from elsewhere after it was looked for.
            "40001" | "40P01" | "55P03" | "57014" | "23505" => {
                Self::Again(format!("{place}: {says}"))
            }
            "53300" => Self::Lost(format!(
                "{place} has no connection left: {says}; raise max_connections, or give each host fewer"
            )),
            "53100" => Self::Refused(format!("the disk of {place} is full")),
            "25006" => Self::Refused(format!(
                "{place} is read-only; name the primary server, not a standby"
            )),
            "42P01" | "3F000" => Self::Refused(format!(
                "{place} has lost its tables: {says}; start the host again to make them"
            )),
            _ => match code.get(..2).unwrap_or_default() {
                "08" | "57" | "25" => Self::Lost(format!("{place} ended the connection: {says}")),
                "22" | "23" | "54" => Self::Invalid(format!("{place}: {says}")),
                _ => Self::Refused(format!("{place}: {says}")),
            },
        }
    }

    /// It took longer than anybody waits.
    pub(super) fn silent(place: &Place) -> Self {
        Self::Lost(format!(
            "{} has not answered within {:?}",
            place.name(),
            place.deadline()
        ))
    }

    /// What it says.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Lost(text) | Self::Again(text) | Self::Refused(text) | Self::Invalid(text) => {
                text
            }
        }
    }
}
