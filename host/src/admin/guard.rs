//! Who may ask: requests that only read, for a name that is ours, with the token if there is one.
//!
//! Decides by the request alone, without I/O. A page in somebody's browser could otherwise ask a host that listens on
//! this machine only, by a name of its own that leads here (DNS rebinding).

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use hyper::body::Body;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, ORIGIN};
use hyper::http::uri::Authority;
use hyper::{Method, Request, StatusCode};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::answer::Answer;

/// What everybody who asks has to know; only its digest is kept.
#[derive(Clone)]
pub struct Token([u8; 32]);

impl Token {
    /// A token of at least 16 visible characters.
    ///
    /// # Errors
    /// What is wrong with it, without the text.
    pub fn new(text: impl AsRef<str>) -> Result<Self, String> {
        let text = text.as_ref();
        if text.len() < Self::SHORTEST || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "it must have at least {} characters, without white space; `openssl rand -hex 32` makes one",
                Self::SHORTEST
            ));
        }
        Ok(Self::of(text))
    }

    const SHORTEST: usize = 16;

    fn of(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// Whether it is this one, in a time that says nothing of it.
    fn is(&self, text: &str) -> bool {
        self.0.ct_eq(&Self::of(text).0).into()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The rules.
#[derive(Debug)]
pub(super) struct Guard {
    token: Option<Token>,
    hosts: Vec<String>,
    listen: SocketAddr,
}

/// Names and values of the headers of a request together.
const MOST_HEADER_BYTES: usize = 8 * 1024;

static FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

impl Guard {
    pub(super) fn new(token: Option<Token>, hosts: Vec<String>, listen: SocketAddr) -> Self {
        Self {
            token,
            hosts,
            listen,
        }
    }

    /// Refuses what is not to be answered; `local` is the address that was asked.
    pub(super) fn check<B: Body>(
        &self,
        request: &Request<B>,
        local: SocketAddr,
    ) -> Result<(), Answer> {
        let headers = request.headers();
        let sizes = headers
            .iter()
            .map(|(name, value)| name.as_str().len() + value.len());
        if sizes.sum::<usize>() > MOST_HEADER_BYTES {
            let error = format!("the headers have more than {MOST_HEADER_BYTES} bytes");
            let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
            return Err(Answer::refused(status, error, "send fewer of them").last());
        }
        self.check_host(request, local)?;
        check_page(headers)?;
        self.check_token(headers)?;
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let error = format!("{} is not answered", request.method());
            let status = StatusCode::METHOD_NOT_ALLOWED;
            let remedy = "use GET or HEAD; nothing can be changed here, `sandbar plugins` and `sandbar dead-letters` do that";
            return Err(Answer::refused(status, error, remedy).last());
        }
        if !request.body().is_end_stream() {
            let error = "the request has a body, and nothing here reads one".to_owned();
            let status = StatusCode::PAYLOAD_TOO_LARGE;
            return Err(Answer::refused(status, error, "send none").last());
        }
        Ok(())
    }

    fn check_host<B>(&self, request: &Request<B>, local: SocketAddr) -> Result<(), Answer> {
        let mut named = request.headers().get_all(HOST).iter();
        let (first, second) = (named.next(), named.next());
        let host = match (first, second) {
            (Some(host), None) => host.to_str().ok().and_then(|host| host.parse().ok()),
            _ => None,
        };
        let Some(host) = host else {
            let error = "the request does not say in one `Host` header whom it asks".to_owned();
            let remedy = "send one, as every client of HTTP/1.1 does";
            return Err(Answer::refused(StatusCode::BAD_REQUEST, error, remedy).last());
        };
        let asked = request.uri().authority();
        if [Some(&host), asked]
            .into_iter()
            .flatten()
            .all(|name| self.is_ours(name, local))
        {
            return Ok(());
        }
        // Not with the name, which anybody may have made up.
        let error = "the `Host` of the request is not a name of this host".to_owned();
        let remedy = "ask by its address, or add the name to `hosts` under [admin]";
        Err(Answer::refused(StatusCode::MISDIRECTED_REQUEST, error, remedy).last())
    }

    fn is_ours(&self, authority: &Authority, local: SocketAddr) -> bool {
        let name = authority.host().trim_end_matches('.').to_ascii_lowercase();
        let number = name.trim_start_matches('[').trim_end_matches(']');
        match number.parse::<IpAddr>() {
            // An address is no name that could lead here from elsewhere.
            Ok(ip) => ip.is_loopback() || ip == self.listen.ip() || ip == local.ip(),
            Err(_) => name == "localhost" || self.hosts.contains(&name),
        }
    }

    fn check_token(&self, headers: &HeaderMap) -> Result<(), Answer> {
        let Some(token) = &self.token else {
            return Ok(());
        };
        let remedy = "send the token of `token` under [admin] as `Authorization: Bearer TOKEN`";
        let said = headers.get(AUTHORIZATION);
        let Some(said) = said.and_then(|said| said.to_str().ok()) else {
            return Err(Answer::unknown("this host asks for a token", remedy));
        };
        let bearer = said
            .split_once(' ')
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        match bearer {
            Some((_, text)) if token.is(text.trim()) => Ok(()),
            _ => Err(Answer::unknown(
                "this is not the token of this host",
                remedy,
            )),
        }
    }
}

/// Pages of other sites are told nothing, and may not even find out that there is something.
fn check_page(headers: &HeaderMap) -> Result<(), Answer> {
    let foreign = headers
        .get(&FETCH_SITE)
        .is_some_and(|site| site != "none" && site != "same-origin");
    if foreign || headers.contains_key(ORIGIN) {
        let error = "a page of another site asks".to_owned();
        let remedy = "ask with a program, or open the address itself";
        return Err(Answer::refused(StatusCode::FORBIDDEN, error, remedy).last());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use http_body_util::Empty;

    use super::*;

    fn asked(guard: &Guard, headers: &[(&str, &str)]) -> u16 {
        let mut request = Request::builder().uri("/livez");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Empty::<bytes::Bytes>::new()).unwrap();
        let local = "10.1.2.3:9464".parse().unwrap();
        match guard.check(&request, local) {
            Ok(()) => 200,
            Err(answer) => answer.into_response().status().as_u16(),
        }
    }

    #[test]
    fn names_of_others_are_refused() {
        let hosts = vec!["sandbar.internal".to_owned()];
        let guard = Guard::new(None, hosts, "0.0.0.0:9464".parse().unwrap());
        for name in [
            "localhost",
            "LocalHost:9464",
            "localhost.:1",
            "127.0.0.1",
            "127.9.9.9:80",
            "[::1]:9464",
            "10.1.2.3:9464",
            "sandbar.internal:9464",
            "Sandbar.Internal",
        ] {
            assert_eq!(asked(&guard, &[("host", name)]), 200, "{name}");
        }
        for name in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.9.9.9",
            "user@evil.example",
            "internal",
        ] {
            assert_eq!(asked(&guard, &[("host", name)]), 421, "{name}");
        }
        for unclear in ["", "a b", "::1"] {
            assert!(asked(&guard, &[("host", unclear)]) >= 400, "{unclear}");
        }
        assert_eq!(asked(&guard, &[]), 400);
        let two = [("host", "localhost"), ("host", "evil.example")];
        assert_eq!(asked(&guard, &two), 400);
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let guard = Guard::new(None, Vec::new(), "127.0.0.1:9464".parse().unwrap());
        for (name, value, status) in [
            ("origin", "http://evil.example", 403),
            ("origin", "null", 403),
            ("sec-fetch-site", "cross-site", 403),
            ("sec-fetch-site", "same-site", 403),
            ("sec-fetch-site", "none", 200),
            ("sec-fetch-site", "same-origin", 200),
        ] {
            let headers = [("host", "localhost"), (name, value)];
            assert_eq!(asked(&guard, &headers), status, "{name}: {value}");
        }
    }

    #[test]
    fn a_token_is_asked_for_and_compared_as_a_whole() {
        let token = Token::new("0123456789abcdef").unwrap();
        assert!(!format!("{token:?}").contains("0123"));
        let guard = Guard::new(Some(token), Vec::new(), "127.0.0.1:9464".parse().unwrap());
        for (said, status) in [
            ("Bearer 0123456789abcdef", 200),
            ("bearer  0123456789abcdef", 200),
            ("Bearer 0123456789abcde", 401),
            ("Bearer 0123456789abcdef0", 401),
            ("Bearer ", 401),
            ("Bearer", 401),
            ("Basic 0123456789abcdef", 401),
            ("0123456789abcdef", 401),
        ] {
            let headers = [("host", "localhost"), ("authorization", said)];
            assert_eq!(asked(&guard, &headers), status, "{said}");
        }
        assert_eq!(asked(&guard, &[("host", "localhost")]), 401);
        for no_token in ["", "short", "0123456789 abcdef", "0123456789abcdefé"] {
            let error = Token::new(no_token).unwrap_err();
            assert!(error.contains("at least 16 characters"), "{error}");
        }
    }
}
