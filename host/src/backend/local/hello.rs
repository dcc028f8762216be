//! The first frame in each direction: who is there and which protocol it speaks.
//!
//! The beginning (a magic word and the version) stays the same in every version, so that a mismatch is told as one.

use serde::{Deserialize, Serialize};

use super::frame::{self, Illegible, TooLong, Written};
use super::{MAX_FRAME, VERSION};
use crate::backend::{Capabilities, KeyOrder};

const MAGIC: &[u8; 8] = b"SANDBAR\0";

/// No first frame is longer.
pub(super) const MAX_HELLO: usize = 4 << 10;

/// What the owner says of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Welcome {
    /// Its process.
    pub(super) pid: u32,
    transactional: bool,
    durable: bool,
    delay: bool,
    wildcards: bool,
    key_order: KeyOrder,
    counts_queues: bool,
    max_content: u64,
    max_batch: u64,
}

impl Welcome {
    pub(super) fn new(capabilities: Capabilities) -> Self {
        Self {
            pid: std::process::id(),
            transactional: capabilities.transactional,
            durable: capabilities.durable,
            delay: capabilities.delay,
            wildcards: capabilities.wildcards,
            key_order: capabilities.key_order,
            counts_queues: capabilities.counts_queues,
            max_content: capabilities.max_content as u64,
            max_batch: capabilities.max_batch as u64,
        }
    }

    /// What the owner can do, as far as it fits through the socket.
    pub(super) fn capabilities(&self) -> Capabilities {
        let bounded = |n: u64, most: usize| usize::try_from(n).unwrap_or(most).min(most);
        Capabilities {
            transactional: self.transactional,
            durable: self.durable,
            delay: self.delay,
            wildcards: self.wildcards,
            key_order: self.key_order,
            counts_queues: self.counts_queues,
            // The rest of a frame is for everything around the content.
            max_content: bounded(self.max_content, MAX_FRAME - (1 << 20)),
            max_batch: bounded(self.max_batch, usize::MAX),
        }
    }
}

/// The first frame of a client.
pub(super) fn greet() -> Result<Written, TooLong> {
    frame::finish(prefix())
}

/// The first frame of an owner.
pub(super) fn welcome(welcome: &Welcome) -> Result<Written, TooLong> {
    let written = postcard::to_extend(welcome, prefix()).map_err(|_| TooLong(usize::MAX))?;
    frame::finish(written)
}

fn prefix() -> Written {
    let mut written = vec![0; 4];
    written.extend_from_slice(MAGIC);
    written.extend_from_slice(&VERSION.to_be_bytes());
    written
}

/// The version that a first frame announces, and what follows.
pub(super) fn read(first: &[u8]) -> Result<(u32, &[u8]), Illegible> {
    first
        .strip_prefix(MAGIC)
        .and_then(|rest| rest.split_first_chunk::<4>())
        .map(|(version, rest)| (u32::from_be_bytes(*version), rest))
        .ok_or_else(|| Illegible("it doesn't begin like the protocol of sandbar".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_is_read_in_every_version() {
        let written = greet().unwrap();
        assert_eq!(read(&written[4..]), Ok((VERSION, &[][..])));
        assert_eq!(
            read(b"SANDBAR\0\0\0\0\x63what follows"),
            Ok((99, &b"what follows"[..]))
        );
        for bad in [&b""[..], b"GET / HTTP/1.1", b"SANDBAR\0\0\0"] {
            assert!(read(bad).is_err(), "{bad:?}");
        }
    }
}
