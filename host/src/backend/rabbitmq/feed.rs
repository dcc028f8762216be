//! The consumer of one queue: it is made when somebody wants messages, made again whenever it ends, and given up when
//! nobody wants them any more.
//!
//! What it delivers waits in memory, unacknowledged, until a receiver takes it; the prefetch bounds how much that is. With
//! the channel everything that came over it is stale.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use lapin::message::Delivery;
use lapin::options::{
    BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions, QueueBindOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Consumer};
use tokio::sync::Notify;

use super::arrived::Arrived;
use super::connect::Session;
use super::failure::{Failure, answer};
use super::link::{Backoff, next_epoch};
use super::shared::{Feed, Shared};
use super::topology::{QUEUES, arguments, short};
use crate::backend::table::Carried as _;
use crate::backend::table::Entry;
use crate::backend::{BackendError, QueueName};
use crate::queue::{Item, Slot};

/// How long a consumer stays although nobody wants its messages, because somebody may come back.
const LINGER: Duration = Duration::from_secs(2);
/// How often a silent consumer is asked whether it is still there.
const PROBE: Duration = Duration::from_secs(15);
/// Deliveries that enter the queue in memory at once.
const CHUNK: usize = 64;

/// Says that the messages of a queue are wanted, as long as it lives.
#[derive(Debug)]
pub(super) struct Interest {
    shared: Arc<Shared>,
    slot: Slot,
    number: u64,
}

impl Drop for Interest {
    fn drop(&mut self) {
        if let Some(entry) = self.shared.lock().feed(self.slot, self.number) {
            let feed = &mut entry.extra;
            feed.interest = feed.interest.saturating_sub(1);
            if feed.interest == 0 {
                feed.idle.notify_one();
            }
        }
    }
}

/// One consumer from its beginning to its end.
struct Consuming {
    shared: Arc<Shared>,
    slot: Slot,
    number: u64,
    queue: QueueName,
}

/// Why a consumer ended.
enum End {
    /// Nobody wants its messages, or the broker is closed.
    Unwanted,
    /// There is no such queue.
    Gone,
    Failed(Failure),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        if failure.no_queue() {
            Self::Gone
        } else {
            Self::Failed(failure)
        }
    }
}

impl Shared {
    /// Wants the messages of a queue that is known, and has them consumed.
    pub(super) fn want(self: &Arc<Self>, name: &QueueName) -> Result<Interest, BackendError> {
        let mut inner = self.open()?;
        let (slot, entry) = inner.table.named(name)?;
        let feed = &mut entry.extra;
        feed.interest += 1;
        let number = feed.number;
        if !feed.running {
            feed.running = true;
            let consuming = Consuming {
                shared: self.clone(),
                slot,
                number,
                queue: name.clone(),
            };
            self.tasks.spawn(consuming.run());
        }
        Ok(Interest {
            shared: self.clone(),
            slot,
            number,
        })
    }
}

impl Consuming {
    async fn run(self) {
        let mut backoff = Backoff::new();
        let stop = self.shared.stop.clone();
        while let Some(end) = stop.run_until_cancelled(self.once()).await {
            let end = match end {
                End::Gone => self.restore().await,
                end => end,
            };
            match end {
                End::Unwanted if self.leave() => return,
                End::Unwanted => backoff = Backoff::new(),
                End::Gone => return self.remove(),
                End::Failed(failure) => {
                    tracing::debug!(queue = %self.queue, "{failure}; consuming again");
                    if failure.not_found() {
                        self.shared.publisher.find_incomplete();
                    }
                    self.forget(Some(failure));
                    let pause = tokio::time::sleep(backoff.next());
                    if stop.run_until_cancelled(pause).await.is_none() {
                        return;
                    }
                }
            }
        }
    }

