//! Values as people write them: sizes, durations, names, and references to what shall not be written down.
//!
//! Each is a type with the rules for its text and a JSON Schema of it, used by the configuration file, the environment,
//! the options of brokers and the command line alike. What a value is for is decided elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A size in bytes, written as a number or as `64MiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<bytesize::ByteSize>() {
            Ok(size) => Ok(Self(size.as_u64())),
            Err(_) => Err(format!(
                "{text:?} is not a size; write it like \"64MiB\" or 1024"
            )),
        }
    }
}

impl fmt::Display for Size {
    /// The largest unit that expresses it exactly, so that it can be written back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, name) in [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")] {
            if self.0 >= unit && self.0.is_multiple_of(unit) {
                return write!(f, "{}{name}", self.0 / unit);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// A duration, written as `5s`, `300ms` or `1m 30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Duration);

impl FromStr for Time {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match humantime::parse_duration(text) {
            Ok(time) => Ok(Self(time)),
            Err(_) => Err(format!(
                "{text:?} is not a duration; write it like \"5s\" or \"300ms\""
            )),
        }
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

/// A value for a plugin or a broker: as it stands, or a reference to where it stands. Only the reference is ever shown.
#[derive(Clone, PartialEq, Eq)]
pub enum Setting {
    /// The value itself.
    Plain(String),
    /// `env:NAME`: the value of an environment variable.
    Env(String),
    /// `file:PATH`: the content of a file, without its last line end.
    File(String),
}

impl Setting {
    /// Reads a value as it is written.
    #[must_use]
    pub fn new(text: &str) -> Self {
        if let Some(name) = text.strip_prefix("env:") {
            Self::Env(name.to_owned())
        } else if let Some(path) = text.strip_prefix("file:") {
            Self::File(path.to_owned())
        } else {
            Self::Plain(text.to_owned())
        }
    }

    /// The value. Paths are relative to `base`.
    ///
    /// # Errors
    /// When what it refers to is not there; never with the value in the text.
    pub fn resolve(&self, base: &Path) -> Result<String, String> {
        match self {
            Self::Plain(value) => Ok(value.clone()),
            Self::Env(name) => std::env::var(name).map_err(|error| match error {
                std::env::VarError::NotPresent => {
                    format!("environment variable `{name}` is not set; set it, or write another value")
                }
                std::env::VarError::NotUnicode(_) => {
                    format!("environment variable `{name}` is not UTF-8; encode it, as base64 for example")
                }
            }),
            Self::File(path) => {
                let file = base.join(path);
                let text = std::fs::read_to_string(&file).map_err(|error| {
                    format!("file `{}`: {error}; create it, or write another value", file.display())
                })?;
                Ok(text.strip_suffix('\n').unwrap_or(&text).trim_end_matches('\r').to_owned())
            }
        }
    }
}

/// What a value is does not get into logs.
impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(_) => f.write_str("Plain(…)"),
            reference => write!(f, "{:?}", reference.to_string()),
        }
    }
}

impl FromStr for Setting {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(Self::new(text))
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Plain(value) => f.write_str(value),
            Self::Env(name) => write!(f, "env:{name}"),
            Self::File(path) => write!(f, "file:{path}"),
        }
    }
}

/// The settings of one plugin by name.
pub type Settings = BTreeMap<String, Setting>;

/// Which values of a format such as TOML are taken for text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Text only.
    Text,
    /// Whole numbers too.
    Integers,
    /// Numbers and truth values too, as they stand.
    Scalars,
}

/// Reads a value and parses it. An error then has the place of the value, because it happens while it is read.
pub(crate) struct Reader<T> {
    expected: &'static str,
    takes: Takes,
    result: PhantomData<T>,
}

impl<T> Reader<T> {
    pub(crate) fn new(expected: &'static str, takes: Takes) -> Self {
        Self {
            expected,
            takes,
            result: PhantomData,
        }
    }
}

impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Reader<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expected)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<T, E> {
        match self.takes {
            Takes::Text => Err(E::invalid_type(Unexpected::Signed(value), &self)),
            Takes::Integers | Takes::Scalars => self.visit_str(&value.to_string()),
        }
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<T, E> {
        match self.takes {
            Takes::Text => Err(E::invalid_type(Unexpected::Unsigned(value), &self)),
            Takes::Integers | Takes::Scalars => self.visit_str(&value.to_string()),
        }
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<T, E> {
        match self.takes {
            Takes::Scalars => self.visit_str(&value.to_string()),
            Takes::Text | Takes::Integers => Err(E::invalid_type(Unexpected::Float(value), &self)),
        }
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<T, E> {
        match self.takes {
            Takes::Scalars => self.visit_str(&value.to_string()),
            Takes::Text | Takes::Integers => Err(E::invalid_type(Unexpected::Bool(value), &self)),
        }
    }
}

/// Serde and JSON Schema for a type that is written as text and read back with `FromStr`.
macro_rules! written_as_text {
    ($type:ty, $takes:ident, $expected:literal, $schema:tt) => {
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let reader = $crate::value::Reader::new($expected, $crate::value::Takes::$takes);
                from.deserialize_any(reader)
            }
        }

        impl schemars::JsonSchema for $type {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($type).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!($schema)
            }
        }
    };
}

