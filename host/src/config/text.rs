//! Texts of the configuration that follow a rule: names, patterns of topics, digests, log filters.
//!
//! Only one value at a time, and only its form. Values that others write as well are in [`crate::value`].

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use crate::backend::{BackendError, QueueName};
use crate::http::{HttpPattern, HttpPatternError};
use crate::plugin::TrustedKey;
use crate::topic::{Pattern, TopicError};
use crate::value::{Setting, written_as_text};

/// The name of a plugin or a group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name(pub(super) String);

/// A topic or a pattern of topics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Topic(pub(super) Pattern);

/// A pattern of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address(pub(super) HttpPattern);

/// The digest of a component.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Digest(pub(super) String);

/// A public key whose signatures count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key(pub(super) TrustedKey);

/// The name of a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Queue(pub(super) QueueName);

/// Where a secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference(pub(super) Setting);

/// What is logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Filter(pub(super) String);

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Listen(pub(super) SocketAddr);

/// The name of a machine, without a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HostName(pub(super) String);

/// An address with a port; `localhost` is the machine itself.
///
/// # Errors
/// What to write instead.
pub fn address(text: &str) -> Result<SocketAddr, String> {
    let numbers = match text.strip_prefix("localhost:") {
        Some(port) => format!("127.0.0.1:{port}"),
        None => text.to_owned(),
    };
    numbers.parse().map_err(|_| {
        format!("{text:?} is not an address with a port; write it like \"127.0.0.1:9464\"")
    })
}

/// Whether this can be the name of a plugin or a group, which is part of the names of queues.
///
/// # Errors
/// Why it cannot.
pub fn check_name(name: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if name.is_empty() || name.len() > 100 || !name.chars().all(legal) {
        return Err(format!(
            "{name:?} cannot be the name of a plugin or a group; use 1 to 100 letters, digits, `-` and `_`"
        ));
    }
    Ok(())
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        check_name(text)?;
        Ok(Self(text.to_owned()))
    }
}

impl FromStr for Topic {
    type Err = TopicError;

    fn from_str(text: &str) -> Result<Self, TopicError> {
        text.parse().map(Self)
    }
}

impl FromStr for Address {
    type Err = HttpPatternError;

    fn from_str(text: &str) -> Result<Self, HttpPatternError> {
        text.parse().map(Self)
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        address(text).map(Self)
    }
}

impl FromStr for HostName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if text.is_empty() || text.len() > 253 || !text.chars().all(legal) {
            return Err(format!(
                "{text:?} is not the name of a machine; write it without a port, like \"sandbar.internal\""
            ));
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hexadecimal = text.strip_prefix("sha256:").is_some_and(|hex| {
            hex.len() == 64 && hex.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
        });
        if hexadecimal {
            Ok(Self(text.to_owned()))
        } else {
            Err(
                "a digest is `sha256:` and 64 hexadecimal digits in lower case; `sandbar inspect FILE` prints it"
                    .to_owned(),
            )
        }
    }
}

impl FromStr for Queue {
    type Err = BackendError;

    fn from_str(text: &str) -> Result<Self, BackendError> {
        text.parse().map(Self)
    }
}

impl FromStr for Reference {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match Setting::new(text) {
            // Not with the text, which may be the secret.
            Setting::Plain(_) => Err(
                "a secret does not stand in the file; write `env:NAME` or `file:PATH`, where it is"
                    .to_owned(),
            ),
            reference => Ok(Self(reference)),
        }
    }
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        crate::telemetry::check_filter(text)?;
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Key {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

written_as_text!(Reference, Text, "where a secret is, `env:NAME` or `file:PATH`", {
    "type": "string",
    "pattern": "^(env|file):.+",
    "description": "Where the secret is: `env:NAME` is a variable, `file:PATH` a file.",
    "examples": ["env:NAME", "file:PATH"],
    "x-type": "reference",
});

written_as_text!(Name, Text, "a name of letters, digits, `-` and `_`", {
    "type": "string",
    "pattern": "^[A-Za-z0-9_-]{1,100}$",
    "x-type": "name",
});

written_as_text!(Listen, Text, "an address with a port such as \"127.0.0.1:9464\"", {
    "type": "string",
    "pattern": r"^.+:\d+$",
    "examples": ["127.0.0.1:9464", "[::1]:9464"],
    "x-type": "address",
});

written_as_text!(HostName, Text, "the name of a machine such as \"sandbar.internal\"", {
    "type": "string",
    "maxLength": 253,
    "pattern": "^[A-Za-z0-9._-]+$",
    "examples": ["sandbar.internal"],
    "x-type": "host name",
});

written_as_text!(Topic, Text, "a topic or a pattern such as \"order.*\"", {
    "type": "string",
    "maxLength": 255,
    "pattern": r"^[^.\s]+(\.[^.\s]+)*$",
    "examples": ["order.created", "order.*", "order.>"],
    "x-type": "topic pattern",
});

written_as_text!(Address, Text, "an address such as \"https://api.example.com/*\"", {
    "type": "string",
    "pattern": r"^(private\+)?https?://[^\s/?#@]+/[^\s?#]*$",
    "examples": ["https://api.example.com/v1/*", "https://*.example.com/*", "private+http://billing.internal:8080/*"],
    "x-type": "address pattern",
});

written_as_text!(Digest, Text, "a digest such as \"sha256:…\"", {
    "type": "string",
    "pattern": "^sha256:[0-9a-f]{64}$",
    "x-type": "digest",
});

written_as_text!(Key, Text, "a public key such as \"RW…\"", {
    "type": "string",
    "pattern": "^[A-Za-z0-9+/=]{56}$",
    "examples": ["RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"],
    "x-type": "key",
});

written_as_text!(Queue, Text, "the name of a queue", {
    "type": "string",
    "maxLength": 255,
    "pattern": r"^\S+$",
    "examples": ["orders.dead"],
    "x-type": "queue",
});

written_as_text!(Filter, Text, "a log level or filter", {
    "type": "string",
    "examples": ["info", "warn,sandbar=debug"],
    "x-type": "text",
});
