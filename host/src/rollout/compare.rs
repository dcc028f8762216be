//! What two versions made of the same message, and where that differs.
//!
//! Neither is judged: a new version may be meant to differ.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::backend::{Outgoing, Verdict};
use crate::dispatch::Conclusion;
use crate::message::Payload;
use crate::store::Reason;
use crate::topic::TopicName;

/// What became of a message.
#[derive(Debug, Clone)]
pub struct Ends {
    verdict: String,
    publishes: Vec<Outgoing>,
    writes: BTreeMap<Arc<str>, Option<Bytes>>,
}

/// One thing that is not the same.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Difference {
    /// What it is.
    pub what: String,
    /// What the live version made.
    pub live: String,
    /// What the other one made.
    pub shadow: String,
}

/// A part of a message, and what is shown of it.
type Part = (&'static str, fn(&Outgoing) -> String);

/// More characters are cut off.
const LONGEST: usize = 120;
/// What stands for something that is not there.
const NOTHING: &str = "-";

impl Ends {
    /// What a conclusion says of it.
    #[must_use]
    pub fn of(conclusion: &Conclusion) -> Self {
        let state = conclusion.effects.state.as_ref();
        Self {
            verdict: match &conclusion.verdict {
                Verdict::Ack => "done".to_owned(),
                Verdict::Retry { failed, .. } => {
                    format!("again, {}", why(failed.reason, &failed.error))
                }
                Verdict::DeadLetter(letter) => {
                    format!("dead letter, {}", why(letter.reason, &letter.error))
                }
            },
            publishes: conclusion.effects.publishes.clone(),
            writes: state.map_or_else(BTreeMap::new, |state| {
                state.writes.iter().cloned().collect()
            }),
        }
    }
}

/// Where a crash happened is another place in each version.
fn why(reason: Reason, error: &str) -> String {
    match reason {
        Reason::Trap | Reason::Timeout | Reason::Memory | Reason::Limit => reason.to_string(),
        _ => format!("{reason}: {error}"),
    }
}

/// Where both differ. `reply` is the topic that a reply was wanted at, and `named` says whether messages are named alike by
/// both versions.
#[must_use]
pub fn compare(
    live: &Ends,
    shadow: &Ends,
    reply: Option<&TopicName>,
    named: bool,
) -> Vec<Difference> {
    let mut found = Vec::new();
    let mut differs = |what: String, live: String, shadow: String| {
        if live != shadow {
            let (live, shadow) = (cut(&live), cut(&shadow));
            found.push(Difference { what, live, shadow });
        }
    };
    differs(
        "verdict".to_owned(),
        live.verdict.clone(),
        shadow.verdict.clone(),
    );
    let most = live.publishes.len().max(shadow.publishes.len());
    for position in 0..most {
        let (one, other) = (live.publishes.get(position), shadow.publishes.get(position));
        let Some(either) = one.or(other) else {
            continue;
        };
        let topic = &either.message.topic;
        let what = match reply {
            Some(reply) if reply == topic => "reply".to_owned(),
            _ => format!("message {} to {topic}", position + 1),
        };
        let (Some(one), Some(other)) = (one, other) else {
            let text = |sent: Option<&Outgoing>| {
                sent.map_or_else(|| NOTHING.to_owned(), |sent| content(&sent.message.payload))
            };
            differs(what, text(one), text(other));
            continue;
        };
        let parts: [Part; 4] = [
            ("", |sent| content(&sent.message.payload)),
            (", status", |sent| sent.message.payload.status.to_string()),
            (", headers", |sent| headers(&sent.message.payload)),
            (", options", options),
        ];
        for (part, text) in parts {
            differs(format!("{what}{part}"), text(one), text(other));
        }
        if named && one.message.identifier != other.message.identifier {
            let text = |sent: &Outgoing| sent.message.identifier.to_string();
            differs(format!("{what}, identifier"), text(one), text(other));
        }
    }
    let mut keys: Vec<&Arc<str>> = live.writes.keys().chain(shadow.writes.keys()).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        let text = |ends: &Ends| match ends.writes.get(key) {
            None => NOTHING.to_owned(),
            Some(None) => "removed".to_owned(),
            Some(Some(value)) => String::from_utf8_lossy(value).into_owned(),
        };
        differs(format!("state {key}"), text(live), text(shadow));
    }
    found
}

fn content(payload: &Payload) -> String {
    String::from_utf8_lossy(&payload.content).into_owned()
}

fn headers(payload: &Payload) -> String {
    let mut headers: Vec<String> = payload
        .headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}"))
        .collect();
    headers.sort();
    headers.join(", ")
}

fn options(sent: &Outgoing) -> String {
    let message = &sent.message;
    let reply = message.reply_topic.as_ref();
    format!(
        "{} {:?} key {} delay {:?} reply {}",
        message.topic,
        message.strategy,
        sent.key.as_deref().unwrap_or(NOTHING),
        sent.delay,
        reply.map_or(NOTHING, TopicName::as_str)
    )
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::Effects;
    use crate::message::Message;
    use crate::store::StateEffects;

    fn ends(reply: &str, told: &[&str], state: &[(&str, Option<&str>)]) -> Ends {
        let sent = |topic: &str, text: &str| {
            let (topic, payload) = (topic.parse().unwrap(), Payload::text(text));
            Outgoing::new(Message::identified(uuid::Uuid::nil(), topic, payload))
        };
        let mut publishes: Vec<Outgoing> = told.iter().map(|text| sent("out", text)).collect();
        publishes.push(sent("replies", reply));
        let writes = state.iter().map(|(key, value)| {
            let value = value.map(|value| Bytes::from(value.to_owned()));
            ((*key).into(), value)
        });
        let state = StateEffects {
            plugin: "p".into(),
            reads: Vec::new(),
            writes: writes.collect(),
        };
        Ends::of(&Conclusion {
            verdict: Verdict::Ack,
            effects: Effects {
                publishes,
                state: Some(Box::new(state)),
            },
        })
    }

    #[test]
    fn what_differs_is_named() {
        let replies = "replies".parse().unwrap();
        let compare = |one: &Ends, other: &Ends| {
            let found = compare(one, other, Some(&replies), true);
            let found = found.into_iter().map(|it| (it.what, it.live, it.shadow));
            found.collect::<Vec<_>>()
        };
        let live = ends("ok", &["a", "b"], &[("k", Some("1")), ("l", None)]);
        assert_eq!(compare(&live, &live), []);
        let other = ends("no", &["a", "c"], &[("k", Some("2")), ("m", Some("3"))]);
        let text = |what: &str, live: &str, shadow: &str| {
            (what.to_owned(), live.to_owned(), shadow.to_owned())
        };
        assert_eq!(
            compare(&live, &other),
            [
                text("message 2 to out", "b", "c"),
                text("reply", "ok", "no"),
                text("state k", "1", "2"),
                text("state l", "removed", "-"),
                text("state m", "-", "3"),
            ]
        );
        let mut failed = live.clone();
        failed.verdict = "dead letter, failed: no".to_owned();
        failed.publishes.clear();
        let found = compare(&live, &failed);
        assert_eq!(found[0], text("verdict", "done", "dead letter, failed: no"));
        assert_eq!(found.len(), 4, "{found:?}");
    }

    #[test]
    fn long_texts_are_cut() {
        let long = "ä".repeat(500);
        let found = compare(&ends("", &[&long], &[]), &ends("", &["b"], &[]), None, true);
        assert_eq!(found[0].live.chars().count(), LONGEST + 1);
    }
}