    /// Consumes until something happens.
    async fn once(&self) -> End {
        let session = loop {
            match self.shared.link.session(LINGER).await {
                Ok(session) => break session,
                Err(None) => return End::Unwanted,
                Err(Some(_)) if self.is_unwanted() => return End::Unwanted,
                Err(Some(failure)) => self.forget(Some(failure)),
            }
        };
        let begun = async {
            self.shared.complete(&session).await?;
            self.consume(&session).await
        };
        match begun.await {
            Ok((channel, consumer)) => self.deliver(&session, channel, consumer).await,
            Err(failure) => {
                if failure.is_silence() {
                    session.give_up();
                }
                failure.into()
            }
        }
    }

    async fn consume(&self, session: &Session) -> Result<(Arc<Channel>, Consumer), Failure> {
        // Otherwise the server attaches a consumer again to a classic queue that crashed, or moved, and delivers what is
        // held here a second time over the same channel.
        let tell = arguments([("x-cancel-on-ha-failover", AMQPValue::Boolean(true))]);
        match self.consume_with(session, tell).await {
            // Other kinds of queues don't do that, and refuse to be told.
            Err(failure) if failure.refused() => {
                self.consume_with(session, FieldTable::default()).await
            }
            consuming => consuming,
        }
    }

    async fn consume_with(
        &self,
        session: &Session,
        arguments: FieldTable,
    ) -> Result<(Arc<Channel>, Consumer), Failure> {
        let name = || short(self.queue.as_str());
        let channel = Arc::new(session.channel().await?);
        // What waits for a retry comes back through here.
        let (options, nothing) = (QueueBindOptions::default(), FieldTable::default());
        answer(channel.queue_bind(name(), short(QUEUES), name(), options, nothing)).await?;
        self.qos(&channel).await?;
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(name(), short(""), options, arguments);
        let consumer = answer(consumer).await?;
        Ok((channel, consumer))
    }

    async fn qos(&self, channel: &Channel) -> Result<(), Failure> {
        let prefetch = self.shared.options.prefetch;
        answer(channel.basic_qos(prefetch, BasicQosOptions::default())).await
    }

    /// Hands over what arrives.
    async fn deliver(&self, session: &Session, channel: Arc<Channel>, consumer: Consumer) -> End {
        let tag = consumer.tag();
        let Some(idle) = self.begin() else {
            return End::Unwanted;
        };
        let mut arriving = consumer.ready_chunks(CHUNK);
        let mut lingering = false;
        loop {
            let wait = if lingering { LINGER } else { PROBE };
            tokio::select! {
                chunk = arriving.next() => {
                    let Some(chunk) = chunk else {
                        return End::Failed(Failure::new("RabbitMQ has cancelled the consumer"));
                    };
                    if let Err(end) = self.arrive(&channel, chunk) {
                        return end;
                    }
                }
                () = idle.notified() => lingering = true,
                () = tokio::time::sleep(wait) => {
                    if self.is_unwanted() {
                        return self.stop(&channel, tag.as_str()).await;
                    }
                    lingering = self.with(|entry| entry.extra.interest == 0).unwrap_or(true);
                    // The server has to look at the channel to answer this.
                    if let Err(failure) = self.qos(&channel).await {
                        if failure.is_silence() {
                            session.give_up();
                        }
                        return failure.into();
                    }
                }
            }
        }
    }

    /// From now on what arrives comes from a new consumer.
    fn begin(&self) -> Option<Arc<Notify>> {
        let epoch = next_epoch();
        self.renew(epoch, None);
        self.with(|entry| entry.extra.idle.clone())
    }

