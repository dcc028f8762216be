//! `local`: the broker of another process on this machine, through the socket in its data folder.
//!
//! One process owns a data folder; every other one (`sandbar send` while a host runs) asks the owner. [`serve`] is the
//! owner's side and [`LocalBackend`] the other one. Nothing here stores, routes or orders messages: that is the
//! owner's backend. It is no way to reach another machine either, and it has no access control beyond the socket's
//! file mode.
//!
//! Reading order: `protocol` (what is said), `frame` (how it travels), `server` and `session` (the owner),
//! `connection` and `client` (the others).

use std::time::Duration;

mod answer;
mod budget;
mod client;
mod connection;
mod convert;
mod frame;
mod hello;
mod outbox;
mod protocol;
mod server;
mod session;
mod size;
mod socket;

pub use client::LocalBackend;
pub use server::{Server, Steward, serve, serve_host};

/// Grows with every change of what is said on the socket. Both sides must speak the same version.
const VERSION: u32 = 8;

/// The largest frame in bytes: the largest content and as much again for everything around it.
const MAX_FRAME: usize = 32 << 20;

/// Where a list in an answer is cut, so that one long list doesn't hold up the others or fill the memory.
const PART: usize = 1 << 20;

/// How many connections an owner serves at once. The next one waits.
const MAX_CONNECTIONS: usize = 64;

/// How many requests of one connection an owner handles at once. The next one waits.
const MAX_REQUESTS: usize = 256;

/// How many bytes of requests of one connection an owner holds at once. The next request waits.
const MAX_BYTES: usize = 2 * MAX_FRAME;

/// How many items a list of a request has, at most: as many as a connection may hold deliveries.
const MAX_LIST: usize = MAX_HELD;

/// How many deliveries one request gets, at most.
const MAX_RECEIVED: usize = 1024;

/// How many unsettled deliveries one connection may hold.
const MAX_HELD: usize = 65_536;

/// How long the other side has for its first word.
const HELLO: Duration = Duration::from_secs(5);

/// How long requests in flight may take when a connection ends.
const GRACE: Duration = Duration::from_secs(5);
