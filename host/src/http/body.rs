//! Bodies of requests and responses on their way: counted, noted, and ended with the call.
//!
//! Nothing is gathered here: what a handler does not read is not fetched.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::task::AbortOnDropHandle;

use super::exchange::Exchange;
use super::send::{Over, too_late};
use crate::store::{FetchFailure, FetchFailureKind};

/// The body of a request.
pub(super) struct Sent<B> {
    body: B,
    exchange: Arc<Exchange>,
}

impl<B> Sent<B> {
    pub(super) fn new(body: B, exchange: Arc<Exchange>) -> Self {
        Self { body, exchange }
    }
}

impl<B> Body for Sent<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(Into::into)?;
            if let Some(bytes) = frame.data_ref() {
                self.exchange.sent(bytes)?;
            }
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The body of a response.
pub(crate) struct Received {
    source: Source,
    over: Over,
}

enum Source {
    Network(Box<Network>),
    Recorded {
        content: Bytes,
        end: Result<(), FetchFailure>,
    },
    Ended,
}

struct Network {
    body: Incoming,
    exchange: Arc<Exchange>,
    between: Option<(Duration, Pin<Box<Sleep>>)>,
    _driver: AbortOnDropHandle<()>,
}

impl Received {
    pub(super) fn from_network(
        body: Incoming,
        exchange: Arc<Exchange>,
        between: Option<Duration>,
        driver: AbortOnDropHandle<()>,
    ) -> Self {
        let over = exchange.traffic.over();
        let between = between.map(|most| (most, Box::pin(sleep(most))));
        Self {
            source: Source::Network(Box::new(Network {
                body,
                exchange,
                between,
                _driver: driver,
            })),
            over,
        }
    }

    pub(super) fn recorded(content: Bytes, end: Result<(), FetchFailure>, over: Over) -> Self {
        Self {
            source: Source::Recorded { content, end },
            over,
        }
    }
}

impl Network {
    fn poll(
        &mut self,
        over: &mut Over,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, FetchFailure>>> {
        if over.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(too_late())));
        }
        let frame = match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                if let Some((most, sleep)) = &mut self.between {
                    ready!(sleep.as_mut().poll(context));
                    let text = format!("nothing more of the response came within {most:?}");
                    let failure = FetchFailure::new(FetchFailureKind::Timeout, text);
                    return Poll::Ready(Some(Err(failure)));
                }
                return Poll::Pending;
            }
        };
        if let Some((most, sleep)) = &mut self.between {
            sleep.as_mut().reset(Instant::now() + *most);
        }
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(|error| {
                let text = format!("the response broke off: {error}");
                FetchFailure::new(FetchFailureKind::Protocol, text)
            })?;
            if let Some(bytes) = frame.data_ref() {
                self.exchange.received(bytes)?;
            }
            Ok(frame)
        }))
    }
}

impl Body for Received {
    type Data = Bytes;
    type Error = FetchFailure;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, FetchFailure>>> {
        let Self { source, over } = self.get_mut();
        match source {
            Source::Network(network) => {
                let frame = ready!(network.poll(over, context));
                match &frame {
                    Some(Ok(_)) => return Poll::Ready(frame),
                    Some(Err(failure)) => network.exchange.failed(failure),
                    None => network.exchange.ended(),
                }
                // The connection goes with it.
                *source = Source::Ended;
                Poll::Ready(frame)
            }
            Source::Recorded { content, end } => {
                if !content.is_empty() {
                    let content = std::mem::take(content);
                    return Poll::Ready(Some(Ok(Frame::data(content))));
                }
                // It was waited for until the call ended, as it is now.
                let ended = |failure: &FetchFailure| failure.kind == FetchFailureKind::Ended;
                if end.as_ref().is_err_and(ended) {
                    ready!(over.as_mut().poll(context));
                }
                let end = std::mem::replace(end, Ok(()));
                *source = Source::Ended;
                Poll::Ready(end.err().map(Err))
            }
            Source::Ended => Poll::Ready(None),
        }
    }
}
