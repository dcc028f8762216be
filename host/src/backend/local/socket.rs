//! Where the socket is and how it is reached, however long the path of its folder.
//!
//! It must only be bound by the owner of the folder: what lies there then was left behind by an owner that was killed.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixSocket, UnixStream};

/// The name of the socket in the data folder.
pub(super) const NAME: &str = "sandbar.sock";
/// Its name until it can be connected to.
const UNFINISHED: &str = "sandbar.sock.new";

/// Connections that may wait to be accepted; the kernel may allow fewer.
const BACKLOG: u32 = 1024;

/// Binds the socket. It appears under its name complete, for its user only, and takes the place of a stale one.
pub(super) fn listen(dir: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let unfinished = dir.join(UNFINISHED);
    match fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = UnixSocket::new_stream()?;
    let mode = Permissions::from_mode(0o600);
    // Linux creates the file with the mode of the socket, so that nobody gets in before the mode is set below; other
    // systems may refuse.
    let early = fs::File::from(socket.as_fd().try_clone_to_owned()?).set_permissions(mode.clone());
    if let Err(error) = early {
        tracing::debug!(%error, "the mode of the local socket is set after it is bound");
    }
    socket.bind(Reach::new(dir, UNFINISHED)?.path())?;
    fs::set_permissions(&unfinished, mode)?;
    let listener = socket.listen(BACKLOG)?;
    let path = dir.join(NAME);
    fs::rename(&unfinished, &path)?;
    let inode = fs::symlink_metadata(&path)?.ino();
    Ok((listener, SocketFile { path, inode }))
}

/// Connects to the owner.
pub(super) async fn connect(dir: &Path) -> io::Result<UnixStream> {
    let reach = Reach::new(dir, NAME)?;
    UnixStream::connect(reach.path()).await
}

/// The socket in the folder, removed when it is dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another owner may have put its own there.
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|found| found.ino() == self.inode);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "the local socket stays behind");
        }
    }
}

/// A way to a file in the folder that is short enough for the address of a socket: 108 bytes on Linux, 104 elsewhere.
#[derive(Debug)]
struct Reach {
    path: PathBuf,
    _through: Option<Through>,
}

impl Reach {
    const LONGEST: usize = 100;

    fn new(dir: &Path, name: &str) -> io::Result<Self> {
        let path = dir.join(name);
        if path.as_os_str().len() <= Self::LONGEST {
            return Ok(Self {
                path,
                _through: None,
            });
        }
        let (short, through) = through(dir)?;
        Ok(Self {
            path: short.join(name),
            _through: Some(through),
        })
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// What must stay open while the short way is used.
#[cfg(target_os = "linux")]
type Through = fs::File;
#[cfg(not(target_os = "linux"))]
type Through = tempfile::TempDir;

#[cfg(target_os = "linux")]
fn through(dir: &Path) -> io::Result<(PathBuf, Through)> {
    use std::os::fd::AsRawFd as _;
    let open = fs::File::open(dir)?;
    Ok((
        PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd())),
        open,
    ))
}

#[cfg(not(target_os = "linux"))]
fn through(dir: &Path) -> io::Result<(PathBuf, Through)> {
    let folder = tempfile::TempDir::new()?;
    let link = folder.path().join("d");
    std::os::unix::fs::symlink(fs::canonicalize(dir)?, &link)?;
    Ok((link, folder))
}
