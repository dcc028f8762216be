//! Which requests a plugin may send: `https://api.example.com/v1/*`, read strictly.
//!
//! Pure. A pattern never matches more than it says: hosts and ports are compared as what they are, paths as they are written,
//! and a path that somebody could take for another one matches only what grants the whole host.

use std::fmt;
use std::str::FromStr;

use super::target::{Host, Scheme, Target, is_slippery, parse_port, split_authority};

/// A pattern of addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpPattern {
    /// Whether a name may lead into private networks.
    private: bool,
    scheme: Scheme,
    hosts: Hosts,
    port: u16,
    path: Path,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Hosts {
    One(Host),
    /// One more part before this name.
    Below(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Path {
    One(String),
    /// Whatever begins with this, which ends with `/`.
    Below(String),
}

/// Why a text is no pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no pattern of addresses: {why}")]
pub struct HttpPatternError {
    text: String,
    why: String,
}

/// What is before the scheme of a pattern whose name may lead into private networks.
const PRIVATE: &str = "private+";

impl HttpPattern {
    /// Whether it matches.
    #[must_use]
    pub fn matches(&self, target: &Target) -> bool {
        let host = match (&self.hosts, &target.host) {
            (Hosts::One(host), there) => host == there,
            (Hosts::Below(name), Host::Name(there)) => there
                .strip_suffix(name)
                .and_then(|rest| rest.strip_suffix('.'))
                .is_some_and(|part| !part.contains('.')),
            (Hosts::Below(_), _) => false,
        };
        let path = match &self.path {
            Path::One(path) => *path == target.path,
            Path::Below(prefix) => {
                target.path.starts_with(prefix) && (prefix == "/" || !is_slippery(&target.path))
            }
        };
        host && path && self.scheme == target.scheme && self.port == target.port
    }

    /// Whether a name that it matches may lead into private networks.
    #[must_use]
    pub fn private(&self) -> bool {
        self.private
    }

    fn parse(text: &str) -> Result<Self, String> {
        if let Some(odd) = text.chars().find(|c| c.is_whitespace() || c.is_control()) {
            return Err(format!("it has {odd:?} in it"));
        }
        let (private, rest) = match text.strip_prefix(PRIVATE) {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (scheme, rest) = rest
            .split_once("://")
            .ok_or("it has no scheme; write it like \"https://api.example.com/*\"")?;
        let scheme = Scheme::parse(scheme)?;
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let (host, port) = split_authority(authority)?;
        Ok(Self {
            private,
            scheme,
            hosts: hosts(host)?,
            port: port.map_or(Ok(scheme.port()), parse_port)?,
            path: whose_path(path)?,
        })
    }
}

fn hosts(text: &str) -> Result<Hosts, String> {
    let Some(name) = text.strip_prefix("*.") else {
        if text.contains('*') {
            return Err(format!(
                "`*` stands for the whole first part of a name, as in `*.example.com`, and not as in {text:?}"
            ));
        }
        return Host::parse(text).map(Hosts::One);
    };
    match Host::parse(name)? {
        Host::Name(name) if name.contains('.') => Ok(Hosts::Below(name)),
        Host::Name(name) => Err(format!(
            "`*.{name}` would be all that ends with `{name}`; name more of it, as in `*.example.{name}`"
        )),
        Host::V4(_) | Host::V6(_) => Err("an address has no parts; write all of it".to_owned()),
    }
}

fn whose_path(text: &str) -> Result<Path, String> {
    if text.is_empty() {
        return Err("it ends with the host; add `/*` for everything there, or a path".to_owned());
    }
    if text.contains(['?', '#']) {
        return Err(
            "a pattern is about the path; leave out what begins with `?` or `#`".to_owned(),
        );
    }
    let (path, below) = match text.strip_suffix('*') {
        Some(path) if path.ends_with('/') => (path, true),
        Some(_) => {
            return Err("`*` stands after a `/`, for everything that begins so".to_owned());
        }
        None => (text, false),
    };
    if path.contains('*') {
        return Err("`*` stands only at the end of the path".to_owned());
    }
    if !is_path(path.strip_suffix('/').unwrap_or(path)) {
        return Err(format!(
            "{path:?} is no path; it begins with `/`, has no segments `.` and `..`, and is percent-encoded where it must be"
        ));
    }
    let path = path.to_owned();
    Ok(if below {
        Path::Below(path)
    } else {
        Path::One(path)
    })
}

/// Whether this can be the path of a pattern; one that ends with `/` without that.
pub(super) fn is_path(text: &str) -> bool {
    let legal = |c: u8| c.is_ascii_alphanumeric() || b"/-._~!$&'()+,;=:@%".contains(&c);
    let encoded = |rest: &str| {
        let mut digits = rest.bytes().take(2).filter(u8::is_ascii_hexdigit);
        digits.next().is_some() && digits.next().is_some()
    };
    let begins = text.is_empty() || text.starts_with('/');
    begins && text.bytes().all(legal) && text.split('%').skip(1).all(encoded) && !is_slippery(text)
}

impl FromStr for HttpPattern {
    type Err = HttpPatternError;

    fn from_str(text: &str) -> Result<Self, HttpPatternError> {
        Self::parse(text).map_err(|why| HttpPatternError {
            text: text.to_owned(),
            why,
        })
    }
}

impl fmt::Display for HttpPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.private {
            f.write_str(PRIVATE)?;
        }
        write!(f, "{}://", self.scheme.as_str())?;
        match &self.hosts {
            Hosts::One(host) => write!(f, "{host}")?,
            Hosts::Below(name) => write!(f, "*.{name}")?,
        }
        if self.port != self.scheme.port() {
            write!(f, ":{}", self.port)?;
        }
        match &self.path {
            Path::One(path) => f.write_str(path),
            Path::Below(path) => write!(f, "{path}*"),
        }
    }
}

#[cfg(test)]
mod tests;
