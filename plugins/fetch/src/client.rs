//! A client for HTTP as small as it goes, on the bindings of WASI: one request, the whole response.

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingResponse, Method, OutgoingBody, OutgoingRequest, Scheme,
};
use wasip2::io::streams::StreamError;

/// A response.
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) location: Option<String>,
    pub(crate) content: Vec<u8>,
}

/// A request that has no body yet. Headers that no request may have are an error here already.
pub(crate) fn request(
    method: Method,
    url: &str,
    headers: &[(String, String)],
) -> Result<OutgoingRequest, String> {
    let (scheme, rest) = url.split_once("://").ok_or("there is no scheme")?;
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let fields = Fields::new();
    for (name, value) in headers {
        let added = fields.append(name, value.as_bytes());
        added.map_err(|error| format!("header {name}: {error:?}"))?;
    }
    let request = OutgoingRequest::new(fields);
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    let no = |what: &str| format!("{what} of {url} cannot be set");
    request.set_method(&method).map_err(|()| no("the method"))?;
    request
        .set_scheme(Some(&scheme))
        .map_err(|()| no("the scheme"))?;
    request
        .set_authority(Some(authority))
        .map_err(|()| no("the host"))?;
    request
        .set_path_with_query(Some(path))
        .map_err(|()| no("the path"))?;
    Ok(request)
}

/// Sends it with its body and waits for all of the response.
pub(crate) fn send(request: OutgoingRequest, content: &[u8]) -> Result<Response, String> {
    let body = request.body().map_err(|()| "there is a body already")?;
    let response = handle(request, None).map_err(named)?;
    // One that was refused takes no body; why is what the response says.
    let written = write(body, content);
    response.subscribe().block();
    let response = response.get().ok_or("it is not there")?;
    let response = response
        .map_err(|()| "it was taken before")?
        .map_err(named)?;
    written?;
    read(&response)
}

fn write(body: OutgoingBody, content: &[u8]) -> Result<(), String> {
    let stream = body.write().map_err(|()| "the body was taken before")?;
    for part in content.chunks(4096) {
        stream.blocking_write_and_flush(part).map_err(broken)?;
    }
    drop(stream);
    OutgoingBody::finish(body, None).map_err(named)
}

fn read(response: &IncomingResponse) -> Result<Response, String> {
    let headers = response.headers();
    let location = headers.get("location").into_iter().next();
    let body = response
        .consume()
        .map_err(|()| "the body was taken before")?;
    let stream = body.stream().map_err(|()| "the body was taken before")?;
    let mut content = Vec::new();
    loop {
        match stream.blocking_read(64 * 1024) {
            Ok(part) => content.extend(part),
            Err(StreamError::Closed) => break,
            Err(error) => return Err(broken(error)),
        }
    }
    Ok(Response {
        status: response.status(),
        location: location.map(|value| String::from_utf8_lossy(&value).into_owned()),
        content,
    })
}

/// The name that the error has in the interface.
pub(crate) fn named(code: ErrorCode) -> String {
    format!("{code:?}")
}

fn broken(error: StreamError) -> String {
    match error {
        StreamError::Closed => "it was closed".to_owned(),
        StreamError::LastOperationFailed(error) => {
            match wasip2::http::types::http_error_code(&error) {
                Some(code) => named(code),
                None => error.to_debug_string(),
            }
        }
    }
}
