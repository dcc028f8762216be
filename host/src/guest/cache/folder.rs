//! The folder of the cache: private to one user, with the secret that its entries are authenticated with.
//!
//! Whoever could read the secret could write machine code that a host runs. So the folder, the secret and every entry belong
//! to the user that the host runs as, and nobody else has access to them. Every file is written under another name, flushed
//! and renamed; files are opened by name once and never followed elsewhere. What the entries mean is not known here.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::fs::{
    AtFlags, Dir, Mode, OFlags, RenameFlags, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT,
};

use super::entry::{EXTENSION, Key};

const SECRET: &str = "key";
const UNFINISHED: &str = ".new";
/// What the others must not be able to do: anything.
const OTHERS: u32 = 0o077;

pub(super) struct Folder {
    fd: OwnedFd,
    path: PathBuf,
}

/// An entry without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) used: SystemTime,
    pub(super) name: String,
    pub(super) size: u64,
}

impl Folder {
    /// The folder as it is; `None` if there is none.
    pub(super) fn look(path: &Path) -> Result<Option<Self>, String> {
        let folder = match open(path) {
            Ok(fd) => Self {
                fd,
                path: path.to_owned(),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        match folder.mode()? & OTHERS {
            0 => Ok(Some(folder)),
            _ => Err("others have access to it".to_owned()),
        }
    }

    /// The folder as it should be: made if there is none, and put right if it can be.
    pub(super) fn prepare(path: &Path) -> Result<Self, String> {
        let mut builder = DirBuilder::new();
        let made = builder.recursive(true).mode(0o700).create(path);
        made.map_err(|error| error.to_string())?;
        let folder = Self {
            fd: open(path).map_err(|error| error.to_string())?,
            path: path.to_owned(),
        };
        if folder.mode()? & OTHERS == 0 {
            return Ok(folder);
        }
        let names = folder.names().map_err(|error| error.to_string())?;
        if let Some(other) = names.iter().find(|name| !is_ours(name)) {
            return Err(format!(
                "others have access to it, and it is used for something else as well ({other}); name a folder of its own \
                 with `cache.dir`"
            ));
        }
        tracing::warn!(
            "others had access to {}, where compiled components are kept; it is private again, and they are compiled again",
            path.display()
        );
        rustix::fs::fchmod(&folder.fd, Mode::RWXU).map_err(|error| error.to_string())?;
        folder.empty();
        Ok(folder)
    }

    /// The permissions, if it is ours.
    fn mode(&self) -> Result<u32, String> {
        let about = rustix::fs::fstat(&self.fd).map_err(|error| error.to_string())?;
        let us = rustix::process::geteuid().as_raw();
        if about.st_uid != us {
            return Err(format!(
                "it belongs to user {} and this is user {us}; run as that user, or name another folder with `cache.dir`",
                about.st_uid
            ));
        }
        Ok(about.st_mode)
    }

    /// The key of its entries; `None` if there is none.
    pub(super) fn key(&self) -> Result<Option<Key>, String> {
        let Some(file) = self.open(SECRET)? else {
            return Ok(None);
        };
        let mut secret = [0; 32];
        let about = file.metadata().map_err(|error| error.to_string())?;
        if about.len() != 32 || (&file).read_exact(&mut secret).is_err() {
            return Err("it is no key".to_owned());
        }
        // A folder that was copied here, from a backup or by somebody else, brings no code with it: the time of the last
        // change of a file cannot be copied, and whoever packed the folder does not know what it will be.
        let place = [about.ctime(), about.ctime_nsec(), i64::from(about.uid())];
        let place: Vec<u8> = place.iter().flat_map(|part| part.to_le_bytes()).collect();
        Ok(Some(Key::new(&secret, &place)))
    }

    /// The key of its entries, made if there is none that can be used.
    pub(super) fn key_or_new(&self) -> Result<Key, String> {
        match self.key() {
            Ok(Some(key)) => return Ok(key),
            Ok(None) => {}
            Err(why) => {
                tracing::warn!(
                    "{} cannot be used: {why}; there is a new one, and components are compiled again",
                    self.path.join(SECRET).display()
                );
                self.empty();
            }
        }
        let secret: [u8; 32] = rand::random();
        let made = self.write(&[&secret], |unfinished| {
            // Who came first has made it.
            match rustix::fs::renameat_with(
                &self.fd,
                unfinished,
                &self.fd,
                SECRET,
                RenameFlags::NOREPLACE,
            ) {
                Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS) => {
                    rustix::fs::linkat(&self.fd, unfinished, &self.fd, SECRET, AtFlags::empty())?;
                    rustix::fs::unlinkat(&self.fd, unfinished, AtFlags::empty())
                }
                renamed => renamed,
            }
        });
        match made {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error.to_string()),
            _ => self.key()?.ok_or_else(|| "its key has vanished".to_owned()),
        }
    }