    fn arrive(
        &self,
        channel: &Arc<Channel>,
        chunk: Vec<Result<Delivery, lapin::Error>>,
    ) -> Result<(), End> {
        let mut end = Ok(());
        let mut settled = Vec::new();
        let arrived: Vec<Arrived> = chunk
            .into_iter()
            .map_while(|delivery| match delivery {
                Ok(delivery) => Some(Arrived::new(channel.clone(), delivery)),
                Err(error) => {
                    end = Err(Failure::from(error).into());
                    None
                }
            })
            .filter(|arrived| {
                let identity = || arrived.identity(&self.queue);
                let seen = self.shared.ledger.has_settled(identity);
                if seen {
                    settled.push(arrived.clone());
                }
                !seen
            })
            .collect();
        for arrived in settled {
            // Its acknowledgement was lost; what it caused was not.
            self.shared
                .tasks
                .spawn(async move { arrived.acknowledge().await });
        }
        let mut inner = self.shared.lock();
        let first = inner.next_id;
        let Some(entry) = inner.feed(self.slot, self.number) else {
            return Err(End::Unwanted);
        };
        let mut next = first;
        for value in arrived {
            let item = Item {
                id: next,
                attempts: value.attempts(),
                key: value.key(),
                value,
            };
            next += 1;
            entry.fifo.push(item);
        }
        inner.next_id = next;
        inner.table.touch(self.slot);
        Shared::leave(inner);
        end
    }

    /// Nobody wants the messages, and nobody has one.
    fn is_unwanted(&self) -> bool {
        self.with(|entry| {
            let feed = &entry.extra;
            feed.interest == 0 && feed.settling == 0 && entry.fifo.len() == entry.fifo.ready()
        })
        .unwrap_or(true)
    }

    /// Gives back what nobody took.
    async fn stop(&self, channel: &Channel, tag: &str) -> End {
        let cancel = channel.basic_cancel(short(tag), BasicCancelOptions::default());
        if let Err(failure) = answer(cancel).await {
            return failure.into();
        }
        self.renew(0, None);
        let all = BasicNackOptions {
            multiple: true,
            requeue: true,
        };
        // If this fails, the channel has ended, which gives everything back as well.
        drop(answer(channel.basic_nack(0, all)).await);
        drop(answer(channel.close(200, "nobody consumes".into())).await);
        End::Unwanted
    }

    /// Ends, unless somebody has come back meanwhile.
    fn leave(&self) -> bool {
        let mut inner = self.shared.lock();
        let closed = inner.closed;
        let Some(entry) = inner.feed(self.slot, self.number) else {
            return true;
        };
        let feed = &mut entry.extra;
        let leaves = closed || feed.interest == 0;
        feed.running = !leaves;
        leaves
    }

    /// Everything that came over a channel that has ended is stale.
    fn forget(&self, why: Option<Failure>) {
        self.renew(0, why);
    }

    fn renew(&self, epoch: u64, trouble: Option<Failure>) {
        let mut inner = self.shared.lock();
        if inner.feed(self.slot, self.number).is_none() {
            return;
        }
        inner.table.renew(self.slot);
        if let Some(entry) = inner.table.entry(self.slot) {
            let feed = &mut entry.extra;
            feed.epoch = epoch;
            feed.settling = 0;
            feed.trouble.send_replace(trouble);
            entry.hurry();
        }
    }

    /// A queue that was declared here and deleted by somebody else is declared again; any other is gone.
    async fn restore(&self) -> End {
        let ours = |entry: &mut Entry<Feed, Arrived>| entry.extra.ours.then(|| entry.spec.clone());
        let Some(spec) = self.with(ours).flatten() else {
            return End::Gone;
        };
        tracing::warn!(queue = %self.queue, "the queue was deleted on the server, with the messages in it; it is declared again");
        self.forget(None);
        match self.shared.declare(&spec).await {
            Ok(()) => End::Unwanted,
            Err(failure) => End::Failed(failure),
        }
    }

    /// There is no such queue any more; whoever waits for its messages learns that.
    fn remove(&self) {
        let mut inner = self.shared.lock();
        if inner.feed(self.slot, self.number).is_some()
            && let Some((slot, _)) = inner.table.hide(&self.queue)
        {
            inner.table.remove(slot);
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut Entry<Feed, Arrived>) -> T) -> Option<T> {
        self.shared.lock().feed(self.slot, self.number).map(f)
    }
}
