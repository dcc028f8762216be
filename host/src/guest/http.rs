//! `wasi:http/outgoing-handler@0.2`: how a guest says what it wants to send.
//!
//! Bodies, headers and waiting are wasmtime's; whether something may be sent, and everything on the way to the network, is
//! the host's own. This file only translates.

use http::Request;
use http_body_util::BodyExt as _;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::WasiView as _;
use wasmtime_wasi_http::p2::bindings::http::{outgoing_handler, types};
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{
    Error, RequestOptions, WasiBody, WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks,
    WasiHttpView,
};

use super::State;
use crate::call::Unsent;
use crate::http::{Fetch, Target, headers, send};
use crate::store::{FetchFailure, FetchFailureKind};

/// What of this belongs to one instance.
#[derive(Debug, Default)]
pub(super) struct Http {
    context: WasiHttpCtx,
    hooks: Hooks,
}

/// Has what may be sent on its way through the crate.
#[derive(Debug, Default)]
struct Hooks {
    next: Option<Fetch>,
}

/// The interface through which requests are sent; guests of other 0.2 find it as well.
const HANDLER: &str = "wasi:http/outgoing-handler@0.2.12";

/// A request, and how long it may take.
type Wanted = (
    Resource<HostOutgoingRequest>,
    Option<Resource<RequestOptions>>,
);

/// A response with what still has to be done for it.
type Responding = (
    http::Response<WasiBody>,
    Box<dyn Future<Output = Result<(), Error>> + Send>,
);

/// Gives the linker what a guest may import of it; whether a plugin may is decided before it is loaded.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut handler = linker.instance(HANDLER)?;
    handler.func_wrap("handle", |mut store, (request, options): Wanted| {
        Ok((store.data_mut().handle(request, options)?,))
    })?;
    let options = types::LinkOptions::default();
    types::add_to_linker::<_, WasiHttp>(linker, &options, State::http)
}

impl WasiHttpView for State {
    fn http(&mut self) -> WasiHttpCtxView<'_> {
        let Http { context, hooks } = &mut self.http;
        let wasi = self
            .wasi
            .get_or_insert_with(|| Box::new(super::wasi::Wasi::new(&self.chance, &self.limits)));
        WasiHttpCtxView {
            hooks,
            table: wasi.table(),
            ctx: context,
        }
    }
}

impl State {
    /// An error of its own ends the guest.
    fn handle(
        &mut self,
        request: Resource<HostOutgoingRequest>,
        options: Option<Resource<RequestOptions>>,
    ) -> wasmtime::Result<Result<Resource<HostFutureIncomingResponse>, types::ErrorCode>> {
        let table = self.ctx().table;
        let options = options.map(|options| table.delete(options)).transpose()?;
        match self.permitted(&request, options.unwrap_or_default()) {
            Ok(fetch) => self.http.hooks.next = Some(fetch),
            Err(code) => {
                self.ctx().table.delete(request)?;
                return Ok(Err(code));
            }
        }
        match outgoing_handler::Host::handle(&mut self.http(), request, None) {
            Ok(response) => Ok(Ok(response)),
            Err(error) => error.downcast().map(Err),
        }
    }

    /// What may be sent of what is wanted.
    fn permitted(
        &mut self,
        request: &Resource<HostOutgoingRequest>,
        options: RequestOptions,
    ) -> Result<Fetch, types::ErrorCode> {
        let deadline = self.deadline;
        let trap = |error: wasmtime::component::ResourceTableError| {
            types::ErrorCode::InternalError(Some(error.to_string()))
        };
        let wanted = self.ctx().table.get(request).map_err(trap)?;
        let scheme = match &wanted.scheme {
            Some(types::Scheme::Http) => "http",
            Some(types::Scheme::Https) | None => "https",
            Some(types::Scheme::Other(other)) => other,
        };
        let authority = wanted.authority.as_deref().unwrap_or_default();
        let path = wanted.path_with_query.as_deref().unwrap_or_default();
        let target = Target::parse(scheme, authority, path);
        let method: Result<http::Method, _> = wanted.method.clone().try_into();
        let method = method.map_err(|_| types::ErrorCode::HttpRequestMethodInvalid)?;
        // It would make a tunnel of the connection.
        if method == http::Method::CONNECT {
            return Err(types::ErrorCode::HttpRequestMethodInvalid);
        }
        let headers = headers(&wanted.headers);
        let Some(call) = &mut self.call else {
            // While it is loaded, it may only declare.
            return Err(types::ErrorCode::HttpRequestDenied);
        };
        let target = target.map_err(|why| {
            let (plugin, message_id) = (&*self.plugin, call.message.identifier);
            let why = self.config.secrets.redact(&why);
            tracing::warn!(plugin, %message_id, "refused: a request over HTTP is malformed: {why}");
            types::ErrorCode::HttpRequestUriInvalid
        })?;
        let fetch = call.fetch(method.as_str(), target, headers, deadline);
        let mut fetch = fetch.map_err(|unsent| match unsent {
            Unsent::Forbidden => types::ErrorCode::HttpRequestDenied,
            Unsent::TooMany => types::ErrorCode::ConnectionLimitReached,
            Unsent::Headers => types::ErrorCode::HttpRequestHeaderSectionSize(None),
        })?;
        let times = &mut fetch.times;
        if let Some(wanted) = options.connect_timeout {
            times.connect = times.connect.min(wanted);
        }
        times.first_byte = options.first_byte_timeout;
        times.between_bytes = options.between_bytes_timeout;
        Ok(fetch)
    }
}

impl WasiHttpHooks for Hooks {
    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        _: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Responding, Error>> + Send> {
        let next = self.next.take();
        Box::new(async move {
            let fetch = next.ok_or(Error::HttpRequestDenied)?;
            let response = send(fetch, request).await.map_err(code)?;
            let response = response.map(|body| body.map_err(code).boxed_unsync());
            let nothing: Box<dyn Future<Output = _> + Send> = Box::new(async { Ok(()) });
            Ok((response, nothing))
        })
    }
}

/// What the guest learns of a failure.
fn code(failure: FetchFailure) -> Error {
    match failure.kind {
        FetchFailureKind::Prohibited => Error::DestinationIpProhibited,
        FetchFailureKind::Name => Error::DnsError {
            rcode: Some(failure.text),
            info_code: None,
        },
        FetchFailureKind::Unreachable => Error::ConnectionRefused,
        FetchFailureKind::ConnectTimeout => Error::ConnectionTimeout,
        FetchFailureKind::Timeout | FetchFailureKind::Ended => Error::ConnectionReadTimeout,
        FetchFailureKind::Certificate => Error::TlsCertificateError,
        FetchFailureKind::Tls => Error::TlsProtocolError,
        FetchFailureKind::Protocol => Error::HttpProtocolError,
        FetchFailureKind::RequestTooLarge => Error::HttpRequestBodySize(None),
        FetchFailureKind::ResponseTooLarge => Error::HttpResponseBodySize(None),
        FetchFailureKind::HeadersTooLarge => Error::HttpResponseHeaderSectionSize(None),
        FetchFailureKind::NotSent => Error::InternalError(Some(failure.text)),
    }
}
