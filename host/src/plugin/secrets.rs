//! Values that a plugin is given and that nobody else is to see: by name, and taken out of whatever the host writes.
//!
//! Pure. A value that a plugin encodes or cuts into pieces is not recognised; that is the plugin's doing.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

/// The secrets that were granted to one plugin.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    values: BTreeMap<String, String>,
    /// What is looked for, as it is and as it stands in JSON, each with its name; the longest first, since one secret may be
    /// part of another.
    patterns: Vec<(String, String)>,
}

impl Secrets {
    /// The fewest bytes of a secret: whatever is shorter stands everywhere by chance.
    pub const SHORTEST: usize = 4;

    /// Values by their names.
    #[must_use]
    pub fn new(values: BTreeMap<String, String>) -> Self {
        let mut patterns = Vec::new();
        for (name, value) in values.iter().filter(|(_, value)| !value.is_empty()) {
            let json = serde_json::Value::from(value.as_str()).to_string();
            let escaped = json.get(1..json.len() - 1).unwrap_or_default();
            if escaped != value {
                patterns.push((escaped.to_owned(), name.clone()));
            }
            patterns.push((value.clone(), name.clone()));
        }
        patterns.sort_by(|(a, _), (b, _)| b.len().cmp(&a.len()).then(a.cmp(b)));
        Self { values, patterns }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// Names and values, for the plugin alone.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&String, &String)> {
        self.values.iter()
    }

    /// The text with `[secret NAME]` in the place of each value.
    #[must_use]
    pub fn redact<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let mut text = Cow::Borrowed(text);
        for (value, name) in &self.patterns {
            if text.contains(value.as_str()) {
                text = Cow::Owned(text.replace(value.as_str(), &placeholder(name)));
            }
        }
        text
    }

    /// The same of a text that is kept.
    pub(crate) fn redact_text(&self, text: &mut String) {
        if let Cow::Owned(redacted) = self.redact(text) {
            *text = redacted;
        }
    }

    /// The same of bytes, which need not be text.
    pub(crate) fn redact_bytes(&self, bytes: &mut Vec<u8>) {
        for (value, name) in &self.patterns {
            let (value, mut rest) = (value.as_bytes(), bytes.as_slice());
            let mut redacted = None;
            while let Some(at) = rest.windows(value.len()).position(|part| part == value) {
                let (before, from) = rest.split_at(at);
                let to = redacted.get_or_insert_with(Vec::new);
                to.extend_from_slice(before);
                to.extend_from_slice(placeholder(name).as_bytes());
                rest = from.get(value.len()..).unwrap_or_default();
            }
            if let Some(mut redacted) = redacted {
                redacted.extend_from_slice(rest);
                *bytes = redacted;
            }
        }
    }
}

fn placeholder(name: &str) -> String {
    format!("[secret {name}]")
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(values: &[(&str, &str)]) -> Secrets {
        let values = values.iter();
        Secrets::new(
            values
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn values_are_replaced_by_their_names() {
        let secrets = secrets(&[
            ("A", "hunter2"),
            ("LONG", "hunter2-and-more"),
            ("EMPTY", ""),
            ("Q", "a \"b\" c"),
        ]);
        for (text, expected) in [
            ("nothing here", "nothing here"),
            ("a hunter2, hunter2", "a [secret A], [secret A]"),
            ("xhunter2-and-morex", "x[secret LONG]x"),
            ("hunter", "hunter"),
            (
                "{\"k\":\"a \\\"b\\\" c\"} a \"b\" c",
                "{\"k\":\"[secret Q]\"} [secret Q]",
            ),
        ] {
            assert_eq!(secrets.redact(text), expected);
            let mut bytes = text.as_bytes().to_vec();
            secrets.redact_bytes(&mut bytes);
            assert_eq!(String::from_utf8(bytes).unwrap(), expected);
        }
        let mut bytes = b"\xff\x00hunter2\xfe".to_vec();
        secrets.redact_bytes(&mut bytes);
        assert_eq!(bytes, b"\xff\x00[secret A]\xfe");
    }

    #[test]
    fn a_name_that_holds_its_value_ends() {
        let secrets = secrets(&[("NAME", "secret"), ("OTHER", "NAME")]);
        let mut bytes = b"x secret y".to_vec();
        secrets.redact_bytes(&mut bytes);
        assert_eq!(bytes, secrets.redact("x secret y").as_bytes());
    }

    #[test]
    fn nothing_shows_a_value() {
        let shown = format!("{:?}", secrets(&[("A", "hunter2")]));
        assert_eq!(shown, "{\"A\"}");
    }
}
