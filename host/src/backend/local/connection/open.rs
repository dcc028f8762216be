//! Finds the owner of a data folder and agrees with it on the protocol.

use std::io;
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{sleep, timeout};

use super::super::frame::{self, FrameWriter, Frames, Illegible};
use super::super::hello::{self, MAX_HELLO, Welcome};
use super::super::socket::{self, NAME};
use super::super::{HELLO, MAX_FRAME, VERSION};
use crate::backend::BackendError;

/// How long to wait before the kernel is asked again for a place in the line of connections.
const PAUSE: Duration = Duration::from_millis(20);

type Opened = (Frames<OwnedReadHalf>, FrameWriter<OwnedWriteHalf>, Welcome);

/// Connects and exchanges the first frames.
pub(super) async fn open(dir: &Path) -> Result<Opened, BackendError> {
    match timeout(HELLO, meet(dir)).await {
        Ok(met) => met,
        Err(_) => Err(BackendError::Unavailable(format!(
            "the host of `{}` doesn't answer on its local socket within {HELLO:?}; it hangs or serves as many \
             connections as it can; try again or restart it",
            dir.display()
        ))),
    }
}

async fn meet(dir: &Path) -> Result<Opened, BackendError> {
    let stream = connect(dir)
        .await
        .map_err(|error| unreachable(dir, &error))?;
    let (reader, writer) = stream.into_split();
    let (mut frames, mut writer) = (frame::frames(reader, MAX_HELLO), FrameWriter::new(writer));
    let lost = |error: io::Error| unreachable(dir, &error);
    let greeting = hello::greet().map_err(|error| BackendError::Invalid(error.to_string()))?;
    writer.send(&mut vec![greeting]).await.map_err(lost)?;
    let first = frames
        .next()
        .await
        .ok_or_else(|| lost(io::ErrorKind::UnexpectedEof.into()))?;
    let first = first.map_err(lost)?;
    let (version, rest) = hello::read(&first).map_err(|error| foreign(dir, &error))?;
    if version != VERSION {
        return Err(BackendError::Invalid(format!(
            "the host of `{}` speaks version {version} of the local protocol and this program version {VERSION}; use \
             the same release of sandbar for both",
            dir.display()
        )));
    }
    let welcome = frame::read(rest).map_err(|error| foreign(dir, &error))?;
    frames.decoder_mut().set_max_frame_length(MAX_FRAME);
    Ok((frames, writer, welcome))
}

async fn connect(dir: &Path) -> io::Result<UnixStream> {
    loop {
        match socket::connect(dir).await {
            // The line of connections that wait to be accepted is full.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(PAUSE).await,
            connected => return connected,
        }
    }
}

fn unreachable(dir: &Path, error: &io::Error) -> BackendError {
    let path = dir.join(NAME);
    let path = path.display();
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => BackendError::Unavailable(
            format!("no host answers on `{path}`; start one with `sandbar run --data`"),
        ),
        io::ErrorKind::PermissionDenied => BackendError::Invalid(format!(
            "the local socket `{path}` is not yours; run this as the user who runs the host"
        )),
        _ => BackendError::Unavailable(format!(
            "the local socket `{path}` cannot be used: {error}; try again or restart the host"
        )),
    }
}

fn foreign(dir: &Path, error: &Illegible) -> BackendError {
    BackendError::Invalid(format!(
        "`{}` is not the socket of a sandbar host: {error}; remove it or name another data folder",
        dir.join(NAME).display()
    ))
}
