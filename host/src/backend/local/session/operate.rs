//! What an operator asks for, passed on to the owner's backend and store.

use super::super::answer::{Answer, Report};
use super::super::convert::parse;
use super::super::frame::Illegible;
use super::super::protocol::Operation;
use super::Session;
use crate::backend::BackendError;

/// The most letters of one page, so that it fits into a frame.
const PAGE: u32 = 1_000;

impl Session {
    pub(super) async fn operate(&self, operation: Operation<'_>) -> Result<Answer, Illegible> {
        let (backend, store) = (&self.owner.backend, &self.owner.store);
        let stored = match operation {
            Operation::Letters {
                filter,
                before,
                limit,
            } => {
                let limit = limit.min(PAGE) as usize;
                let page = store.letters(&filter, before, limit).await;
                page.map(Report::Letters)
            }
            Operation::Letter(id) => {
                let letter = store.letter(id).await;
                letter.map(|letter| Report::Letter(letter.map(Box::new)))
            }
            Operation::CountLetters(filter) => {
                store.count_letters(&filter).await.map(Report::Counts)
            }
            Operation::ReplayLetters(part, to) => {
                store.replay_letters(&part, &to).await.map(Report::Done)
            }
            Operation::PurgeLetters(part) => store.purge_letters(&part).await.map(Report::Done),
            Operation::Overview => {
                let overview = backend.overview().await.map(Report::Overview);
                return Ok(overview.map_or_else(Answer::Failed, Answer::Operated));
            }
            Operation::PurgeQueue(name) => {
                let purged = backend.purge_queue(&parse(name)?).await;
                let purged = purged.map(Report::Purged);
                return Ok(purged.map_or_else(Answer::Failed, Answer::Operated));
            }
            Operation::Host(question) => {
                let Some(steward) = &self.owner.steward else {
                    let nobody =
                        "what owns this data folder is no host; start one with `sandbar run`";
                    return Ok(Answer::Failed(BackendError::Invalid(nobody.to_owned())));
                };
                let answer = steward.ask(question).await;
                return Ok(Answer::Operated(Report::Host(answer)));
            }
        };
        Ok(stored.map_or_else(Answer::StoreFailed, Answer::Operated))
    }
}
