//! The disk of the data folder: whether there is space, and how long flushing takes.
//!
//! Flushing is measured in a file of its own, for less than a second, which is gone afterwards.

use std::fs::File;
use std::io::{self, ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sandbar::config::Config;
use tokio::time::Instant;

use super::super::terminal::count;
use super::{Check, Finding};

const MIB: u64 = 1 << 20;
/// With less, the next burst of messages fills it.
const LITTLE: u64 = 1024 * MIB;
/// With less, a host cannot work.
const NOTHING: u64 = 64 * MIB;
/// How long flushing is measured, and how often at most.
const LONG: Duration = Duration::from_millis(400);
const OFTEN: u32 = 2_000;
/// No disk with a power-safe cache is faster than this.
const TOO_FAST: f64 = 20_000.0;
const SLOW: f64 = 50.0;

pub(super) async fn check(config: &Config) -> Vec<Finding> {
    let folder = existing(&config.data.value);
    let mut findings = vec![space(&folder)];
    let measured = tokio::task::spawn_blocking(move || (flushes(&folder), folder)).await;
    if let Ok((rate, folder)) = measured {
        findings.push(flushing(&folder, rate));
    }
    findings
}

/// The data folder, or the nearest folder above it that there is.
fn existing(data: &Path) -> PathBuf {
    let data = std::path::absolute(data).unwrap_or_else(|_| data.to_owned());
    let found = data.ancestors().find(|folder| folder.is_dir());
    found.unwrap_or(&data).to_owned()
}

fn space(folder: &Path) -> Finding {
    let place = folder.display();
    let about = match rustix::fs::statvfs(folder) {
        Ok(about) => about,
        Err(error) => {
            let text = format!("the file system of {place} cannot be looked at: {error}");
            return Finding::fail(Check::Disk, text, "check that it is mounted");
        }
    };
    let free = about.f_bavail.saturating_mul(about.f_frsize);
    let all = about.f_blocks.saturating_mul(about.f_frsize);
    let text = format!(
        "{} MiB of {} MiB are free at {place}",
        count(free / MIB),
        count(all / MIB)
    );
    let remedy = "free some, or move the data folder; when it is full, publishers are refused until there is space";
    if free < NOTHING {
        Finding::fail(Check::Disk, text, remedy)
    } else if free < LITTLE || free < all / 20 {
        Finding::warn(Check::Disk, text, remedy)
    } else {
        Finding::ok(Check::Disk, text)
    }
}

/// Flushes per second, one after the other.
fn flushes(folder: &Path) -> io::Result<f64> {
    let mut file: File = tempfile::tempfile_in(folder)?;
    let block = [0x5a; 4096];
    let began = Instant::now();
    let mut flushed = 0;
    while began.elapsed() < LONG && flushed < OFTEN {
        file.write_all(&block)?;
        file.sync_data()?;
        flushed += 1;
    }
    Ok(f64::from(flushed) / began.elapsed().as_secs_f64().max(1e-9))
}

fn flushing(folder: &Path, rate: io::Result<f64>) -> Finding {
    let place = folder.display();
    let rate = match rate {
        Ok(rate) => rate,
        Err(error) => {
            let remedy = match error.kind() {
                ErrorKind::StorageFull => "free some space",
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                    "let this user write there, or use another --data"
                }
                _ => "check the disk and its file system",
            };
            return Finding::fail(
                Check::Disk,
                format!("{place} cannot be written: {error}"),
                remedy,
            );
        }
    };
    let text = format!("{rate:.0} flushes/s at {place}");
    if rate > TOO_FAST {
        Finding::warn(
            Check::Disk,
            format!("{text}: more than a disk can do"),
            "it is memory, or a cache that forgets in a power cut; use a disk if messages must survive one",
        )
    } else if rate < SLOW {
        Finding::warn(
            Check::Disk,
            text,
            "one sender alone waits two flushes for each message; use a faster disk, or send in batches",
        )
    } else {
        Finding::ok(Check::Disk, text)
    }
}
