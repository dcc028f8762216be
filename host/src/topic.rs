//! Names of topics, and patterns that select them.
//!
//! Pure. A topic is a list of tokens with dots between them; `*` in a pattern stands for one token, a final `>` (or
//! `#`) for one or more. Who subscribes to a pattern is no business of this file.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// The name of a topic: 1 to 255 bytes, tokens separated by dots, no white space, no wildcard.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicName(Arc<str>);

impl TopicName {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 255;

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TopicName {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        check(text)?;
        if text.split('.').any(is_wildcard) {
            return Err(TopicError::Wildcard(text.to_owned()));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An exact topic, or a pattern of topics.
///
/// ```
/// use sandbar::topic::{Pattern, TopicName};
/// let pattern: Pattern = "user.>".parse()?;
/// let topic: TopicName = "user.address.changed".parse()?;
/// assert!(pattern.matches(&topic));
/// # Ok::<(), sandbar::topic::TopicError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pattern {
    text: Arc<str>,
    exact: bool,
}

impl Pattern {
    /// The pattern as text; a final `#` has become `>`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The one topic that it selects, if it has no wildcard.
    #[must_use]
    pub fn exact(&self) -> Option<TopicName> {
        self.exact.then(|| TopicName(self.text.clone()))
    }

    /// Whether it selects the topic.
    #[must_use]
    pub fn matches(&self, topic: &TopicName) -> bool {
        if self.exact {
            return *self.text == *topic.0;
        }
        let mut tokens = topic.as_str().split('.');
        for wanted in self.text.split('.') {
            match (wanted, tokens.next()) {
                (_, None) => return false,
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (wanted, Some(token)) if wanted == token => {}
                _ => return false,
            }
        }
        tokens.next().is_none()
    }
}

impl Pattern {
    /// Whether it selects every topic that the other selects.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let (mut mine, mut theirs) = (self.text.split('.'), other.text.split('.'));
        loop {
            match (mine.next(), theirs.next()) {
                (None, None) | (Some(">"), Some(_)) => return true,
                (Some("*"), Some(token)) if token != ">" => {}
                (Some(a), Some(b)) if a == b => {}
                _ => return false,
            }
        }
    }

    /// Whether some topic is selected by both.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        let (mut mine, mut theirs) = (self.text.split('.'), other.text.split('.'));
        loop {
            match (mine.next(), theirs.next()) {
                (None, None) => return true,
                (Some(">"), Some(_)) | (Some(_), Some(">")) => return true,
                (None, Some(_)) | (Some(_), None) => return false,
                (Some("*"), Some(_)) | (Some(_), Some("*")) => {}
                (Some(a), Some(b)) if a == b => {}
                _ => return false,
            }
        }
    }
}

impl From<TopicName> for Pattern {
    fn from(topic: TopicName) -> Self {
        Self {
            text: topic.0,
            exact: true,
        }
    }
}

impl FromStr for Pattern {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        check(text)?;
        let last = text.split('.').count() - 1;
        if text
            .split('.')
            .take(last)
            .any(|token| matches!(token, ">" | "#"))
        {
            return Err(TopicError::TailInside(text.to_owned()));
        }
        let text: Arc<str> = match text.strip_suffix('#') {
            Some(head) if head.is_empty() || head.ends_with('.') => format!("{head}>").into(),
            _ => text.into(),
        };
        let exact = !text.split('.').any(is_wildcard);
        Ok(Self { text, exact })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn is_wildcard(token: &str) -> bool {
    matches!(token, "*" | ">" | "#")
}

fn check(text: &str) -> Result<(), TopicError> {
    if text.is_empty() {
        return Err(TopicError::Empty);
    }
    if text.len() > TopicName::MAX_BYTES {
        return Err(TopicError::TooLong(text.len()));
    }
    if let Some(bad) = text.chars().find(|c| c.is_whitespace() || c.is_control()) {
        return Err(TopicError::Character {
            topic: text.to_owned(),
            bad,
        });
    }
    if text.split('.').any(str::is_empty) {
        return Err(TopicError::EmptyToken(text.to_owned()));
    }
    Ok(())
}

/// What is wrong with the name of a topic or with a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicError {
    /// No text at all.
    #[error("the topic is empty; name one such as `order.create`")]
    Empty,
    /// More than 255 bytes.
    #[error("the topic has {0} bytes; at most 255 are allowed")]
    TooLong(usize),
    /// White space or a control character.
    #[error("topic {topic:?} contains {bad:?}; white space and control characters are not allowed")]
    Character {
        /// The topic.
        topic: String,
        /// The first such character.
        bad: char,
    },
    /// Two dots in a row, or a dot at an end.
    #[error("topic `{0}` has an empty token; write one dot between tokens and none at the ends")]
    EmptyToken(String),
    /// A wildcard where a name is wanted.
    #[error("topic `{0}` is a pattern; a message goes to one topic, without `*`, `>` or `#`")]
    Wildcard(String),
    /// `>` before the end.
    #[error("pattern `{0}` has `>` or `#` before its end; it stands for the rest and comes last")]
    TailInside(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_select_as_documented() {
        for (pattern, topic, expected) in [
            ("a", "a", true),
            ("a", "b", false),
            ("user.*", "user.created", true),
            ("user.*", "user", false),
            ("user.*", "user.a.b", false),
            ("*.created", "user.created", true),
            ("*", "a.b", false),
            ("user.>", "user.a.b", true),
            ("user.>", "user", false),
            ("user.#", "user.a", true),
            (">", "a.b", true),
            ("#", "a", true),
            ("a.*.c", "a.b.c", true),
            ("a.*.c", "a.b.d", false),
            ("a*", "ab", false),
        ] {
            let (pattern, topic): (Pattern, TopicName) =
                (pattern.parse().unwrap(), topic.parse().unwrap());
            assert_eq!(pattern.matches(&topic), expected, "{pattern} {topic}");
        }
    }

    #[test]
    fn patterns_overlap_when_a_topic_is_in_both() {
        for (a, b, expected) in [
            ("a", "a", true),
            ("a", "b", false),
            ("a.*", "*.b", true),
            ("a.*", "a", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "x", true),
            ("a.*.c", "a.b.>", true),
            ("a.*.c", "a.b.d", false),
        ] {
            let (a, b): (Pattern, Pattern) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(
                (a.overlaps(&b), b.overlaps(&a)),
                (expected, expected),
                "{a} {b}"
            );
        }
    }

    #[test]
    fn a_pattern_covers_what_it_contains() {
        for (a, b, expected) in [
            ("a.*", "a.b", true),
            ("a.*", "a.>", false),
            ("a.>", "a.*.c", true),
            ("a.b", "a.*", false),
            (">", ">", true),
            ("a.>", "a", false),
        ] {
            let (pattern, other): (Pattern, Pattern) = (a.parse().unwrap(), b.parse().unwrap());
            assert_eq!(pattern.covers(&other), expected, "{a} {b}");
        }
    }

    #[test]
    fn malformed_names_say_why() {
        for bad in [
            "",
            "a b",
            "a..b",
            ".a",
            "a.",
            "a.*",
            ">",
            "a\n",
            &"x".repeat(256),
        ] {
            assert!(bad.parse::<TopicName>().is_err(), "{bad:?}");
        }
        for bad in ["", "a.>.b", "#.b", "a b"] {
            assert!(bad.parse::<Pattern>().is_err(), "{bad:?}");
        }
        assert!("x".repeat(255).parse::<TopicName>().is_ok());
    }
}
