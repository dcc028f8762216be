//! Values as people write them: sizes, durations, topics, and references to secrets.
//!
//! Each is a type with the rules for its text, used by the configuration file and by the command line alike. What a
//! value is for is decided elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{Deserializer, Error as _, Unexpected, Visitor};
use serde::{Deserialize, Serialize};

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

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a size such as \"64MiB\"")
            }

            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Size, E> {
                let size = u64::try_from(value);
                size.map(Size)
                    .map_err(|_| E::invalid_value(Unexpected::Signed(value), &self))
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Size, E> {
                text.parse().map_err(E::custom)
            }
        }
        from.deserialize_any(Reader)
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

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Time;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a duration such as \"5s\"")
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Time, E> {
                text.parse().map_err(E::custom)
            }
        }
        from.deserialize_any(Reader)
    }
}

/// Text that has to parse, such as the pattern of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Parsed<T>(pub(super) T);

impl<'de, T: FromStr<Err: fmt::Display>> Deserialize<'de> for Parsed<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        text.parse().map(Self).map_err(D::Error::custom)
    }
}

/// A value for a plugin: as it stands, or a reference to where it stands. Only the reference is ever shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
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
    pub fn resolve(&self, base: &std::path::Path) -> Result<String, String> {
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
                let text = std::fs::read_to_string(&file)
                    .map_err(|error| format!("file `{}`: {error}", file.display()))?;
                Ok(text.strip_suffix('\n').unwrap_or(&text).trim_end_matches('\r').to_owned())
            }
        }
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

impl From<Setting> for String {
    fn from(setting: Setting) -> Self {
        setting.to_string()
    }
}

/// The settings of one plugin by name.
pub type Settings = BTreeMap<String, Setting>;

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
}