    /// The content of an entry, which counts as used if it is `used`; `None` if there is none.
    pub(super) fn read(
        &self,
        name: &str,
        most: u64,
        used: bool,
    ) -> Result<Option<Vec<u8>>, String> {
        let Some(file) = self.open(name)? else {
            return Ok(None);
        };
        let size = file.metadata().map_err(|error| error.to_string())?.len();
        if size > most {
            return Err(format!("it has {size} bytes and `cache.size` is {most}"));
        }
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        // What is written to it meanwhile is found out by whoever checks the bytes.
        let read = (&file).take(most).read_to_end(&mut bytes);
        read.map_err(|error| error.to_string())?;
        if used {
            let now = Timestamps {
                last_access: moment(UTIME_OMIT),
                last_modification: moment(UTIME_NOW),
            };
            // Where nothing can be written nothing goes by its age.
            rustix::fs::futimens(&file, &now).ok();
        }
        Ok(Some(bytes))
    }

    /// Keeps an entry.
    pub(super) fn keep(&self, name: &str, parts: &[&[u8]]) -> io::Result<()> {
        self.write(parts, |unfinished| {
            rustix::fs::renameat(&self.fd, unfinished, &self.fd, name)
        })
    }

    fn write(
        &self,
        parts: &[&[u8]],
        finish: impl Fn(&str) -> rustix::io::Result<()>,
    ) -> io::Result<()> {
        match self.write_once(parts, &finish) {
            // Somebody who clears up came before it was locked.
            Err(error) if error.kind() == ErrorKind::NotFound => self.write_once(parts, finish),
            written => written,
        }
    }

    fn write_once(
        &self,
        parts: &[&[u8]],
        finish: impl Fn(&str) -> rustix::io::Result<()>,
    ) -> io::Result<()> {
        let name = format!("{:016x}{UNFINISHED}", rand::random::<u64>());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | private();
        let fd = rustix::fs::openat(&self.fd, &*name, flags, Mode::RUSR | Mode::WUSR)?;
        let mut file = File::from(fd);
        let mut written = || {
            // Tells whoever clears up that somebody is at it.
            file.lock()?;
            for part in parts {
                file.write_all(part)?;
            }
            file.sync_data()?;
            Ok(finish(&name)?)
        };
        written().inspect_err(|_| self.remove(&name))
    }

    /// Removes what was left unfinished by a host that has ended.
    pub(super) fn clear_up(&self) {
        let names = self.names().unwrap_or_default();
        for name in names.iter().filter(|name| name.ends_with(UNFINISHED)) {
            let Ok(Some(file)) = self.open(name) else {
                continue;
            };
            match file.try_lock() {
                Ok(()) => self.remove(name),
                Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
            }
        }
    }

    /// Removes what was used longest ago until there is room for so much within `most`.
    pub(super) fn make_room(&self, size: u64, most: u64, except: &str) -> io::Result<()> {
        let mut entries = self.entries()?;
        entries.retain(|entry| entry.name != except);
        entries.sort_by(|a, b| (a.used, &a.name).cmp(&(b.used, &b.name)));
        let mut all: u64 = entries.iter().map(|entry| entry.size).sum();
        for entry in entries {
            if all.saturating_add(size) <= most {
                break;
            }
            tracing::debug!(entry = entry.name, "room is made for another component");
            self.remove(&entry.name);
            all = all.saturating_sub(entry.size);
        }
        Ok(())
    }

    /// Every entry.
    pub(super) fn entries(&self) -> io::Result<Vec<Found>> {
        let names = self.names()?.into_iter();
        let entries = names.filter(|name| name.ends_with(EXTENSION));
        let entries = entries.filter_map(|name| {
            // Another host may have removed it.
            let file = self.open(&name).ok()??;
            let about = file.metadata().ok()?;
            Some(Found {
                used: about.modified().ok()?,
                size: about.len(),
                name,
            })
        });
        Ok(entries.collect())
    }

    pub(super) fn can_be_written(&self) -> bool {
        let flags = rustix::fs::Access::WRITE_OK;
        rustix::fs::accessat(&self.fd, ".", flags, AtFlags::EACCESS).is_ok()
    }

    pub(super) fn remove(&self, name: &str) {
        // What stays is no harm.
        rustix::fs::unlinkat(&self.fd, name, AtFlags::empty()).ok();
    }

    fn empty(&self) {
        for name in self.names().unwrap_or_default() {
            if is_ours(&name) {
                self.remove(&name);
            }
        }
    }

    /// A file of ours that nobody else has access to; `None` if there is none.
    fn open(&self, name: &str) -> Result<Option<File>, String> {
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | private();
        let file = match rustix::fs::openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(error) => return Err(error.to_string()),
        };
        let about = file.metadata().map_err(|error| error.to_string())?;
        let us = rustix::process::geteuid().as_raw();
        if !about.is_file() {
            return Err("it is no file".to_owned());
        }
        if about.uid() != us {
            return Err(format!("it belongs to user {}", about.uid()));
        }
        if about.mode() & OTHERS != 0 {
            return Err("others have access to it".to_owned());
        }
        Ok(Some(file))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
        }
        Ok(names)
    }
}

fn is_ours(name: &str) -> bool {
    name == SECRET || name.ends_with(EXTENSION) || name.ends_with(UNFINISHED)
}

fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn private() -> OFlags {
    OFlags::NOFOLLOW | OFlags::CLOEXEC
}

fn moment(special: i64) -> Timespec {
    Timespec {
        tv_sec: 0,
        tv_nsec: special,
    }
}
