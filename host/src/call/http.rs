//! What a call sends over HTTP: whether it may, how much of it, and what is remembered of it.
//!
//! Unlike everything else that a call does this is visible at once and cannot be taken back. A call that is run again, or that
//! is only compared, sends nothing.

use std::sync::Arc;

use tokio::time::Instant;

use super::Call;
use super::record::Did;
use crate::http::{Exchange, Fetch, Network, Target, Times, Traffic, Via};
use crate::plugin::{Grant, Limit, Secrets};
use crate::store::{Blob, FetchFailure, Fetched, Step, Used};

/// What a call has sent so far.
#[derive(Debug)]
pub(super) struct Sending {
    requests: usize,
    traffic: Arc<Traffic>,
}

/// Why a request is not sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unsent {
    /// It is not granted.
    Forbidden,
    /// The call has sent as many as it may.
    TooMany,
    /// It has too many headers.
    Headers,
}

/// Headers that prove who asks; nobody needs to see them afterwards.
const HIDDEN: [&str; 4] = [
    "authorization",
    "cookie",
    "proxy-authorization",
    "x-api-key",
];

impl Call {
    /// Begins a request, if it is granted and within the limits. The call is over at `deadline`.
    pub(crate) fn fetch(
        &mut self,
        method: &str,
        target: Target,
        headers: Vec<(String, String)>,
        deadline: Option<Instant>,
    ) -> Result<Fetch, Unsent> {
        let access = self.access.clone();
        let Some(private) = access.grants.may_fetch(&target) else {
            self.forbid_http(&target);
            return Err(Unsent::Forbidden);
        };
        let limits = &access.limits;
        let plugin = &access.plugin;
        let size = headers.iter().map(|(name, value)| name.len() + value.len());
        if headers.len() > limits.headers || size.sum::<usize>() > limits.header_bytes {
            let text = format!(
                "a request may have {} headers of {} bytes; raise `limits.headers` or `limits.header_bytes` of plugin `{plugin}`",
                limits.headers, limits.header_bytes
            );
            let many = headers.len() > limits.headers;
            let limit = if many {
                Limit::Headers
            } else {
                Limit::HeaderBytes
            };
            self.limited(limit, text);
            return Err(Unsent::Headers);
        }
        let sending = self.http.get_or_insert_with(|| {
            Box::new(Sending {
                requests: 0,
                traffic: Arc::new(Traffic::new(limits.http_bytes, deadline)),
            })
        });
        if sending.requests >= limits.http_requests {
            let text = format!(
                "one call may send {} requests over HTTP; raise `limits.http_requests` of plugin `{plugin}`",
                limits.http_requests
            );
            self.limited(Limit::HttpRequests, text);
            return Err(Unsent::TooMany);
        }
        sending.requests += 1;
        let url = target.to_string();
        let exchange = Arc::new(Exchange::new(method, url, headers, sending.traffic.clone()));
        self.doing().did.push(Did::Fetched(exchange.clone()));
        let via = match (&self.replay, &access.http) {
            (Some(replay), _) => Via::Again(replay.fetched.clone(), access.grants.secrets.clone()),
            (None, Some(connector)) => Via::Network(Box::new(Network {
                connector: connector.clone(),
                private,
                headers: limits.headers,
                header_bytes: limits.header_bytes,
                plugin: plugin.clone(),
                message: self.message.identifier,
            })),
            (None, None) => Via::Nobody,
        };
        Ok(Fetch {
            exchange,
            target,
            via,
            times: Times {
                connect: limits.http_connect_time,
                ..Times::default()
            },
        })
    }

    fn forbid_http(&mut self, target: &Target) {
        let secrets = &self.access.grants.secrets;
        let (to, line) = (target.authority(), target.suggestion());
        // A guest may have put anything into it.
        let (to, line) = (secrets.redact(&to), secrets.redact(&line));
        let plugin = &self.access.plugin;
        let text = format!(
            "plugin `{plugin}` may not send to `{to}`; add `http = [\"{line}\"]` under [plugins.{plugin}]"
        );
        tracing::warn!(plugin = %plugin, message_id = %self.message.identifier, "refused: {text}");
        drop(self.refuse(Grant::Http, text));
    }

    /// The guest learns it as an error of HTTP, which cannot say what to change.
    fn limited(&mut self, limit: Limit, text: String) {
        if self.first_excess().is_none() {
            let plugin = &self.access.plugin;
            tracing::warn!(plugin = %plugin, message_id = %self.message.identifier, "refused: {text}");
        }
        drop(self.exceeded(limit, text));
    }

    /// Breaks off what it still sends: it has ended. Returns whether it was sending and its time is over.
    pub(crate) fn end_http(&mut self) -> bool {
        let Some(sending) = &self.http else {
            return false;
        };
        sending.traffic.end();
        let late = sending.traffic.is_late();
        let exceeded = sending.traffic.exceeded();
        let exchanges = || {
            self.done().did.iter().filter_map(|did| match did {
                Did::Fetched(exchange) => Some(exchange),
                _ => None,
            })
        };
        let slow = exchanges().any(|exchange| exchange.took_long_to_connect());
        let refused: Vec<String> = exchanges().filter_map(|it| it.refusal()).collect();
        for text in refused {
            drop(self.refuse(Grant::Http, text));
        }
        if exceeded {
            let text = format!(
                "one call may send and receive {} bytes over HTTP; raise `limits.http_bytes` of plugin `{}`",
                self.access.limits.http_bytes, self.access.plugin
            );
            self.limited(Limit::HttpBytes, text);
        }
        if slow {
            let text = format!(
                "a connection over HTTP may take {:?}; raise `limits.http_connect_time` of plugin `{}`",
                self.access.limits.http_connect_time, self.access.plugin
            );
            self.limited(Limit::HttpConnectTime, text);
        }
        late
    }

    pub(super) fn http_used(&self) -> Vec<Used> {
        let Some(sending) = &self.http else {
            return Vec::new();
        };
        let limits = &self.access.limits;
        let used = [
            ("http_requests", sending.requests, limits.http_requests),
            ("http_bytes", sending.traffic.used(), limits.http_bytes),
        ];
        let used = used.map(|(limit, used, of)| Used::new(limit, used as u64, of as u64));
        used.to_vec()
    }
}

/// As the journal keeps it.
pub(super) fn step(exchange: &Exchange, secrets: &Secrets) -> Step {
    let noted = exchange.noted();
    let shown = |bytes: Vec<u8>| {
        let mut bytes = bytes;
        secrets.redact_bytes(&mut bytes);
        Blob(bytes)
    };
    let text = |text: &str| secrets.redact(text).into_owned();
    let pairs = |headers: &[(String, String)]| {
        let pairs = headers
            .iter()
            .map(|(name, value)| (name.clone(), text(value)));
        pairs.collect::<Vec<_>>()
    };
    let mut headers = pairs(&exchange.headers);
    for (name, value) in &mut headers {
        if HIDDEN.contains(&name.as_str()) {
            "[hidden]".clone_into(value);
        }
    }
    Step::Fetched {
        method: exchange.method.clone(),
        url: text(&exchange.url),
        headers,
        content: shown(noted.sent),
        cut: noted.cut,
        answer: match noted.answer {
            Fetched::Response {
                status,
                headers,
                content,
                end,
            } => Fetched::Response {
                status,
                headers: pairs(&headers),
                content: shown(content.0),
                end,
            },
            Fetched::Failed(FetchFailure { kind, text: why }) => {
                Fetched::Failed(FetchFailure::new(kind, text(&why)))
            }
            Fetched::Pending => Fetched::Pending,
        },
    }
}
