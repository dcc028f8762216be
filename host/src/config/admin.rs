//! What is asked of a host over HTTP: where it listens, and who may ask.
//!
//! The token is read when a host starts; until then only where it is.

use std::net::SocketAddr;

use super::problem::ConfigError;
use super::{Config, Setting};
use crate::admin::{AdminOptions, Token};

/// A valid `[admin]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AdminConfig {
    /// Where it listens; nowhere without it.
    pub listen: Option<SocketAddr>,
    /// Where the token is, if one is asked for.
    pub token: Option<Setting>,
    /// Names by which it may be asked.
    pub hosts: Vec<String>,
}

impl Config {
    /// What a host needs to be asked over HTTP; `None` if it is not to be.
    ///
    /// # Errors
    /// When the token is not where it should be, or is none.
    pub fn admin(&self) -> Result<Option<AdminOptions>, ConfigError> {
        let AdminConfig {
            listen,
            token,
            hosts,
        } = &self.admin;
        let Some(listen) = *listen else {
            return Ok(None);
        };
        let keys = ["admin", "token"];
        let read = |token: &Setting| Token::new(token.resolve(&self.written.base(&keys))?);
        let token = token.as_ref().map(read).transpose().map_err(|error| {
            let problem = self.written.problem(&keys, format!("`token`: {error}"));
            ConfigError(vec![problem])
        })?;
        Ok(Some(AdminOptions {
            listen,
            token,
            hosts: hosts.clone(),
        }))
    }
}
