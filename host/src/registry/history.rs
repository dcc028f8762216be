//! The history of one plugin, and what follows from it: which version a start serves, which one a rollback goes to, what
//! may be forgotten.
//!
//! Pure: files are read and written by its parent, the time is passed in.

use serde::{Deserialize, Serialize};

/// What is remembered of one plugin. The last version that was served is the live one, unless it was removed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct History {
    /// The last number that was given.
    pub last: u64,
    /// The versions that are remembered, the oldest first.
    pub versions: Vec<Record>,
    /// What an operator chose instead of a file.
    pub chosen: Option<Chosen>,
    /// Whether it receives nothing for now.
    pub paused: bool,
    /// The digests of earlier versions that messages may wait for which no later one handles, the newest first.
    pub before: Vec<String>,
}

/// What an operator chose. It holds until the file in the folder of plugins is another one than at that time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    /// The digest of the component to serve; `None`: it was removed, and nothing is served.
    pub digest: Option<String>,
    /// The digest of the file at that time; `None`: there was no file.
    pub instead_of: Option<String>,
}

/// One version that was served, or should have been.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its number, of no other version of this plugin.
    pub number: u64,
    /// The digest of its component.
    pub digest: String,
    /// When, milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// Who: `start`, `file`, `configuration`, or the name of a user.
    pub who: String,
    /// What became of it.
    pub verdict: Verdict,
    /// The number of the version that a rollback went back to.
    pub back_to: Option<u64>,
}

/// What became of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It was served from then on.
    Served,
    /// It was not, and why; the version before went on.
    Failed(String),
    /// From then on nothing was served.
    Removed,
}

/// Which component is to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// That of the file.
    File,
    /// The one of this digest that the registry keeps.
    Kept(String),
    /// None.
    Nothing,
}

impl History {
    /// Adds what became of a version, and returns its number.
    pub fn add(&mut self, digest: &str, at_ms: i64, who: &str, verdict: Verdict) -> u64 {
        self.last += 1;
        self.versions.push(Record {
            number: self.last,
            digest: digest.to_owned(),
            at_ms,
            who: who.to_owned(),
            verdict,
            back_to: None,
        });
        self.last
    }

    /// The version that is live, or would be if a host ran.
    #[must_use]
    pub fn live(&self) -> Option<&Record> {
        let mut decided = self.versions.iter().rev();
        let last = decided.find(|record| !matches!(record.verdict, Verdict::Failed(_)))?;
        (last.verdict == Verdict::Served).then_some(last)
    }

    /// Which component is to be served where the file has this digest; `None`: there is no file.
    #[must_use]
    pub fn choose(&self, file: Option<&str>) -> Choice {
        match &self.chosen {
            Some(chosen) if chosen.instead_of.as_deref() == file => match &chosen.digest {
                Some(digest) => Choice::Kept(digest.clone()),
                None => Choice::Nothing,
            },
            _ if file.is_none() => Choice::Nothing,
            _ => Choice::File,
        }
    }

    /// The version that a rollback goes to: the last one with another component that was served before the live one was
    /// served for the first time.
    #[must_use]
    pub fn before(&self) -> Option<&Record> {
        let served = |record: &&Record| record.verdict == Verdict::Served;
        let from = match self.live() {
            Some(live) => live.back_to.unwrap_or(live.number),
            None => u64::MAX,
        };
        let live = self.live().map(|live| live.digest.as_str());
        let mut older = self.versions.iter().rev().filter(served);
        older.find(|record| {
            record.number < from && record.back_to.is_none() && Some(&*record.digest) != live
        })
    }

    /// The version of that number, if it was served.
    #[must_use]
    pub fn numbered(&self, number: u64) -> Option<&Record> {
        let mut versions = self.versions.iter();
        versions.find(|record| record.number == number && record.verdict == Verdict::Served)
    }

    /// The digests of the versions before one with this digest that messages may wait for, the newest first.
    #[must_use]
    pub fn waited_for(&self, digest: Option<&str>) -> Vec<&str> {
        let live = self.live().map(|live| live.digest.as_str());
        let mut before: Vec<&str> = live.into_iter().collect();
        before.extend(self.before.iter().map(String::as_str));
        before.retain(|before| Some(*before) != digest);
        before
    }

    /// The digests whose components are needed.
    pub fn digests(&self) -> impl Iterator<Item = &str> {
        let served = self.versions.iter();
        let served = served.filter(|record| record.verdict == Verdict::Served);
        let chosen = self.chosen.iter().filter_map(|it| it.digest.as_deref());
        let before = self.before.iter().map(String::as_str);
        let digests = served.map(|record| record.digest.as_str());
        digests.chain(chosen).chain(before)
    }

    /// Forgets all but the last `keep` versions that were served, and as many of the others.
    pub(super) fn prune(&mut self, keep: usize) {
        for served in [true, false] {
            let is = |record: &Record| (record.verdict == Verdict::Served) == served;
            let count = self.versions.iter().filter(|record| is(record)).count();
            let mut surplus = count.saturating_sub(keep);
            self.versions.retain(|record| {
                let goes = surplus > 0 && is(record);
                surplus -= usize::from(goes);
                !goes
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served(digests: &[&str]) -> History {
        let mut history = History::default();
        for digest in digests {
            history.add(digest, 0, "file", Verdict::Served);
        }
        history
    }

    #[test]
    fn what_was_chosen_holds_until_the_file_changes() {
        let mut history = served(&["a"]);
        assert_eq!(history.choose(Some("a")), Choice::File);
        assert_eq!(history.choose(None), Choice::Nothing);
        for (digest, expected) in [
            (Some("b"), Choice::Kept("b".to_owned())),
            (None, Choice::Nothing),
        ] {
            for instead_of in [Some("a"), None] {
                history.chosen = Some(Chosen {
                    digest: digest.map(ToOwned::to_owned),
                    instead_of: instead_of.map(ToOwned::to_owned),
                });
                assert_eq!(history.choose(instead_of), expected);
                assert_eq!(history.choose(Some("c")), Choice::File);
            }
        }
        assert_eq!(history.choose(Some("a")), Choice::File, "there was no file");
    }

    #[test]
    fn a_rollback_goes_back_one_version_each_time() {
        let mut history = served(&["a", "b", "b", "c"]);
        history.add("d", 0, "file", Verdict::Failed("no".to_owned()));
        for expected in ["b", "a"] {
            let before = history.before().unwrap().clone();
            assert_eq!(before.digest, expected);
            history.add(expected, 0, "somebody", Verdict::Served);
            history.versions.last_mut().unwrap().back_to = Some(before.number);
        }
        assert_eq!(history.before(), None);
        history.add("c", 0, "somebody", Verdict::Served);
        assert_eq!(history.before().unwrap().digest, "b");
    }

    #[test]
    fn failures_push_no_version_out() {
        let mut history = served(&["a", "b", "c"]);
        for _ in 0..5 {
            history.add("x", 0, "file", Verdict::Failed("no".to_owned()));
        }
        history.prune(2);
        let kept: Vec<(u64, &str)> = history
            .versions
            .iter()
            .map(|record| (record.number, record.digest.as_str()))
            .collect();
        assert_eq!(kept, [(2, "b"), (3, "c"), (7, "x"), (8, "x")]);
        assert_eq!(history.live().unwrap().number, 3);
        assert_eq!(history.digests().collect::<Vec<_>>(), ["b", "c"]);
    }
}
