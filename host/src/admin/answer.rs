//! An answer over HTTP: JSON or numbers, and what is refused with why and what to do.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{
    CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, HeaderValue, WWW_AUTHENTICATE,
    X_CONTENT_TYPE_OPTIONS,
};
use hyper::{Response, StatusCode};
use serde::Serialize;

/// What is answered.
#[derive(Debug)]
pub(super) struct Answer(Response<Full<Bytes>>);

/// What numbers are written as.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

impl Answer {
    pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Self {
        // Text can be made of every value that is answered.
        let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
        text.push('\n');
        Self::of(status, "application/json", text)
    }

    pub(super) fn metrics(text: String) -> Self {
        Self::of(StatusCode::OK, OPEN_METRICS, text)
    }

    /// What is not answered, why, and what to do.
    pub(super) fn refused(status: StatusCode, error: String, remedy: &str) -> Self {
        let text = serde_json::json!({ "error": error, "remedy": remedy });
        Self::json(status, &text)
    }

    /// The same for who has to say who it is.
    pub(super) fn unknown(error: &str, remedy: &str) -> Self {
        let answer = Self::refused(StatusCode::UNAUTHORIZED, error.to_owned(), remedy);
        answer.with(WWW_AUTHENTICATE, "Bearer")
    }

    /// The last one on its connection.
    pub(super) fn last(self) -> Self {
        self.with(CONNECTION, "close")
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        self.0
    }

    fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.0
            .headers_mut()
            .insert(name, HeaderValue::from_static(value));
        self
    }

    fn of(status: StatusCode, kind: &'static str, text: String) -> Self {
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        let answer = Self(response).with(CONTENT_TYPE, kind);
        // It is as it was at one moment, and no page of a browser may take it for something else.
        answer
            .with(CACHE_CONTROL, "no-store")
            .with(X_CONTENT_TYPE_OPTIONS, "nosniff")
    }
}
