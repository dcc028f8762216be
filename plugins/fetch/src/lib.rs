//! Sends requests over HTTP as its messages say, well and badly: used by the host's tests, and by docs/http.md as an example.

use std::cell::RefCell;

use sandbar_guest::{Context, Error, Json, Result, command, event};
use serde::{Deserialize, Serialize};
use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{FutureIncomingResponse, Method};

mod client;

thread_local! {
    /// What a message left behind that did not wait for it.
    static LEFT: RefCell<Vec<FutureIncomingResponse>> = const { RefCell::new(Vec::new()) };
}

/// What to send.
#[derive(Debug, Deserialize)]
struct Wanted {
    url: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    body: String,
}

/// What came of it.
#[derive(Debug, Serialize)]
struct Got {
    status: u16,
    location: Option<String>,
    bytes: usize,
    body: String,
}

/// Gets the URL in the content.
#[command("fetch.get")]
fn get(url: String) -> Result<Json<Got>> {
    let request = client::request(Method::Get, &url, &[]).map_err(Error::failed)?;
    let got = client::send(request, b"").map_err(Error::failed)?;
    Ok(Json(shown(got)))
}

/// Posts what the content says. The server can tell by the key when a message is handled again.
#[command("fetch.post")]
fn post(Json(wanted): Json<Wanted>, ctx: &Context) -> Result<Json<Got>> {
    let mut headers = wanted.headers;
    headers.push(("idempotency-key".to_owned(), ctx.id().to_owned()));
    let request = client::request(Method::Post, &wanted.url, &headers).map_err(Error::failed)?;
    let got = client::send(request, wanted.body.as_bytes()).map_err(Error::failed)?;
    match got.status {
        500.. => Err(Error::failed(format!("got {}", got.status))),
        _ => Ok(Json(shown(got))),
    }
}

/// Gets the URL in the content, publishes what it got, and fails if that is no success.
#[event("fetch.told")]
fn told(mut url: String, ctx: &Context) -> Result<()> {
    url.push_str("?by=first");
    let key = ("idempotency-key".to_owned(), ctx.id().to_owned());
    let request = client::request(Method::Get, &url, &[key]).map_err(Error::failed)?;
    let got = client::send(request, b"").map_err(Error::failed)?;
    let text = format!("version one {}", String::from_utf8_lossy(&got.content));
    ctx.state().increment("told", 1)?;
    ctx.publish("out.told", text)?;
    match got.status {
        200 => Ok(()),
        status => Err(Error::failed(format!("got {status}"))),
    }
}

/// Posts as many bytes as the content says first to the URL that it says then.
#[command("fetch.upload")]
fn upload(content: String) -> Result<Json<Got>> {
    let (bytes, url) = content.split_once(' ').unwrap_or((&content, ""));
    let request = client::request(Method::Post, url, &[]).map_err(Error::failed)?;
    let body = vec![b'x'; bytes.parse::<usize>()?];
    let got = client::send(request, &body).map_err(Error::failed)?;
    Ok(Json(shown(got)))
}

/// Replies with the body of what is at the URL in the content, unless that is large.
#[command("fetch.echo")]
fn echo(url: String) -> Result<Vec<u8>> {
    let request = client::request(Method::Get, &url, &[]).map_err(Error::failed)?;
    let got = client::send(request, b"").map_err(Error::failed)?;
    match got.content.len() {
        50_000.. => Err(Error::failed("that is too much")),
        _ => Ok(got.content),
    }
}

/// Begins as many requests as the content says first for the URL that it says then, and waits for none of them.
#[command("fetch.many")]
fn many(content: String) -> Result<String> {
    let (count, url) = content.split_once(' ').unwrap_or((&content, ""));
    let mut begun = Vec::new();
    for number in 0..count.parse::<u32>()? {
        let request = client::request(Method::Get, url, &[]).map_err(Error::failed)?;
        let response = handle(request, None).map_err(client::named);
        let number = number + 1;
        begun.push(response.map_err(|error| Error::failed(format!("request {number}: {error}")))?);
    }
    Ok(begun.len().to_string())
}

/// Begins a request for the URL in the content and leaves it to whoever comes next.
#[command("fetch.leave")]
fn leave(url: String) -> Result<()> {
    let request = client::request(Method::Get, &url, &[]).map_err(Error::failed)?;
    let response = handle(request, None).map_err(client::named);
    let response = response.map_err(Error::failed)?;
    LEFT.with_borrow_mut(|left| left.push(response));
    Ok(())
}

/// Waits for what was left behind, and says what came of it.
#[command("fetch.left")]
fn left() -> String {
    let Some(response) = LEFT.with_borrow_mut(Vec::pop) else {
        return "nothing was left".to_owned();
    };
    response.subscribe().block();
    match response.get() {
        Some(Ok(Ok(response))) => response.status().to_string(),
        Some(Ok(Err(code))) => client::named(code),
        _ => "it is not there".to_owned(),
    }
}

sandbar_guest::plugin!(with wasi: get, post, told, upload, echo, many, leave, left);

fn shown(got: client::Response) -> Got {
    const MOST: usize = 200;
    let text = String::from_utf8_lossy(&got.content);
    Got {
        status: got.status,
        location: got.location,
        bytes: got.content.len(),
        body: text.chars().take(MOST).collect(),
    }
}
