//! Whether the database is still the file that was opened, and whether its disk takes more.
//!
//! A file that is removed while it is open can be read and written as before, and is gone with the process: nothing
//! fails, so somebody has to look.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{Failure, folder};

/// A file by its path and by what the file system knows it as.
#[derive(Debug)]
pub(crate) struct Place {
    file: PathBuf,
    identity: Option<(u64, u64)>,
}

/// Bytes that a disk must take to be of use: the smallest write may fit where no message does.
const ROOM: usize = 1 << 20;

/// Writes a file of some size, which is gone at once.
pub(super) async fn try_writing(folder: &Path) -> Result<(), Failure> {
    let place = folder.to_owned();
    let written = tokio::task::spawn_blocking(move || {
        let mut file = tempfile::tempfile_in(place)?;
        file.write_all(&vec![0; ROOM])?;
        file.sync_data()
    });
    let written = written.await.map_err(std::io::Error::other);
    written.flatten().map_err(|error| {
        let folder = folder.display();
        match error.kind() {
            std::io::ErrorKind::StorageFull => Failure(format!("the disk of {folder} is full")),
            _ => Failure(format!("{folder} cannot be written: {error}")),
        }
    })
}

fn identity(file: &Path) -> std::io::Result<(u64, u64)> {
    let about = std::fs::metadata(file)?;
    Ok((about.dev(), about.ino()))
}

impl Place {
    /// The database of a folder, as it is now.
    pub(crate) fn of(folder: &Path) -> Self {
        let file = folder::database(folder);
        let identity = identity(&file).ok();
        Self { file, identity }
    }

    /// Whether it is still there.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let file = self.file.display();
        match identity(&self.file) {
            Ok(found) if Some(found) == self.identity => Ok(()),
            Ok(_) => Err(Failure(format!(
                "{file} was replaced while it is open: what is confirmed now goes to the file that was there before and \
                 is lost when this process ends; put that file back, or restart the host to go on with the new one"
            ))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Failure(format!(
                "{file} was removed or moved while it is open: what is confirmed now is lost when this process ends; \
                 put it back, or restart the host to begin with an empty one"
            ))),
            Err(error) => Err(Failure(format!("{file} cannot be looked at: {error}"))),
        }
    }
}
