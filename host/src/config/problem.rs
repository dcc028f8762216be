//! What is wrong with a configuration: where, what, and the nearest thing that would be right.
//!
//! Only words. The rules are in [`super::file`] and [`super::valid`](super).

use std::fmt;
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

/// Where something was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// In a file.
    File {
        /// The file.
        file: PathBuf,
        /// Line and column, counted from 1, if it is a place inside it.
        position: Option<(usize, usize)>,
    },
    /// In an environment variable.
    Variable(String),
}

impl ConfigError {
    /// The value, or everything that is wrong with it, in the order of the places.
    pub(super) fn unless_none<T>(mut problems: Vec<Problem>, value: T) -> Result<T, Self> {
        if problems.is_empty() {
            return Ok(value);
        }
        problems.sort_by(|a, b| a.order().cmp(&b.order()));
        // What follows at the same place of a file is a consequence of the first.
        problems.dedup_by(|next, first| first.order().0 == 0 && next.order() == first.order());
        Err(Self(problems))
    }
}

impl Problem {
    /// Places in files first, then variables, then files as a whole, then options.
    fn order(&self) -> (u8, (usize, usize), &str) {
        match &self.place {
            Some(Place::File {
                position: Some(at), ..
            }) => (0, *at, ""),
            Some(Place::Variable(name)) => (1, (0, 0), name),
            Some(Place::File { position: None, .. }) => (2, (0, 0), ""),
            None => (3, (0, 0), ""),
        }
    }
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
        match &self.place {
            Some(Place::File { file, position }) => {
                write!(f, "{}:", file.display())?;
                if let Some((line, column)) = position {
                    write!(f, "{line}:{column}:")?;
                }
                f.write_str(" ")?;
            }
            Some(Place::Variable(name)) => write!(f, "{name}: ")?,
            None => {}
        }
        f.write_str(&self.message)
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
        place: Some(Place::File {
            file: file.to_owned(),
            position: None,
        }),
        message: message.into(),
    }
}

/// `serde` lists everything that it would have taken; the nearest one helps more.
pub(super) fn in_our_words(message: &str) -> String {
    let (what, key, expected) = match message.strip_prefix("unknown ").and_then(split_unknown) {
        Some(("field", key, expected)) => ("key", key, expected),
        Some(("variant", key, expected)) => ("value", key, expected),
        _ => return in_words_of_toml(message),
    };
    match nearest(key, expected.iter().copied()) {
        Some(near) => format!("unknown {what} `{key}`; did you mean `{near}`?"),
        None => format!("unknown {what} `{key}`; use one of {}", expected.join(", ")),
    }
}

/// What `serde` calls by the names of Rust, on one line.
fn in_words_of_toml(message: &str) -> String {
    let mut text = message.lines().collect::<Vec<_>>().join(", ");
    for (from, to) in [
        ("type: map,", "type: table,"),
        ("type: sequence,", "type: list,"),
        ("expected a sequence", "expected a list"),
        ("expected a map", "expected a table"),
        ("expected a boolean", "expected true or false"),
        ("expected u32", "expected a whole number, 0 or more"),
        ("expected u64", "expected a whole number, 0 or more"),
        ("expected usize", "expected a whole number, 0 or more"),
        ("expected f64", "expected a number"),
        ("expected path string", "expected a path"),
    ] {
        text = text.replace(from, to);
    }
    match text.split_once("expected struct ") {
        Some((before, _)) => format!("{before}expected a table"),
        None => text,
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
pub(crate) fn nearest<'a>(
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
}
