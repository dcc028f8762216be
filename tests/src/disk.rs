//! A disk that is full or cannot be written: a small file system of its own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::Folder;

/// What takes the room.
const BALLAST: &str = "ballast";

/// A small file system in memory, unmounted with the value.
#[derive(Debug)]
pub struct Small(PathBuf);

impl Small {
    /// `None` where this user may not mount; the test says so and passes.
    ///
    /// # Panics
    /// When there is something of that name already.
    #[must_use]
    pub fn mount(folder: &Folder, name: &str, size: &str) -> Option<Self> {
        Self::mount_at(folder.path().join(name), size)
    }

    /// The same at a place that is not there yet.
    ///
    /// # Panics
    /// When it is.
    #[must_use]
    pub fn mount_at(at: PathBuf, size: &str) -> Option<Self> {
        std::fs::create_dir(&at).unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&at)
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at));
        }
        let at = at.display();
        eprintln!("SKIPPED: {at}: a small file system cannot be mounted here; run it as root");
        None
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Takes all the room that it has left, but for so many bytes.
    ///
    /// # Panics
    /// When it has less than that.
    pub fn fill(&self, leave: u64) {
        let ballast = self.0.join(BALLAST);
        let mut file = std::fs::File::create(&ballast).unwrap();
        let mut written = 0;
        while let Ok(count) = file.write(&[0; 64 << 10]) {
            written += count as u64;
        }
        file.set_len(written.checked_sub(leave).expect("it has more room"))
            .unwrap();
    }

    /// Gives back what was taken by [`Self::fill`].
    ///
    /// # Panics
    /// When nothing was.
    pub fn empty(&self) {
        std::fs::remove_file(self.0.join(BALLAST)).unwrap();
    }

    /// Gives it room.
    ///
    /// # Panics
    /// When that is not possible.
    pub fn grow(&self) {
        let done = Command::new("mount")
            .args(["-o", "remount,size=64m"])
            .arg(&self.0)
            .status()
            .unwrap();
        assert!(done.success());
    }

    /// From now on it can only be read.
    ///
    /// # Panics
    /// When that is not possible.
    pub fn remount_read_only(&self) {
        let done = Command::new("mount")
            .args(["-o", "remount,ro"])
            .arg(&self.0)
            .status()
            .unwrap();
        assert!(done.success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}
