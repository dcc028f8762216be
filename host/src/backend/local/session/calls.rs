//! What each request does: the same call of the owner's backend or store, for what this connection may touch.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use super::super::answer::Answer;
use super::super::convert::{list, parse};
use super::super::frame::{self, Illegible};
use super::super::protocol::{Call, Ending, Request};
use super::super::{MAX_HELD, MAX_RECEIVED};
use super::{Session, lock};
use crate::backend::{BackendError, Delivery, Queue, QueueName, QueueSpec, SettleError, Token};

type Settled = Vec<Result<(), SettleError>>;

impl Session {
    /// Does what a request asks for. Whoever sends what cannot be understood is not answered.
    pub(super) async fn answer(self: &Arc<Self>, frame: &Bytes) -> Result<(), Illegible> {
        let Request { id, call } = frame::read(frame)?;
        let answer = match call {
            Call::Release(mark) => {
                let released = lock(&self.held).remove(&mark.into());
                drop(released);
                return Ok(());
            }
            Call::Cancel(wait) => {
                if let Some(wait) = lock(&self.waits).remove(&wait) {
                    wait.cancel();
                }
                return Ok(());
            }
            Call::Receive { queue, max, wait } => {
                let queue = Queue {
                    name: parse(queue)?,
                };
                match self.receive(id, &queue, max, wait).await {
                    Some(received) => received.map(Answer::Delivered),
                    None => return Ok(()),
                }
            }
            Call::Publish(batch) => {
                let batch = list(batch, |sent| sent.read(frame))?;
                Ok(Answer::Published(self.owner.backend.publish(batch).await))
            }
            Call::Settle(batch) => Ok(Answer::Settled(self.settle(batch, frame)?.await)),
            Call::Extend { tokens, lease } => {
                let tokens = tokens.into_iter().map(Token::from).collect();
                Ok(Answer::Settled(self.extend(tokens, lease).await))
            }
            Call::DeclareQueue(spec) => self.declare(spec.read()?).await,
            Call::DeleteQueue(name) => {
                let name: QueueName = parse(name)?;
                lock(&self.ephemeral).remove(&name);
                self.owner
                    .backend
                    .delete_queue(&name)
                    .await
                    .map(|()| Answer::Done)
            }
            Call::Operate(operation) => Ok(self.operate(operation).await?),
            call => self.pass_on(call).await?,
        };
        self.reply(id, answer.unwrap_or_else(Answer::Failed)).await;
        Ok(())
    }

    /// Calls that have nothing to do with the connection they came on.
    async fn pass_on(&self, call: Call<'_>) -> Result<Result<Answer, BackendError>, Illegible> {
        let (backend, store) = (&self.owner.backend, &self.owner.store);
        let stored = match call {
            Call::Health => {
                return Ok(backend
                    .health()
                    .await
                    .map(|health| Answer::Health(health.detail)));
            }
            Call::DeclareTopic(topic) => {
                return Ok(backend
                    .declare_topic(&parse(topic)?)
                    .await
                    .map(|()| Answer::Done));
            }
            Call::DeleteTopic(topic) => {
                return Ok(backend
                    .delete_topic(&parse(topic)?)
                    .await
                    .map(|()| Answer::Done));
            }
            Call::GetQueue(name) => {
                return Ok(backend.get_queue(&parse(name)?).await.map(Answer::Queue));
            }
            Call::StateGet { plugin, key } => store.state_get(plugin, key).await.map(Answer::Value),
            Call::StateKeys {
                plugin,
                prefix,
                after,
                limit,
            } => store
                .state_keys(plugin, prefix, after, limit as usize)
                .await
                .map(Answer::Keys),
            Call::StateSize(plugin) => store.state_size(plugin).await.map(Answer::Size),
            Call::DeadLetters { limit } => store
                .dead_letters(limit as usize)
                .await
                .map(Answer::Letters),
            _ => return Err(Illegible("a request is answered elsewhere".to_owned())),
        };
        Ok(Ok(stored.unwrap_or_else(Answer::StoreFailed)))
    }

    async fn declare(&self, spec: QueueSpec) -> Result<Answer, BackendError> {
        let (name, ephemeral) = (spec.name.clone(), spec.ephemeral);
        let declared = self.owner.backend.declare_queue(spec).await?;
        if ephemeral {
            lock(&self.ephemeral).insert(name);
        } else {
            lock(&self.ephemeral).remove(&name);
        }
        Ok(Answer::Declared(declared))
    }

    /// `None` when nobody waits any more: it was cancelled, or the connection ends and says so itself.
    async fn receive(
        &self,
        id: u64,
        queue: &Queue,
        max: u32,
        wait: Duration,
    ) -> Option<Result<Vec<Delivery>, BackendError>> {
        let held = lock(&self.held).len();
        if held >= MAX_HELD {
            let text =
                format!("this connection holds {held} deliveries; settle some of them first");
            return Some(Err(BackendError::Unavailable(text)));
        }
        let waiting = Waiting::new(self, id);
        let max = (max as usize).min(MAX_RECEIVED);
        tokio::select! {
            biased;
            () = waiting.cancelled.cancelled() => None,
            received = self.owner.backend.receive(queue, max, wait) => Some(received),
        }
    }

    /// Settles what this connection holds, in the order of the calls of this method. The rest is stale.
    fn settle(
        &self,
        batch: Vec<Ending<'_>>,
        frame: &Bytes,
    ) -> Result<impl Future<Output = Settled> + use<>, Illegible> {
        let batch = list(batch, |ending| ending.read(frame))?;
        let mut known = Vec::with_capacity(batch.len());
        let mut settlements = Vec::with_capacity(batch.len());
        let mut held = lock(&self.held);
        for (token, verdict, effects) in batch {
            let delivery = held.remove(&token);
            known.push(delivery.is_some());
            settlements.extend(delivery.map(|delivery| delivery.settle(verdict, effects)));
        }
        drop(held);
        let settled = self.owner.backend.settle(settlements);
        Ok(async move { merge(&known, settled.await) })
    }

    async fn extend(&self, mut tokens: Vec<Token>, lease: Duration) -> Settled {
        let known: Vec<bool> = {
            let held = lock(&self.held);
            tokens
                .iter()
                .map(|token| held.contains_key(token))
                .collect()
        };
        let mut each = known.iter();
        tokens.retain(|_| each.next().copied().unwrap_or(false));
        merge(&known, self.owner.backend.extend(&tokens, lease).await)
    }
}

/// Results for all of a batch, of which the backend saw only what is known.
fn merge(known: &[bool], results: Settled) -> Settled {
    let mut results = results.into_iter();
    let result = |known: &bool| {
        known
            .then(|| results.next())
            .flatten()
            .unwrap_or(Err(SettleError::Stale))
    };
    known.iter().map(result).collect()
}

/// A wait that can be cancelled as long as this exists.
struct Waiting<'a> {
    session: &'a Session,
    id: u64,
    cancelled: CancellationToken,
}

impl<'a> Waiting<'a> {
    fn new(session: &'a Session, id: u64) -> Self {
        let cancelled = session.ending.child_token();
        lock(&session.waits).insert(id, cancelled.clone());
        Self {
            session,
            id,
            cancelled,
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        lock(&self.session.waits).remove(&self.id);
    }
}
