//! Publishing and settling in batches that fit into frames.
//!
//! A piece of a batch of publishes waits for the piece before it, so that messages stay in order. Settlements take
//! their order at once, all pieces of a batch one after the other.

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;

use super::super::answer::{Answer, UNEXPECTED};
use super::super::connection::{Ticket, Unsent};
use super::super::protocol::{Call, Ending, Sent};
use super::super::{MAX_FRAME, size};
use super::LocalBackend;
use crate::backend::{Backend as _, Outgoing, PublishError, Receipt, SettleError, Settlement};

/// Where batches are cut.
const BATCH: usize = MAX_FRAME / 2;

type Published = Vec<Result<Receipt, PublishError>>;
type Settled = Vec<Result<(), SettleError>>;

impl LocalBackend {
    pub(super) async fn publish_batch(&self, batch: &[Outgoing]) -> Published {
        let mut results = Vec::with_capacity(batch.len());
        for piece in size::pieces(batch, BATCH, size::outgoing) {
            results.extend(self.publish_piece(piece).await);
        }
        results
    }

    async fn publish_piece(&self, piece: &[Outgoing]) -> Published {
        let _share = self
            .requests
            .share(piece.iter().map(size::outgoing).sum())
            .await;
        let asked = self
            .connection
            .ask(Call::Publish(piece.iter().map(Sent::from).collect()));
        let ticket = match asked {
            Ok(ticket) => ticket,
            Err(Unsent::Lost(lost)) => return vec![Err(lost.into()); piece.len()],
            // A piece of several messages fits, so this is a single one.
            Err(Unsent::TooLong(error)) => {
                let limit = self.capabilities().max_content;
                return vec![
                    Err(PublishError::TooLarge {
                        size: error.0,
                        limit
                    });
                    piece.len()
                ];
            }
        };
        match ticket.wait().await {
            Ok(Answer::Published(results)) if results.len() == piece.len() => results,
            Ok(_) => vec![Err(PublishError::Unavailable(UNEXPECTED.to_owned())); piece.len()],
            Err(lost) => vec![Err(lost.into()); piece.len()],
        }
    }

    pub(super) fn settle_batch(&self, batch: Vec<Settlement>) -> BoxFuture<'static, Settled> {
        let pieces = size::pieces(&batch, BATCH, size::settlement);
        let asked: Vec<_> = pieces
            .into_iter()
            .map(|piece| self.settle_piece(piece))
            .collect();
        async move {
            let mut results = Vec::with_capacity(batch.len());
            for (count, asked) in asked {
                results.extend(conclude(count, asked).await);
            }
            results
        }
        .boxed()
    }

    fn settle_piece(&self, piece: &[Settlement]) -> (usize, Result<Ticket, SettleError>) {
        let asked = self
            .connection
            .ask(Call::Settle(piece.iter().map(Ending::from).collect()));
        let asked = asked.map_err(|unsent| match unsent {
            Unsent::Lost(lost) => SettleError::from(lost),
            // What one handler caused is more than fits; the delivery must not stay leased for it.
            Unsent::TooLong(error) => {
                piece
                    .iter()
                    .for_each(|settlement| self.connection.release(settlement.token));
                SettleError::Refused(PublishError::TooLarge {
                    size: error.0,
                    limit: MAX_FRAME,
                })
            }
        });
        (piece.len(), asked)
    }
}

async fn conclude(count: usize, asked: Result<Ticket, SettleError>) -> Settled {
    let error = match asked {
        Err(error) => error,
        Ok(ticket) => match ticket.wait().await {
            Ok(Answer::Settled(results)) if results.len() == count => return results,
            Ok(_) => SettleError::Unavailable(UNEXPECTED.to_owned()),
            Err(lost) => lost.into(),
        },
    };
    vec![Err(error); count]
}
