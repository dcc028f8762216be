//! `sandbar.toml` as it is written: every key that there is, with its type.
//!
//! A value that is left out stays `None`; defaults and everything that needs more than one value to decide are in
//! [`super`]. Keys that later versions will know are listed too, so that they are refused with a better word than
//! "unknown".

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::de::{Error as _, IgnoredAny};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::{Size, Time};
use crate::backend::BrokerOptions;
use crate::plugin::Isolation;
use crate::topic::Pattern;
use crate::wire::Form;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) data: Option<PathBuf>,
    pub(super) group: Option<Spanned<String>>,
    pub(super) grace: Option<Time>,
    pub(super) plugin_dir: Option<PathBuf>,
    pub(super) log: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) broker: BrokerOptions,
    #[serde(default)]
    pub(super) plugins: BTreeMap<Spanned<String>, PluginSection>,
}

/// `[plugins.NAME]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PluginSection {
    pub(super) file: Option<Spanned<PathBuf>>,
    pub(super) digest: Option<Spanned<String>>,
    pub(super) subscribe: Option<Vec<Parsed<Pattern>>>,
    #[serde(default)]
    pub(super) publish: Vec<Parsed<Pattern>>,
    #[serde(default)]
    pub(super) request: Vec<Parsed<Pattern>>,
    #[serde(default)]
    pub(super) state: bool,
    #[serde(default)]
    pub(super) config: BTreeMap<String, Spanned<Scalar>>,
    pub(super) wire: Option<Wire>,
    #[serde(default)]
    pub(super) limits: LimitsSection,
    #[serde(default)]
    pub(super) retry: RetrySection,
    pub(super) secrets: Option<Spanned<IgnoredAny>>,
    pub(super) http: Option<Spanned<IgnoredAny>>,
    pub(super) isolation: Option<Isolated>,
}

/// `[plugins.NAME.limits]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsSection {
    pub(super) time: Option<Time>,
    pub(super) load_time: Option<Time>,
    pub(super) memory: Option<Size>,
    pub(super) concurrency: Option<Spanned<u32>>,
    pub(super) content: Option<Size>,
    pub(super) headers: Option<u32>,
    pub(super) header_bytes: Option<Size>,
    pub(super) publishes: Option<u32>,
    pub(super) publish_bytes: Option<Size>,
    pub(super) log_lines: Option<u32>,
    pub(super) log_bytes: Option<Size>,
    pub(super) state_value: Option<Size>,
    pub(super) state_writes: Option<u32>,
    pub(super) file: Option<Size>,
}

/// `[plugins.NAME.retry]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RetrySection {
    pub(super) max_attempts: Option<Spanned<u32>>,
    pub(super) initial: Option<Time>,
    pub(super) multiplier: Option<Spanned<f64>>,
    pub(super) max: Option<Time>,
}

/// How messages in the plugin's queue are written.
/// Whether messages share an instance.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Isolated {
    Reuse,
    Message,
}

impl From<Isolated> for Isolation {
    fn from(isolated: Isolated) -> Self {
        match isolated {
            Isolated::Reuse => Self::Reuse,
            Isolated::Message => Self::Message,
        }
    }
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Wire {
    Native,
    Json,
}

impl From<Wire> for Form {
    fn from(wire: Wire) -> Self {
        match wire {
            Wire::Native => Self::Native,
            Wire::Json => Self::Json,
        }
    }
}

/// A value for a plugin. Guests read text; numbers and truth values are written as they stand.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "write text, a number, true or false; a plugin reads text"
)]
pub(super) enum Scalar {
    Text(String),
    Truth(bool),
    Integer(i64),
    Float(f64),
}

impl Scalar {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Truth(value) => value.to_string(),
            Self::Integer(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
        }
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