pub(crate) use written_as_text;

written_as_text!(Size, Integers, "a size such as \"64MiB\"", {
    "type": ["string", "integer"],
    "minimum": 0,
    "pattern": r"^[0-9]+(\.[0-9]+)?\s*([kKmMgGtTpPeE]([iI]?[bB])?|[bB])?$",
    "examples": ["64MiB"],
    "x-type": "size",
    "x-unit": "bytes",
});

written_as_text!(Time, Text, "a duration such as \"5s\"", {
    "type": "string",
    "pattern": r"^\s*([0-9]+(\.[0-9]+)?\s*[a-zA-Zµ]+\s*)+$|^0$",
    "examples": ["300ms", "5s", "1m 30s"],
    "x-type": "duration",
    "x-unit": "ms, s, m, h, d",
});

written_as_text!(Setting, Scalars, "text, a number, true or false", {
    "description": "A value, `env:NAME` or `file:PATH`; it gets there as text.",
    "type": ["string", "number", "boolean"],
    "x-type": "text",
});

/// Writes a URL without the password that may be in it: `#[serde(serialize_with = "crate::value::without_password")]`.
pub(crate) fn without_password<S: Serializer>(url: &Setting, to: S) -> Result<S::Ok, S::Error> {
    let shown = url.to_string();
    let hidden = match (url, shown.split_once("://"), shown.rfind('@')) {
        (Setting::Plain(_), Some((scheme, rest)), Some(at)) => {
            let user = rest.split([':', '@']).next().unwrap_or_default();
            let host = shown.get(at..).unwrap_or_default();
            Some(format!("{scheme}://{user}:…{host}"))
        }
        _ => None,
    };
    to.serialize_str(&hidden.unwrap_or(shown))
}

/// A [`Duration`] field, written as a [`Time`]: `#[serde(with = "crate::value::duration")]`.
pub(crate) mod duration {
    use super::{Deserialize, Deserializer, Duration, Serialize, Serializer, Time};

    pub(crate) fn serialize<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
        Time(*time).serialize(to)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        Time::deserialize(from).map(|time| time.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_times_are_read_and_written_back() {
        for (text, bytes, back) in [
            ("64MiB", 64 << 20, "64MiB"),
            ("1 KiB", 1024, "1KiB"),
            ("1000", 1000, "1000"),
            ("2kB", 2000, "2000"),
        ] {
            let size: Size = text.parse().unwrap();
            assert_eq!((size.0, size.to_string().as_str()), (bytes, back));
        }
        for (text, milliseconds) in [("5s", 5000), ("300ms", 300), ("1m 30s", 90_000)] {
            assert_eq!(text.parse::<Time>().unwrap().0.as_millis(), milliseconds);
        }
        for bad in ["", "x", "-1", "5 parsecs"] {
            assert!(
                bad.parse::<Size>().is_err() && bad.parse::<Time>().is_err(),
                "{bad:?}"
            );
        }
    }

    #[test]
    fn a_reference_shows_where_its_value_is_and_not_the_value() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("key"), "secret\n").unwrap();
        let setting = Setting::new("file:key");
        assert_eq!(setting.resolve(dir.path()), Ok("secret".to_owned()));
        assert_eq!(setting.to_string(), "file:key");
        assert!(
            Setting::new("env:SANDBAR_NOT_SET_ANYWHERE")
                .resolve(dir.path())
                .is_err()
        );
    }

    #[test]
    fn passwords_are_not_shown() {
        for (url, shown) in [
            ("amqp://ann:se:c@ret@h:1/v", "amqp://ann:…@h:1/v"),
            ("amqp://h:1/v", "amqp://h:1/v"),
            ("env:URL", "env:URL"),
        ] {
            let written = without_password(&Setting::new(url), serde_json::value::Serializer);
            assert_eq!(written.unwrap(), shown);
            assert!(!format!("{:?}", Setting::new(url)).contains("ret"));
        }
    }

    #[test]
    fn numbers_and_truth_values_are_settings_too() {
        let read = |json: &str| serde_json::from_str::<Setting>(json).map(|it| it.to_string());
        for (json, text) in [("3", "3"), ("0.5", "0.5"), ("true", "true"), ("\"x\"", "x")] {
            assert_eq!(read(json).unwrap(), text);
        }
        assert!(read("[1]").is_err());
        assert!(serde_json::from_str::<Time>("5").is_err());
        assert_eq!(serde_json::from_str::<Size>("5").unwrap(), Size(5));
    }
}
