//! One request on its way: sent over a connection of its own, or answered as it was before.
//!
//! Everything that can wait ends with the call. Redirects are answers like any other: nobody follows them but the handler,
//! which needs a grant for where they lead.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST};
use http::{HeaderMap, HeaderValue, Request, Response, Uri, Version};
use http_body::Body;
use http_body_util::BodyExt as _;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::{sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use super::again::Again;
use super::body::{Received, Sent};
use super::connect::{Connector, Inside};
use super::exchange::{Exchange, Traffic};
use super::target::Target;
use crate::http::address::may_reach;
use crate::plugin::Secrets;
use crate::store::{BodyEnd, FetchFailure, FetchFailureKind, Fetched};

/// A request that may be sent, without its body.
#[derive(Debug)]
pub(crate) struct Fetch {
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) target: Target,
    pub(crate) via: Via,
    pub(crate) times: Times,
}

/// Where its answer comes from.
#[derive(Debug)]
pub(crate) enum Via {
    /// From whom it is sent to.
    Network(Box<Network>),
    /// From what is recorded.
    Again(Arc<Again>, Secrets),
    /// From nowhere.
    Nobody,
}

/// How it is sent.
#[derive(Debug)]
pub(crate) struct Network {
    pub(crate) connector: Arc<Connector>,
    /// Whether a name may lead into private networks.
    pub(crate) private: bool,
    /// Headers of a response.
    pub(crate) headers: usize,
    /// Their names and values together.
    pub(crate) header_bytes: usize,
    pub(crate) plugin: Arc<str>,
    pub(crate) message: Uuid,
}

/// How long a handler waits; the call ends earlier or later.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Times {
    pub(crate) connect: Duration,
    pub(crate) first_byte: Option<Duration>,
    pub(crate) between_bytes: Option<Duration>,
}

/// The call has ended, or its time is over.
pub(super) type Over = Pin<Box<dyn Future<Output = ()> + Send>>;

impl Traffic {
    pub(super) fn over(&self) -> Over {
        let (over, deadline) = (self.over.clone(), self.deadline);
        Box::pin(async move {
            match deadline {
                Some(deadline) => tokio::select! {
                    () = over.cancelled() => {}
                    () = sleep_until(deadline) => {}
                },
                None => over.cancelled().await,
            }
        })
    }
}

pub(super) fn too_late() -> FetchFailure {
    FetchFailure::new(FetchFailureKind::Ended, "the call ended before")
}

/// Sends it, and waits for the head of the response.
pub(crate) async fn send<B>(
    fetch: Fetch,
    request: Request<B>,
) -> Result<Response<Received>, FetchFailure>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let exchange = fetch.exchange.clone();
    let over = exchange.traffic.over();
    let sent = async {
        match &fetch.via {
            Via::Network(network) => over_the_network(&fetch, network, request).await,
            Via::Again(again, secrets) => as_before(&fetch, again, secrets, request).await,
            Via::Nobody => Err(FetchFailure::new(
                FetchFailureKind::NotSent,
                "requests are not sent while a message is tried",
            )),
        }
    };
    let result = tokio::select! {
        result = sent => result,
        () = over => Err(too_late()),
    };
    result.inspect_err(|failure| exchange.failed(failure))
}

async fn over_the_network<B>(
    fetch: &Fetch,
    network: &Network,
    request: Request<B>,
) -> Result<Response<Received>, FetchFailure>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let Fetch {
        exchange,
        target,
        times,
        ..
    } = fetch;
    let connected = network.connector.connect(target, network.private);
    let connected = timeout(times.connect, connected).await.map_err(|_| {
        let text = format!(
            "no connection with {} within {:?}",
            target.authority(),
            times.connect
        );
        FetchFailure::new(FetchFailureKind::ConnectTimeout, text)
    })?;
    let stream = connected?.map_err(|inside| network.refuse(exchange, target, &inside))?;
    let protocol = |error: hyper::Error| failure(&error, network);
    let (mut sender, connection) = http1::Builder::new()
        .max_headers(network.headers.max(1))
        .max_buf_size(network.header_bytes.max(LEAST_BUFFER))
        .handshake(TokioIo::new(stream))
        .await
        .map_err(protocol)?;
    // It ends with the response, whose body needs it.
    let driver = AbortOnDropHandle::new(tokio::spawn(async move {
        // What is wrong is said where the response is waited for.
        drop(connection.await);
    }));
    let (mut parts, body) = request.into_parts();
    put_in_place(&mut parts, target)?;
    let head = parts
        .headers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len());
    let head = head.sum::<usize>() + fetch.exchange.url.len();
    exchange
        .traffic
        .take(head, FetchFailureKind::RequestTooLarge)?;
    let request = Request::from_parts(parts, Sent::new(body, exchange.clone()));
    let answered = sender.send_request(request);
    let answered = match times.first_byte {
        None => answered.await,
        Some(most) => timeout(most, answered).await.map_err(|_| {
            let text = format!("no response of {} within {most:?}", target.authority());
            FetchFailure::new(FetchFailureKind::Timeout, text)
        })?,
    };
    let response = answered.map_err(protocol)?;
    let headers = headers(response.headers());
    let bytes = headers.iter().map(|(name, value)| name.len() + value.len());
    let bytes: usize = bytes.sum();
    if bytes > network.header_bytes {
        return Err(network.too_many_headers());
    }
    exchange
        .traffic
        .take(bytes, FetchFailureKind::ResponseTooLarge)?;
    exchange.responded(response.status().as_u16(), headers);
    let between = times.between_bytes;
    Ok(response.map(|body| Received::from_network(body, exchange.clone(), between, driver)))
}

