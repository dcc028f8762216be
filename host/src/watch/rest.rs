//! Whether a file is at rest: somebody who writes it, piece by piece or with many renames, is given the time to finish.
//!
//! Pure; the time is passed in.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Stamp;

/// A file that has not changed for so long is taken for finished.
pub(crate) const QUIET: Duration = Duration::from_millis(300);

/// How files were when they were last looked at, and since when. Moments are durations since some beginning.
#[derive(Debug, Default)]
pub(crate) struct Rest {
    files: HashMap<PathBuf, (Option<Stamp>, Duration)>,
}

impl Rest {
    /// Takes a file as it is for finished, since it was read at a start.
    pub(crate) fn known(&mut self, file: &Path, stamp: Option<Stamp>) {
        self.files.insert(file.to_owned(), (stamp, Duration::ZERO));
    }

    /// For how long a file has been as it is now.
    pub(crate) fn since(&mut self, file: &Path, stamp: Option<Stamp>, now: Duration) -> Duration {
        match self.files.get_mut(file) {
            Some((known, since)) if *known == stamp => now.saturating_sub(*since),
            Some(seen) => {
                *seen = (stamp, now);
                Duration::ZERO
            }
            None => {
                self.files.insert(file.to_owned(), (stamp, now));
                Duration::ZERO
            }
        }
    }

    /// Forgets files that nobody asks for any more.
    pub(crate) fn keep(&mut self, wanted: impl Fn(&Path) -> bool) {
        self.files.retain(|file, _| wanted(file));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_at_rest_when_it_has_not_changed_for_a_while() {
        let stamp = |size: u64| {
            Some(Stamp {
                size,
                ..Stamp::default()
            })
        };
        let (file, mut rest) = (Path::new("a"), Rest::default());
        let ms = Duration::from_millis;
        for (at, stamp, expected) in [
            (0, stamp(1), 0),
            (200, stamp(1), 200),
            (299, stamp(2), 0),
            (599, stamp(2), 300),
            (600, None, 0),
            (700, None, 100),
            (800, stamp(2), 0),
        ] {
            assert_eq!(rest.since(file, stamp, ms(at)), ms(expected), "{at}");
        }
        rest.known(file, stamp(3));
        assert_eq!(rest.since(file, stamp(3), ms(900)), ms(900));
    }
}
