//! What is wrong with a configuration: where, what, and the nearest thing that would be right.
//!
//! Only words. The rules are in [`super::file`] and [`super::valid`](super).

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A configuration that cannot be used, with everything that is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError(pub Vec<Problem>);

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where; `None` for what was given as an option.
    pub place: Option<Place>,
    /// What, and what to do.
    pub message: String,
}

/// A place in a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// Its line and column, counted from 1, if it is a place inside it.
    pub position: Option<(usize, usize)>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(Place { file, position }) = &self.place {
            write!(f, "{}:", file.display())?;
            if let Some((line, column)) = position {
                write!(f, "{line}:{column}:")?;
            }
            f.write_str(" ")?;
        }
        f.write_str(&self.message)
    }
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// The text of a file, to turn offsets into lines and columns.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) file: PathBuf,
    pub(super) text: String,
}

impl Text {
    /// A problem at these bytes of the text.
    pub(super) fn problem(
        &self,
        span: Option<Range<usize>>,
        message: impl Into<String>,
    ) -> Problem {
        let position = span.map(|span| {
            let before = self.text.get(..span.start).unwrap_or(&self.text);
            let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
            let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
            (before.matches('\n').count() + 1, column)
        });
        Problem {
            place: Some(Place {
                file: self.file.clone(),
                position,
            }),
            message: message.into(),
        }
    }

    /// The problem that the parser found.
    pub(super) fn parse_problem(&self, error: &toml::de::Error) -> Problem {
        self.problem(error.span(), in_our_words(error.message()))
    }
}

/// A problem with an option rather than with a file.
pub(super) fn with_option(message: impl Into<String>) -> Problem {
    Problem {
        place: None,
        message: message.into(),
    }
}

/// A problem with a file as a whole.
pub(super) fn with_file(file: &Path, message: impl Into<String>) -> Problem {
    Problem {
        place: Some(Place {
            file: file.to_owned(),
            position: None,
        }),
        message: message.into(),
    }
}

/// `serde` lists everything that it would have taken; the nearest one helps more.
fn in_our_words(message: &str) -> String {
    let (what, key, expected) = match message.strip_prefix("unknown ").and_then(split_unknown) {
        Some(("field", key, expected)) => ("key", key, expected),
        Some(("variant", key, expected)) => ("value", key, expected),
        _ => return message.lines().collect::<Vec<_>>().join(", "),
    };
    match nearest(key, expected.iter().copied()) {
        Some(near) => format!("unknown {what} `{key}`; did you mean `{near}`?"),
        None => format!("unknown {what} `{key}`; use one of {}", expected.join(", ")),
    }
}

/// Splits ``field `x`, expected one of `a`, `b` ``.
fn split_unknown(text: &str) -> Option<(&str, &str, Vec<&str>)> {
    let mut parts = text.split('`');
    let kind = parts.next()?.trim();
    let key = parts.next()?;
    // Names and what stands between them alternate.
    let expected: Vec<&str> = parts.skip(1).step_by(2).collect();
    (!expected.is_empty()).then_some((kind, key, expected))
}

/// The candidate that was probably meant.
pub(super) fn nearest<'a>(
    wanted: &str,
    candidates: impl Iterator<Item = &'a str>,
) -> Option<&'a str> {
    candidates
        .map(|candidate| (strsim::jaro_winkler(wanted, candidate), candidate))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|(a, _), (b, _)| a.total_cmp(b))
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_names_come_with_the_nearest_known_one() {
        for (from, to) in [
            (
                "unknown field `subscibe`, expected one of `subscribe`, `publish`",
                "unknown key `subscibe`; did you mean `subscribe`?",
            ),
            (
                "unknown field `x`, expected `data` or `group`",
                "unknown key `x`; use one of data, group",
            ),
            (
                "unknown variant `jsn`, expected `native` or `json`",
                "unknown value `jsn`; did you mean `json`?",
            ),
            (
                "invalid type: integer `5`, expected a string",
                "invalid type: integer `5`, expected a string",
            ),
        ] {
            assert_eq!(in_our_words(from), to);
        }
    }

    #[test]
    fn places_are_counted_from_one_in_characters() {
        let text = Text {
            file: "f".into(),
            text: "a = 1\nä = 2\n".to_owned(),
        };
        let at = |offset: usize| {
            text.problem(Some(offset..offset), "")
                .place
                .unwrap()
                .position
                .unwrap()
        };
        assert_eq!((at(0), at(6), at(9)), ((1, 1), (2, 1), (2, 3)));
    }
}
