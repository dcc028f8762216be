//! Where a request goes: scheme, host, port and path, read strictly and in one way only.
//!
//! Pure. What was checked here is what is connected to; nothing reads an address a second time.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::fmt;

/// `http` or `https`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Without TLS.
    Http,
    /// With TLS.
    Https,
}

impl Scheme {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    /// The port that is meant where none is written.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }

    /// Case does not matter.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "http" => Ok(Self::Http),
            "https" => Ok(Self::Https),
            _ => Err(format!("its scheme is {text:?}; use `https` or `http`")),
        }
    }
}

/// A name or an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// A name in lower case, as DNS has it.
    Name(String),
    /// An address of IPv4.
    V4(Ipv4Addr),
    /// An address of IPv6.
    V6(Ipv6Addr),
}

impl Host {
    /// Reads a host as it stands in a URL.
    ///
    /// # Errors
    /// What is wrong, and how to write it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.is_empty() {
            return Err("it names no host".to_owned());
        }
        if let Some(rest) = text.strip_prefix('[') {
            let inner = rest.strip_suffix(']').ok_or_else(|| {
                format!("{text:?} is no address of IPv6; write it like `[2001:db8::1]`")
            })?;
            return inner.parse().map(Self::V6).map_err(|_| {
                format!(
                    "{inner:?} is no address of IPv6; write it like `[2001:db8::1]`, without a zone"
                )
            });
        }
        if !text.is_ascii() {
            return Err(match idna::domain_to_ascii(text) {
                Ok(name) => format!("{text:?} is not as DNS has it; write `{name}`"),
                Err(_) => format!("{text:?} is no name of DNS; use letters, digits and `-`"),
            });
        }
        let name = text.to_ascii_lowercase();
        if name.ends_with('.') {
            return Err(format!("{text:?} ends with a dot; leave it out"));
        }
        // Many resolvers take `127.1` and `0x7f000001` for addresses; only one form is one here.
        let last = name.rsplit('.').next().unwrap_or_default();
        let number = last.bytes().all(|c| c.is_ascii_digit()) || last.starts_with("0x");
        if number && !last.is_empty() {
            return name.parse().map(Self::V4).map_err(|_| {
                format!(
                    "{text:?} is neither a name nor an address; write an address like `192.0.2.1`"
                )
            });
        }
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let label = |label: &str| {
            !label.is_empty()
                && label.len() <= 63
                && label.chars().all(legal)
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        if name.len() > 253 || !name.split('.').all(label) {
            return Err(format!(
                "{text:?} is no name of DNS; its parts have 1 to 63 letters, digits and `-`"
            ));
        }
        Ok(Self::Name(name))
    }

    /// The address that it is, if it is one.
    #[must_use]
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::V4(address) => Some((*address).into()),
            Self::V6(address) => Some((*address).into()),
        }
    }
}

impl From<IpAddr> for Host {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self::V4(address),
            IpAddr::V6(address) => Self::V6(address),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::V4(address) => address.fmt(f),
            Self::V6(address) => write!(f, "[{address}]"),
        }
    }
}

/// Where one request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// How.
    pub scheme: Scheme,
    /// To whom.
    pub host: Host,
    /// Where it listens.
    pub port: u16,
    /// What is asked for there, beginning with `/`, as it was written.
    pub path: String,
    /// What follows the question mark, if there is one.
    pub query: Option<String>,
}

