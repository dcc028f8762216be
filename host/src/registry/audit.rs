//! What is written into the audit log when something about a plugin changes: who loaded what, when, with which digest, and what
//! came of it.
//!
//! Pure: what has changed is found by comparing what is remembered before and after. The log is a file of lines that are only
//! ever appended; nothing prunes it.

use serde::{Deserialize, Serialize};

use super::{History, Record, Verdict};

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    /// When, milliseconds since 1970-01-01 UTC.
    pub at_ms: i64,
    /// The plugin.
    pub plugin: String,
    /// What happened.
    pub event: Event,
    /// The number of the version.
    pub number: Option<u64>,
    /// The digest of its component.
    pub digest: Option<String>,
    /// Who: `start`, `file`, `configuration`, the name of a user, or `host` where it decided by itself.
    pub who: String,
    /// Why, where it was not an operator's wish.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

/// What happened to a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// A version is served from now on.
    Served,
    /// A version was refused.
    Refused,
    /// Nothing is served any more.
    Removed,
    /// A version is tried on a share of the messages.
    Tried,
    /// It is not tried any more.
    Withdrawn,
    /// The version that was tried is served from now on.
    Promoted,
    /// It receives nothing for now.
    Paused,
    /// It receives again.
    Resumed,
}

impl Event {
    /// The word that is written and printed.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Refused => "refused",
            Self::Removed => "removed",
            Self::Tried => "tried",
            Self::Withdrawn => "withdrawn",
            Self::Promoted => "promoted",
            Self::Paused => "paused",
            Self::Resumed => "resumed",
        }
    }
}

/// What has happened between what was remembered `before` and what is remembered `now`, in the order of the versions.
pub(super) fn news(
    plugin: &str,
    before: &History,
    now: &History,
    at_ms: i64,
    who: Option<&str>,
) -> Vec<AuditEntry> {
    let mut news = Vec::new();
    for record in &now.versions {
        let known = before.versions.iter().find(|it| it.number == record.number);
        match known {
            None if record.number > before.last => news.push(about(plugin, record, None)),
            Some(known) if known.verdict != record.verdict => {
                // Nobody but the host decides about what is tried, unless it is said who did.
                let by = (at_ms, who.unwrap_or("host"));
                news.push(about(plugin, record, Some((known, by))));
            }
            _ => {}
        }
    }
    if before.paused != now.paused {
        let live = now.live();
        news.push(AuditEntry {
            at_ms,
            plugin: plugin.to_owned(),
            event: match now.paused {
                true => Event::Paused,
                false => Event::Resumed,
            },
            number: live.map(|live| live.number),
            digest: live.map(|live| live.digest.clone()),
            who: who.unwrap_or("host").to_owned(),
            why: None,
        });
    }
    news
}

fn about(plugin: &str, record: &Record, changed: Option<(&Record, (i64, &str))>) -> AuditEntry {
    let (event, why) = match &record.verdict {
        Verdict::Served if changed.is_some_and(|(it, _)| it.verdict == Verdict::Tried) => {
            (Event::Promoted, None)
        }
        Verdict::Served => (Event::Served, None),
        Verdict::Failed(why) => (Event::Refused, Some(why.clone())),
        Verdict::Removed => (Event::Removed, None),
        Verdict::Tried => (Event::Tried, None),
        Verdict::Withdrawn(why) => (Event::Withdrawn, Some(why.clone())),
    };
    let (at_ms, who) = match changed {
        Some((_, by)) => by,
        None => (record.at_ms, record.who.as_str()),
    };
    AuditEntry {
        at_ms,
        plugin: plugin.to_owned(),
        event,
        number: Some(record.number),
        digest: Some(record.digest.clone()),
        who: who.to_owned(),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_change_is_news_once() {
        let told = |before: &History, now: &History| {
            let news = news("p", before, now, 9, Some("ada"));
            let events = news.iter().map(|entry| (entry.event, entry.who.clone()));
            events.collect::<Vec<_>>()
        };
        let mut history = History::default();
        let empty = history.clone();
        history.add("sha256:1", 1, "start", Verdict::Served);
        history.add("sha256:2", 2, "file", Verdict::Failed("bad".to_owned()));
        let start = (Event::Served, "start".to_owned());
        assert_eq!(
            told(&empty, &history),
            [start, (Event::Refused, "file".to_owned())]
        );
        assert_eq!(told(&history, &history), []);

        let mut tried = history.clone();
        tried.add("sha256:3", 3, "ada", Verdict::Tried);
        assert_eq!(told(&history, &tried), [(Event::Tried, "ada".to_owned())]);
        let mut promoted = tried.clone();
        promoted.versions[2].verdict = Verdict::Served;
        assert_eq!(
            told(&tried, &promoted),
            [(Event::Promoted, "ada".to_owned())]
        );
        let mut paused = promoted.clone();
        paused.paused = true;
        let news = news("p", &promoted, &paused, 9, None);
        assert_eq!((news[0].event, news[0].number), (Event::Paused, Some(3)));
        assert_eq!((news[0].at_ms, news[0].who.as_str()), (9, "host"));
        // What is pruned was told before.
        let mut pruned = paused.clone();
        pruned.versions.remove(0);
        assert_eq!(told(&paused, &pruned), []);
    }
}
