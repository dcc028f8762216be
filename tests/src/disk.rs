//! A disk that is full or cannot be written: a small file system of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::Folder;

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
        let at = folder.path().join(name);
        std::fs::create_dir(&at).unwrap();
        let options = format!("size={size}");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &options, "tmpfs"])
            .arg(&at)
            .output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(at));
        }
        eprintln!("SKIPPED: {name}: a small file system cannot be mounted here; run it as root");
        None
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
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
