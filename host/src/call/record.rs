//! What a call asked of the host and did, in order: recorded as it happens, and given again when a failed attempt is run
//! once more.
//!
//! Cheap as long as nothing fails: what is published and written is kept by the call anyway, and only its place is noted.

use std::sync::Arc;

use bytes::Bytes;

use super::Call;
use crate::http::{Again, Exchange};
use crate::message::{Headers, Message, Payload, Status};
use crate::plugin::Secrets;
use crate::store::{Answer, Blob, Journal, Step};
use crate::topic::TopicName;

/// One step of a call in progress.
#[derive(Debug)]
pub(super) enum Did {
    /// The value is among the reads of the call.
    Read(Arc<str>),
    /// A page of keys.
    Listed(Box<Listed>),
    Wrote(Arc<str>, Option<Bytes>),
    /// The number of the message among those that it published.
    Published(usize),
    Asked(Box<Asked>),
    Fetched(Arc<Exchange>),
}

#[derive(Debug)]
pub(super) struct Listed {
    pub(super) prefix: String,
    pub(super) after: Option<String>,
    pub(super) keys: Vec<String>,
}

#[derive(Debug)]
pub(super) struct Asked {
    pub(super) topic: TopicName,
    pub(super) content: Bytes,
    pub(super) answer: Result<Arc<Message>, Answer>,
}

/// An attempt that is run again, for the calls that ask.
#[derive(Debug, Clone, Default)]
pub struct Replay {
    /// What its randomness is made of.
    pub(crate) seed: Option<[u8; 32]>,
    /// The answers to its requests that were not given yet, each with the topic and the content of its request.
    answers: Vec<(String, Vec<u8>, Answer)>,
    /// Those to its requests over HTTP.
    pub(super) fetched: Arc<Again>,
}

impl Replay {
    /// Gives everything again that was recorded.
    #[must_use]
    pub fn of(journal: &Journal) -> Self {
        let seed = journal.seed.as_ref();
        let answers = journal.steps.iter().filter_map(|step| match step {
            Step::Asked {
                topic,
                content,
                answer,
            } => Some((topic.clone(), content.0.clone(), answer.clone())),
            _ => None,
        });
        Self {
            seed: seed.and_then(|seed| seed.0.as_slice().try_into().ok()),
            answers: answers.collect(),
            fetched: Arc::new(Again::of(journal)),
        }
    }

    /// The answer that such a request got; each is given once.
    fn answer(&mut self, request: &Message, secrets: &Secrets) -> Option<Answer> {
        // As it was recorded.
        let mut asked = request.payload.content.to_vec();
        secrets.redact_bytes(&mut asked);
        let to = secrets.redact(request.topic.as_str());
        let same =
            |(topic, content, _): &(String, Vec<u8>, Answer)| *topic == to && *content == asked;
        let at = self.answers.iter().position(same)?;
        Some(self.answers.remove(at).2)
    }
}

impl Call {
    /// The answer that such a request got when this attempt was made; `None` if nothing is run again.
    ///
    /// # Errors
    /// What the request failed with, or that there was no such request.
    pub(crate) fn answered(&mut self, request: &Message) -> Option<Result<Arc<Message>, Answer>> {
        let replay = self.replay.as_mut()?;
        let secrets = &self.access.grants.secrets;
        let answer = replay.answer(request, secrets).unwrap_or_else(|| {
            Answer::Unavailable(format!(
                "the attempt that is run again sent no such request to `{}`; requests are not sent while it is tried",
                request.topic
            ))
        });
        Some(match answer {
            Answer::Reply {
                status,
                headers,
                content,
            } => Ok(reply(request, status, &headers, content)),
            failed => Err(failed),
        })
    }

    /// What its randomness is made of when it is run again.
    pub(crate) fn replayed_seed(&self) -> Option<[u8; 32]> {
        self.replay.as_ref()?.seed
    }

    /// A request was answered, or was not.
    pub(crate) fn asked(
        &mut self,
        topic: TopicName,
        content: Bytes,
        answer: Result<Arc<Message>, Answer>,
    ) {
        self.doing().did.push(Did::Asked(Box::new(Asked {
            topic,
            content,
            answer,
        })));
    }

    /// A page of stored keys was listed.
    pub(crate) fn listed(&mut self, prefix: &str, after: Option<&str>, keys: &[String]) {
        self.doing().did.push(Did::Listed(Box::new(Listed {
            prefix: prefix.to_owned(),
            after: after.map(str::to_owned),
            keys: keys.to_vec(),
        })));
    }

    /// What it asked and did so far.
    #[must_use]
    pub fn journal(&self) -> Journal {
        let done = self.done();
        Journal {
            attempt: self.attempt,
            began_ms: self.began_ms,
            seed: done.seed.map(|seed| Blob(seed.to_vec())),
            steps: done.did.iter().filter_map(|did| self.step(did)).collect(),
            cut: false,
        }
    }

    fn step(&self, did: &Did) -> Option<Step> {
        let secrets = &self.access.grants.secrets;
        let written = |bytes: &Bytes| {
            let mut bytes = bytes.to_vec();
            secrets.redact_bytes(&mut bytes);
            Blob(bytes)
        };
        let blob = |bytes: &Option<Bytes>| bytes.as_ref().map(written);
        let name = |text: &str| secrets.redact(text).into_owned();
        Some(match did {
            Did::Read(key) => Step::Read {
                key: name(key),
                value: blob(&self.done().reads.get(key)?.value),
            },
            Did::Listed(listed) => Step::Listed {
                prefix: name(&listed.prefix),
                after: listed.after.as_deref().map(name),
                keys: listed.keys.iter().map(|key| name(key)).collect(),
            },
            Did::Wrote(key, value) => Step::Wrote {
                key: name(key),
                value: blob(value),
            },
            Did::Published(number) => {
                let message = &self.done().publishes.get(*number)?.message;
                Step::Published {
                    topic: name(message.topic.as_str()),
                    content: written(&message.payload.content),
                }
            }
            Did::Asked(asked) => Step::Asked {
                topic: name(asked.topic.as_str()),
                content: written(&asked.content),
                answer: answer(&asked.answer, secrets),
            },
            Did::Fetched(exchange) => super::http::step(exchange, secrets),
        })
    }
}

fn answer(answer: &Result<Arc<Message>, Answer>, secrets: &Secrets) -> Answer {
    let reply = match answer {
        Ok(reply) => &reply.payload,
        Err(failed) => return failed.clone(),
    };
    let headers = reply.headers.iter();
    let mut content = reply.content.to_vec();
    secrets.redact_bytes(&mut content);
    Answer::Reply {
        status: reply.status.code(),
        headers: headers
            .map(|(name, value)| (name.to_owned(), secrets.redact(value).into_owned()))
            .collect(),
        content: Blob(content),
    }
}

fn reply(
    request: &Message,
    status: u16,
    headers: &[(String, String)],
    content: Blob,
) -> Arc<Message> {
    let mut payload = Payload {
        content: content.0.into(),
        headers: Headers::default(),
        status: Status::from_code(status.into()),
    };
    for (name, value) in headers {
        payload.headers.put(name, value);
    }
    Arc::new(Message::identified(
        request.identifier,
        request.topic.clone(),
        payload,
    ))
}
