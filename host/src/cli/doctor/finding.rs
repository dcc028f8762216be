//! One thing that was looked at: how it is, and what to do if it should be otherwise.

use std::fmt::Display;

use serde::Serialize;

use super::Check;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// As it should be.
    Ok,
    /// It works, and somebody should know.
    Warn,
    /// It does not work.
    Fail,
}

impl Level {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    pub(super) check: Check,
    pub(super) level: Level,
    pub(super) detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) remedy: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: Check, detail: impl Into<String>) -> Self {
        Self {
            check,
            level: Level::Ok,
            detail: detail.into(),
            remedy: None,
        }
    }

    pub(super) fn warn(check: Check, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            check,
            level: Level::Warn,
            detail: detail.into(),
            remedy: Some(remedy.into()),
        }
    }

    pub(super) fn fail(check: Check, detail: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            level: Level::Fail,
            ..Self::warn(check, detail, remedy)
        }
    }

    /// An error of ours says what to do after a semicolon.
    pub(super) fn error(check: Check, error: &impl Display) -> Self {
        let text = error.to_string();
        let (detail, remedy) = match text.split_once("; ") {
            Some((detail, remedy)) => (detail.to_owned(), Some(remedy.to_owned())),
            None => (text, None),
        };
        Self {
            check,
            level: Level::Fail,
            detail,
            remedy,
        }
    }
}
