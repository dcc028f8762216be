//! What came of a request that a handler sent over HTTP.
//!
//! Pure data, as the journal keeps it.

use serde::{Deserialize, Serialize};

use super::Blob;

/// What came of a request over HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fetched {
    /// A response.
    Response {
        /// Its status code.
        status: u16,
        /// Its headers.
        headers: Vec<(String, String)>,
        /// Its body, as far as it was read and kept.
        content: Blob,
        /// How the body ended.
        end: BodyEnd,
    },
    /// None, and why.
    Failed(FetchFailure),
    /// None before the call ended.
    Pending,
}

/// How the body of a response ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BodyEnd {
    /// All of it is there.
    Whole,
    /// The handler read no more of it.
    Unread,
    /// The handler read more than the journal has room for.
    Missing,
    /// It broke off.
    Failed(FetchFailure),
}

/// Why a request got no response, or not all of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text}")]
pub struct FetchFailure {
    /// What kind of failure.
    pub kind: FetchFailureKind,
    /// In words.
    pub text: String,
}

/// What kind of failure; each is an error of its own for the handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FetchFailureKind {
    /// The name leads to where it may not send to.
    Prohibited,
    /// The name is not known.
    Name,
    /// Nobody answers there.
    Unreachable,
    /// There was no connection in time.
    ConnectTimeout,
    /// There was no response in the time that the handler gave it.
    Timeout,
    /// The call ended before.
    Ended,
    /// The certificate is not trusted.
    Certificate,
    /// No TLS is spoken there.
    Tls,
    /// The server does not speak HTTP/1.1, or broke off.
    Protocol,
    /// The request has more than a limit allows.
    RequestTooLarge,
    /// The response has more than a limit allows.
    ResponseTooLarge,
    /// The headers of the response have more than a limit allows.
    HeadersTooLarge,
    /// It was not sent, because nothing is sent by a call of this kind.
    NotSent,
}

impl FetchFailure {
    /// A failure of this kind.
    #[must_use]
    pub fn new(kind: FetchFailureKind, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { kind, text }
    }
}

impl Fetched {
    /// About how many bytes it takes.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Response {
                headers, content, ..
            } => {
                let headers = headers.iter().map(|(name, value)| name.len() + value.len());
                content.0.len() + headers.sum::<usize>()
            }
            Self::Failed(failure) => failure.text.len(),
            Self::Pending => 0,
        }
    }
}
