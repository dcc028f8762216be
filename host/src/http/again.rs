//! Answers that requests got before, for calls that send nothing: an attempt that is run again, a version in the shadow.
//!
//! Pure. Each answer is given once, to a request that says the same.

use std::sync::{Mutex, PoisonError};

use crate::plugin::Secrets;
use crate::store::{Blob, Fetched, Journal, Step};

/// What was recorded, and not given yet.
#[derive(Debug, Default)]
pub(crate) struct Again {
    answers: Mutex<Vec<Recorded>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Recorded {
    method: String,
    url: String,
    pub(super) content: Vec<u8>,
    pub(super) cut: bool,
    pub(super) answer: Fetched,
}

impl Again {
    /// Everything that the journal has.
    pub(crate) fn of(journal: &Journal) -> Self {
        let answers = journal.steps.iter().filter_map(|step| match step {
            Step::Fetched {
                method,
                url,
                content: Blob(content),
                cut,
                answer,
                ..
            } => Some(Recorded {
                method: method.clone(),
                url: url.clone(),
                content: content.clone(),
                cut: *cut,
                answer: answer.clone(),
            }),
            _ => None,
        });
        Self {
            answers: Mutex::new(answers.collect()),
        }
    }

    /// The answer that such a request got.
    pub(super) fn answer(
        &self,
        method: &str,
        url: &str,
        sent: &[u8],
        secrets: &Secrets,
    ) -> Option<Recorded> {
        // As it was recorded.
        let url = secrets.redact(url);
        let mut sent = sent.to_vec();
        secrets.redact_bytes(&mut sent);
        let same = |recorded: &Recorded| {
            let content = if recorded.cut {
                sent.starts_with(&recorded.content)
            } else {
                sent == recorded.content
            };
            recorded.method == method && recorded.url == url && content
        };
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        let at = answers.iter().position(same)?;
        Some(answers.remove(at))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::store::BodyEnd;

    #[test]
    fn an_answer_is_given_once_to_the_same_request() {
        let step = |url: &str, content: &[u8], cut, status| Step::Fetched {
            method: "POST".to_owned(),
            url: url.to_owned(),
            headers: Vec::new(),
            content: Blob(content.to_vec()),
            cut,
            answer: Fetched::Response {
                status,
                headers: Vec::new(),
                content: Blob::default(),
                end: BodyEnd::Whole,
            },
        };
        let again = Again::of(&Journal {
            steps: vec![
                step("http://a/?k=[secret K]", b"x [secret K]", false, 200),
                step("http://b/", b"one", true, 201),
                step("http://b/", b"one", true, 202),
            ],
            ..Journal::default()
        });
        let secrets = Secrets::new(BTreeMap::from([("K".to_owned(), "hunter2".to_owned())]));
        for (method, url, sent, expected) in [
            ("GET", "http://a/?k=hunter2", &b"x hunter2"[..], None),
            ("POST", "http://a/?k=hunter2", b"x", None),
            ("POST", "http://a/?k=hunter2", b"x hunter2", Some(200)),
            ("POST", "http://a/?k=hunter2", b"x hunter2", None),
            ("POST", "http://b/", b"one and more", Some(201)),
            ("POST", "http://b/", b"on", None),
            ("POST", "http://b/", b"one", Some(202)),
        ] {
            let found = again.answer(method, url, sent, &secrets);
            let status = found.map(|found| match found.answer {
                Fetched::Response { status, .. } => status,
                other => panic!("{other:?}"),
            });
            assert_eq!(status, expected, "{method} {url}");
        }
    }
}
