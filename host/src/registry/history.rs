//! The history of one plugin, and what follows from it: which version a start serves, which one a rollback goes to, what
//! may be forgotten.
//!
//! Pure: files are read and written by its parent, the time is passed in.

use serde::{Deserialize, Serialize};

use crate::rollout::Policy;

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
    /// The version that is tried beside the live one.
    pub trial: Option<Trial>,
}

/// A version that is tried on a share of the messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trial {
    /// Its number.
    pub number: u64,
    /// The digest of its component.
    pub digest: String,
    /// The digest of the live version, beside which it is tried and no other.
    pub beside: String,
    /// How it is tried.
    pub policy: Policy,
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
    /// From then on it was tried on a share of the messages.
    Tried,
    /// It was tried, and why it is not any more.
    Withdrawn(String),
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
        let decides = |verdict: &Verdict| matches!(verdict, Verdict::Served | Verdict::Removed);
        let last = decided.find(|record| decides(&record.verdict))?;
        (last.verdict == Verdict::Served).then_some(last)
    }

    /// The version of this digest is tried from now on, beside the live one. Returns its number.
    pub fn begin_trial(
        &mut self,
        digest: &str,
        beside: &str,
        policy: Policy,
        at_ms: i64,
        who: &str,
    ) -> u64 {
        self.withdraw("another version is tried instead");
        let number = self.add(digest, at_ms, who, Verdict::Tried);
        self.trial = Some(Trial {
            number,
            digest: digest.to_owned(),
            beside: beside.to_owned(),
            policy,
        });
        number
    }

    /// What is tried is not tried any more. Returns its number if there was something.
    pub fn withdraw(&mut self, reason: &str) -> Option<u64> {
        let trial = self.trial.take()?;
        if let Some(record) = self.record(trial.number) {
            record.verdict = Verdict::Withdrawn(reason.to_owned());
        }
        Some(trial.number)
    }

    /// What is tried is live from now on, as `who` wants it if that is another one than who had it tried. Returns its number
    /// if there was something.
    pub fn promote(&mut self, at_ms: i64, who: Option<&str>) -> Option<u64> {
        let trial = self.trial.take()?;
        if let Some(record) = self.record(trial.number) {
            record.verdict = Verdict::Served;
            record.at_ms = at_ms;
            if let Some(who) = who {
                who.clone_into(&mut record.who);
            }
        }
        Some(trial.number)
    }

    fn record(&mut self, number: u64) -> Option<&mut Record> {
        let mut versions = self.versions.iter_mut();
        versions.find(|record| record.number == number)
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
        let trial = self.trial.iter().map(|trial| trial.digest.as_str());
        let digests = served.map(|record| record.digest.as_str());
        digests.chain(chosen).chain(before).chain(trial)
    }

    /// Forgets all but the last `keep` versions that were served, and as many of the others.
    pub(super) fn prune(&mut self, keep: usize) {
        for served in [true, false] {
            let is = |record: &Record| {
                let kept = record.verdict == Verdict::Tried;
                !kept && (record.verdict == Verdict::Served) == served
            };
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
    fn what_is_tried_is_kept_and_changes_nothing_before_it_is_promoted() {
        let policy = Policy::new("10%".parse().unwrap());
        let mut history = served(&["a", "b"]);
        assert_eq!(history.begin_trial("c", "b", policy, 1, "ada"), 3);
        for _ in 0..5 {
            history.add("x", 0, "file", Verdict::Failed("no".to_owned()));
        }
        history.prune(2);
        assert_eq!(history.live().unwrap().digest, "b");
        assert_eq!(history.before().unwrap().digest, "a");
        assert_eq!(history.digests().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(history.numbered(3), None, "it cannot be rolled back to");

        let mut promoted = history.clone();
        assert_eq!(promoted.promote(7, None), Some(3));
        let live = promoted.live().unwrap();
        assert_eq!((&*live.digest, live.at_ms, &*live.who), ("c", 7, "ada"));
        assert_eq!(promoted.before().unwrap().digest, "b");
        assert_eq!(promoted.withdraw("too late"), None);

        assert_eq!(history.begin_trial("d", "b", policy, 2, "bob"), 9);
        let withdrawn = Verdict::Withdrawn("another version is tried instead".to_owned());
        let first = history.versions.iter().find(|it| it.number == 3).unwrap();
        assert_eq!(first.verdict, withdrawn);
        assert_eq!(history.withdraw("it is slow"), Some(9));
        assert_eq!(history.live().unwrap().digest, "b");
        assert_eq!(history.digests().collect::<Vec<_>>(), ["a", "b"]);
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
