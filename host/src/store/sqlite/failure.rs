//! What goes wrong with a database, in words that an operator can act upon.
//!
//! It decides nothing: whether to try again is the caller's business.

use std::path::Path;

use crate::backend::OpenError;

/// A transaction or a query failed; nothing of it happened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Failure(pub(crate) String);

/// <https://www.sqlite.org/rescode.html>; the low byte of an extended code.
mod code {
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const READONLY: i32 = 8;
    pub(super) const IOERR: i32 = 10;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const CANTOPEN: i32 = 14;
    pub(super) const NOTADB: i32 = 26;
    /// The index of the log could not grow.
    pub(super) const IOERR_SHMSIZE: i32 = 10 | (19 << 8);
}

fn code_of(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}

impl Failure {
    pub(super) fn new(folder: &Path, error: &sqlx::Error) -> Self {
        let folder = folder.display();
        let code = code_of(error).unwrap_or_default();
        Self(match code & 0xff {
            code::FULL => format!("the disk of {folder} is full"),
            _ if code == code::IOERR_SHMSIZE => format!("the disk of {folder} is full"),
            code::IOERR => format!("the disk of {folder} cannot be read or written: {error}"),
            code::BUSY | code::LOCKED => format!("another program holds the database in {folder}"),
            code::READONLY => format!("{folder} is read-only"),
            code::CANTOPEN => format!("the database in {folder} cannot be opened"),
            code::CORRUPT | code::NOTADB => format!("the database in {folder} is damaged: {error}"),
            _ => format!("the database in {folder} failed: {error}"),
        })
    }
}

/// Why a database could not be opened.
pub(super) fn open_error(file: &Path, error: &sqlx::Error) -> OpenError {
    let path = file.to_owned();
    match code_of(error).unwrap_or_default() & 0xff {
        code::NOTADB => OpenError::NotADatabase(path),
        code::READONLY => OpenError::ReadOnly(path),
        _ => {
            let folder = file.parent().unwrap_or(file);
            let reason = Failure::new(folder, error).0;
            OpenError::Other { path, reason }
        }
    }
}
