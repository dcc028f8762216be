//! How answers get into the queue of the writer: long lists in parts, deliveries remembered as they leave.

use super::super::answer::Answer;
use super::super::frame::TooLong;
use super::super::{PART, size};
use super::{Session, lock};
use crate::backend::BackendError;

impl Session {
    /// Queues an answer; waits while there are too many. Without a client it is dropped, with what it holds.
    pub(super) async fn reply(&self, id: u64, answer: Answer) {
        match answer {
            Answer::Delivered(list) => {
                self.parts(id, list, size::delivery, Answer::Delivered)
                    .await
            }
            Answer::Letters(list) => self.parts(id, list, size::letter, Answer::Letters).await,
            Answer::Keys(list) => {
                self.parts(id, list, |key| key.len() + 5, Answer::Keys)
                    .await
            }
            answer => {
                let Ok(slot) = self.replies.reserve().await else {
                    return;
                };
                if let Ok(frame) = answer.write(id, false).or_else(|error| too_long(id, error)) {
                    slot.send(frame);
                }
            }
        }
    }

    async fn parts<T>(
        &self,
        id: u64,
        list: Vec<T>,
        size: impl Fn(&T) -> usize,
        answer: impl Fn(Vec<T>) -> Answer,
    ) {
        let mut rest = list.into_iter().peekable();
        loop {
            let Ok(slot) = self.replies.reserve().await else {
                return;
            };
            // From here to the end of the round nothing waits: what is held was sent, and what wasn't goes back.
            let (mut part, mut bytes) = (Vec::new(), 0);
            while let Some(item) =
                rest.next_if(|item| part.is_empty() || bytes + size(item) <= PART)
            {
                bytes += size(&item);
                part.push(item);
            }
            let more = rest.peek().is_some();
            let answer = answer(part);
            match answer.write(id, more) {
                Ok(frame) => {
                    if let Answer::Delivered(list) = answer {
                        let mut held = lock(&self.held);
                        held.extend(
                            list.into_iter()
                                .map(|delivery| (delivery.token(), delivery)),
                        );
                    }
                    slot.send(frame);
                }
                Err(error) => {
                    if let Ok(frame) = too_long(id, error) {
                        slot.send(frame);
                    }
                    return;
                }
            }
            if !more {
                return;
            }
        }
    }
}

/// What is said instead of something that doesn't fit.
fn too_long(id: u64, error: TooLong) -> Result<Vec<u8>, TooLong> {
    let text = format!("what the host would answer cannot be sent: {error}");
    Answer::Failed(BackendError::Invalid(text)).write(id, false)
}
