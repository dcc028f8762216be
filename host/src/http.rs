//! Requests that plugins send over HTTP: to whom they may go ([`HttpPattern`]), what comes of them, and how they go there.
//!
//! A grant names addresses and nothing else is reached: no redirect is followed, and a name that leads into a private
//! network is refused. Whether a call may send is decided by [`crate::call`]; how a guest says what it wants is known to
//! [`crate::guest`].

mod address;
mod again;
mod body;
mod connect;
mod exchange;
mod pattern;
mod send;
mod target;

pub use connect::Connector;
pub use pattern::{HttpPattern, HttpPatternError};
pub use target::{Host, Scheme, Target};

pub(crate) use again::Again;
pub(crate) use connect::certificates;
pub(crate) use exchange::{Exchange, Traffic};
pub(crate) use send::{Fetch, Network, Times, Via, headers, send};
