//! How requests and responses travel: a length of four bytes, then as many bytes.
//!
//! It knows neither what is in a frame nor who waits for it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, BufWriter};
use tokio_util::codec::{FramedRead, LengthDelimitedCodec};

use super::MAX_FRAME;

/// Bytes of the length before a frame.
const HEAD: usize = 4;

/// Frames that arrive.
pub(super) type Frames<R> = FramedRead<R, LengthDelimitedCodec>;

/// Reads frames of at most so many bytes. A longer one is an error as soon as its length is read.
pub(super) fn frames<R: AsyncRead>(reader: R, max: usize) -> Frames<R> {
    let mut codec = LengthDelimitedCodec::builder();
    codec.length_field_length(HEAD).max_frame_length(max);
    FramedRead::new(reader, codec.new_codec())
}

/// A frame, ready to be sent.
pub(super) type Written = Vec<u8>;

/// Writes a frame.
pub(super) fn write<T: Serialize>(value: &T) -> Result<Written, TooLong> {
    // Postcard fails only for values of unknown length, which the protocol doesn't have.
    let written = postcard::to_extend(value, vec![0; HEAD]).map_err(|_| TooLong(usize::MAX))?;
    finish(written)
}

/// Puts the length before the bytes that follow the first four.
pub(super) fn finish(mut written: Written) -> Result<Written, TooLong> {
    let size = written.len().saturating_sub(HEAD);
    let length = u32::try_from(size).map_err(|_| TooLong(size))?;
    match written.first_chunk_mut::<HEAD>() {
        Some(head) if size <= MAX_FRAME => *head = length.to_be_bytes(),
        _ => return Err(TooLong(size)),
    }
    Ok(written)
}

/// Reads what is in a frame.
pub(super) fn read<'a, T: Deserialize<'a>>(frame: &'a [u8]) -> Result<T, Illegible> {
    postcard::from_bytes(frame).map_err(|error| Illegible(error.to_string()))
}

/// Content of a frame that outlives it. Small content is copied: a few bytes would keep a large frame in memory.
pub(super) fn detach(frame: &Bytes, content: &[u8]) -> Bytes {
    const WORTH_SHARING: usize = 64 << 10;
    if content.len() >= WORTH_SHARING && content.len() >= frame.len() / 2 {
        frame.slice_ref(content)
    } else {
        Bytes::copy_from_slice(content)
    }
}

/// Sends frames in few system calls.
#[derive(Debug)]
pub(super) struct FrameWriter<W: AsyncWrite>(BufWriter<W>);

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    pub(super) fn new(writer: W) -> Self {
        Self(BufWriter::with_capacity(64 << 10, writer))
    }

    /// Sends frames, in this order, and forgets them.
    pub(super) async fn send(&mut self, frames: &mut Vec<Written>) -> std::io::Result<()> {
        for frame in frames.drain(..) {
            self.0.write_all(&frame).await?;
        }
        self.0.flush().await
    }

    /// Tells the other side that nothing follows.
    pub(super) async fn shutdown(&mut self) {
        // It may have gone already, which is as good.
        if let Err(error) = self.0.shutdown().await {
            tracing::debug!(%error, "the local socket was closed by the other side");
        }
    }
}

/// It doesn't fit into a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it takes {0} bytes and the local socket {MAX_FRAME}; send less, or a reference to it")]
pub(super) struct TooLong(pub(super) usize);

/// A frame that is not of this protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct Illegible(pub(super) String);