/// The least that the client can read a head into.
const LEAST_BUFFER: usize = 8192;

/// Says what was checked, whatever the guest said.
fn put_in_place(parts: &mut http::request::Parts, target: &Target) -> Result<(), FetchFailure> {
    let wrong = |error: String| FetchFailure::new(FetchFailureKind::Protocol, error);
    let path = target.path_and_query();
    parts.uri = Uri::builder()
        .path_and_query(path)
        .build()
        .map_err(|error| wrong(error.to_string()))?;
    parts.version = Version::HTTP_11;
    let host = HeaderValue::from_str(&target.authority());
    let host = host.map_err(|error| wrong(error.to_string()))?;
    parts.headers.insert(HOST, host);
    parts
        .headers
        .insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(())
}

/// As the journal has them.
pub(crate) fn headers(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let pairs = headers.iter();
    pairs
        .map(|(name, value)| (name.as_str().to_owned(), text(value)))
        .collect()
}

/// What the client says went wrong.
fn failure(error: &hyper::Error, network: &Network) -> FetchFailure {
    // What stopped the body of the request.
    if let Some(failure) = error
        .source()
        .and_then(|cause| cause.downcast_ref::<FetchFailure>())
    {
        return failure.clone();
    }
    if error.is_parse_too_large() {
        return network.too_many_headers();
    }
    let cause = error.source().map(|cause| format!(": {cause}"));
    let text = format!("{error}{}", cause.unwrap_or_default());
    FetchFailure::new(FetchFailureKind::Protocol, text)
}

impl Network {
    fn too_many_headers(&self) -> FetchFailure {
        let text = format!(
            "a response may have {} headers of {} bytes; raise `limits.headers` or `limits.header_bytes`",
            self.headers, self.header_bytes
        );
        FetchFailure::new(FetchFailureKind::HeadersTooLarge, text)
    }

    /// A name that leads inside is refused like what is not granted.
    fn refuse(&self, exchange: &Exchange, target: &Target, inside: &Inside) -> FetchFailure {
        let (plugin, address) = (&self.plugin, inside.0.ip());
        let line = if may_reach(&target.host, address, true) {
            format!("private+{}", target.suggestion())
        } else {
            Target {
                host: address.into(),
                ..target.clone()
            }
            .suggestion()
        };
        let text = format!(
            "plugin `{plugin}` may not send to `{}`, which is {address} and not public; add `http = [\"{line}\"]` under [plugins.{plugin}]",
            target.authority()
        );
        tracing::warn!(plugin = %plugin, message_id = %self.message, "refused: {text}");
        exchange.refused(text.clone());
        FetchFailure::new(FetchFailureKind::Prohibited, text)
    }
}

/// The answer that such a request got before.
async fn as_before<B>(
    fetch: &Fetch,
    again: &Again,
    secrets: &Secrets,
    request: Request<B>,
) -> Result<Response<Received>, FetchFailure>
where
    B: Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let exchange = &fetch.exchange;
    let sent = Sent::new(request.into_body(), exchange.clone()).collect();
    let sent = sent.await.map_err(|error| {
        let kind = FetchFailureKind::Protocol;
        error
            .downcast::<FetchFailure>()
            .map_or_else(|error| FetchFailure::new(kind, error.to_string()), |it| *it)
    })?;
    let sent = sent.to_bytes();
    let Some(recorded) = again.answer(&exchange.method, &exchange.url, &sent, secrets) else {
        let text = format!(
            "the attempt that is run again sent no such request to `{}`; requests are not sent while it is tried",
            fetch.target.authority()
        );
        return Err(FetchFailure::new(FetchFailureKind::NotSent, text));
    };
    let answer = recorded.answer.clone();
    exchange.again(recorded.content, recorded.cut, recorded.answer);
    let (status, headers, content, end) = match answer {
        Fetched::Response {
            status,
            headers,
            content,
            end,
        } => (status, headers, content, end),
        Fetched::Failed(failure) if failure.kind != FetchFailureKind::Ended => return Err(failure),
        // It was waited for until the call ended, as it is now.
        Fetched::Failed(_) | Fetched::Pending => std::future::pending().await,
    };
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(name, value);
    }
    let end = match end {
        BodyEnd::Whole => Ok(()),
        BodyEnd::Failed(failure) => Err(failure),
        BodyEnd::Unread | BodyEnd::Missing => Err(FetchFailure::new(
            FetchFailureKind::NotSent,
            "the rest of the response is not in the journal",
        )),
    };
    let body = Received::recorded(content.0.into(), end, exchange.traffic.over());
    response
        .body(body)
        .map_err(|error| FetchFailure::new(FetchFailureKind::Protocol, error.to_string()))
}