impl Target {
    /// Reads the parts of a request.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(scheme: &str, authority: &str, path: &str) -> Result<Self, String> {
        let scheme = Scheme::parse(scheme)?;
        let (host, port) = split_authority(authority)?;
        let (path, query) = match path.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (path, None),
        };
        let path = if path.is_empty() { "/" } else { path };
        if !path.starts_with('/') {
            return Err(format!("its path {path:?} does not begin with `/`"));
        }
        let legal = |text: &str| text.bytes().all(|c| c.is_ascii_graphic() && c != b'#');
        if !legal(path) || !query.is_none_or(legal) {
            return Err("its path has characters that no URL has; percent-encode them".to_owned());
        }
        Ok(Self {
            scheme,
            host: Host::parse(host)?,
            port: port.map_or(Ok(scheme.port()), parse_port)?,
            path: path.to_owned(),
            query: query.map(str::to_owned),
        })
    }

    /// Path and query, as they are sent.
    #[must_use]
    pub fn path_and_query(&self) -> String {
        match &self.query {
            Some(query) => format!("{}?{query}", self.path),
            None => self.path.clone(),
        }
    }

    /// The host with the port where that is not the usual one, as it is sent.
    #[must_use]
    pub fn authority(&self) -> String {
        if self.port == self.scheme.port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The pattern that would match it and what is beside it.
    #[must_use]
    pub fn suggestion(&self) -> String {
        let folder = match self.path.rsplit_once('/') {
            Some((folder, _)) if !is_slippery(&self.path) && super::pattern::is_path(folder) => {
                folder
            }
            _ => "",
        };
        let (scheme, authority) = (self.scheme.as_str(), self.authority());
        format!("{scheme}://{authority}{folder}/*")
    }
}

impl fmt::Display for Target {
    /// The URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, authority) = (self.scheme.as_str(), self.authority());
        write!(f, "{scheme}://{authority}{}", self.path_and_query())
    }
}

/// The host, and the port if one is written.
pub(super) fn split_authority(text: &str) -> Result<(&str, Option<&str>), String> {
    if text.contains('@') {
        return Err(
            "it names a user before the host; send a header `authorization` instead".to_owned(),
        );
    }
    let end = match (text.starts_with('['), text.find(']')) {
        (true, Some(end)) => end + 1,
        _ => text.find(':').unwrap_or(text.len()),
    };
    let (host, rest) = text.split_at_checked(end).unwrap_or((text, ""));
    match rest.strip_prefix(':') {
        Some(port) => Ok((host, Some(port))),
        None if rest.is_empty() => Ok((host, None)),
        None => Err(format!("{text:?} is no host with a port")),
    }
}

/// A port as it is written: digits that are not 0 and do not begin with it.
pub(super) fn parse_port(text: &str) -> Result<u16, String> {
    let digits = text.bytes().all(|c| c.is_ascii_digit()) && !text.starts_with('0');
    let port = text.parse().ok().filter(|_| digits);
    port.ok_or_else(|| format!("its port is {text:?}; use 1 to 65535"))
}

/// Whether somebody who decodes or tidies a path up may find another one than what stands there: segments of dots,
/// backslashes, characters that end a text. Encoded any number of times.
pub(super) fn is_slippery(path: &str) -> bool {
    let mut path = path.as_bytes().to_vec();
    loop {
        let mut segments = path.split(|c| matches!(c, b'/' | b'\\'));
        // Some servers take what follows a semicolon for parameters of the segment.
        let dots = |segment: &[u8]| {
            let name = segment.split(|c| *c == b';').next().unwrap_or_default();
            matches!(name, b"." | b"..")
        };
        if path.contains(&b'\\') || path.iter().any(u8::is_ascii_control) || segments.any(dots) {
            return true;
        }
        let decoded = decoded(&path);
        if decoded.len() == path.len() {
            return false;
        }
        path = decoded;
    }
}

/// Once; what is no encoding stays.
fn decoded(text: &[u8]) -> Vec<u8> {
    let digit = |c: &u8| {
        char::from(*c)
            .to_digit(16)
            .and_then(|digit| u8::try_from(digit).ok())
    };
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, after)) = rest.split_first() {
        if let (b'%', [high, low, after @ ..]) = (first, after)
            && let (Some(high), Some(low)) = (digit(high), digit(low))
        {
            out.push(high << 4 | low);
            rest = after;
            continue;
        }
        out.push(*first);
        rest = after;
    }
    out
}
