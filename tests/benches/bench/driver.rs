//! One load driver for all brokers: keeps a bounded number of messages on their way, and verifies that each reply comes
//! once with the content of its request. Anything else ends the run.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream::{FuturesUnordered, StreamExt as _};
use sandbar::backend::{Backend, Delivery, Effects, Outgoing, Queue, QueueSpec, Verdict};
use sandbar::control::{Host, HostOptions, ServedPlugin};
use sandbar::dispatch::{Dispatcher, Kind, Request};
use sandbar::message::{Message, Payload};
use sandbar::plugin::PluginSpec;
use sandbar::store::Store;
use sandbar::topic::TopicName;
use sandbar::wire::{Form, decode};
use sandbar_tests::guests::guest;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::measure::{cpu, now};
use super::stats::Spread;

/// The most messages in one publish and in one receive.
const BATCH: usize = 512;
/// Publishes that may be on their way at once.
const PUBLISHERS: usize = 8;
/// The most bytes of content on their way at once.
const BYTES: usize = 64 << 20;
/// How long a reply may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The number of a message is at the start of its content.
const NUMBER: usize = 8;

/// What the driver sends.
#[derive(Debug, Clone)]
pub(crate) struct Work {
    /// In turn to each of these.
    pub(crate) topics: Vec<TopicName>,
    /// How many messages.
    pub(crate) count: usize,
    /// How large, in bytes.
    pub(crate) size: usize,
    /// How many may be on their way at once.
    pub(crate) outstanding: usize,
}

impl Work {
    /// Messages of 200 bytes to `echo`.
    pub(crate) fn echo(count: usize) -> Self {
        Self {
            topics: vec!["echo".parse().unwrap()],
            count,
            size: 200,
            outstanding: 8192,
        }
    }
}

/// What a run of the driver measured.
#[derive(Debug, Clone)]
pub(crate) struct Load {
    /// Messages for each second, each with its reply.
    pub(crate) rate: f64,
    /// Processor time for each message in microseconds, driver included.
    pub(crate) cpu_us: f64,
    /// From publishing to the reply.
    pub(crate) spread: Spread,
}

/// Who answers.
pub(crate) enum Handler {
    /// A closure of the host.
    Native,
    /// Plugins.
    Plugins(Vec<PluginSpec>),
}

impl Handler {
    /// `plugins/echo` with default limits.
    pub(crate) fn echo() -> Self {
        Self::Plugins(vec![PluginSpec::from_file(&guest("echo"))])
    }
}

/// A host on a broker.
pub(crate) async fn host<B: Backend + Store + 'static>(backend: &Arc<B>, handler: Handler) -> Host {
    let mut options = HostOptions::default();
    match handler {
        Handler::Native => {
            let mut dispatcher = Dispatcher::default();
            let echo = |request: Request| async move { Ok(Some(Payload::new(request.content()))) };
            dispatcher
                .action(Kind::Command, "echo".parse().unwrap(), echo)
                .unwrap();
            options.native = Some(dispatcher);
        }
        Handler::Plugins(specs) => {
            options.plugins = specs.into_iter().map(ServedPlugin::new).collect();
        }
    }
    Host::start(backend.clone(), backend.clone(), options)
        .await
        .unwrap()
}

/// Ends a host, after making sure that nothing that it was sent has become a dead letter.
pub(crate) async fn stop<B: Store>(host: Host, backend: &Arc<B>) {
    assert!(host.stop(Duration::from_secs(10)).await, "it stops in time");
    let dead = backend.dead_letters(1).await.unwrap();
    assert!(dead.is_empty(), "void, a message was not handled: {dead:?}");
}

/// Sends the work and waits for all replies.
pub(crate) async fn drive<B: Backend + 'static>(backend: &Arc<B>, work: &Work) -> Load {
    let run = Run::new(backend, work.count, work.size).await;
    let most = (BYTES / work.size.max(1)).clamp(1, work.outstanding);
    let batch = BATCH.min(most.div_ceil(PUBLISHERS));
    let room = Arc::new(Semaphore::new(most));
    let next = Arc::new(AtomicUsize::new(0));
    let (began, cpu_before) = (now(), cpu());
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|_| {
            let (run, room, next) = (run.clone(), room.clone(), next.clone());
            let (backend, work) = (backend.clone(), work.clone());
            tokio::spawn(async move {
                loop {
                    let first = next.fetch_add(batch, Ordering::Relaxed);
                    let last = work.count.min(first + batch);
                    if first >= last {
                        return;
                    }
                    let size = u32::try_from(last - first).unwrap();
                    room.acquire_many(size).await.unwrap().forget();
                    let sent = now();
                    let topic = |number: usize| work.topics[number % work.topics.len()].clone();
                    let messages = (first..last).map(|n| run.outgoing(n, topic(n), sent));
                    for result in backend.publish(messages.collect()).await {
                        result.unwrap();
                    }
                }
            })
        })
        .collect();
    let spread = run.receive(backend, Some(&room)).await;
    let seconds = began.elapsed().as_secs_f64();
    let cpu_us = (cpu() - cpu_before).as_secs_f64() * 1e6 / work.count as f64;
    for publisher in publishers {
        publisher.await.unwrap();
    }
    run.end(backend).await;
    Load {
        rate: work.count as f64 / seconds,
        cpu_us,
        spread,
    }
}

/// Messages on their way, and how to tell that they came back as they should.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    began: Instant,
    reply_topic: TopicName,
    queue: Queue,
    /// What every message holds behind its number.
    filling: Bytes,
    /// When each was sent, in nanoseconds since the run began.
    sent: Arc<[AtomicU64]>,
}

impl Run {
    /// `count` messages of `size` bytes, with a durable queue for their replies.
    pub(crate) async fn new<B: Backend>(backend: &Arc<B>, count: usize, size: usize) -> Self {
        let reply_topic: TopicName = format!("replies.{}", Uuid::now_v7().simple())
            .parse()
            .unwrap();
        let name = reply_topic.as_str().parse().unwrap();
        let spec = QueueSpec::new(name, vec![reply_topic.clone().into()]);
        let filling: Vec<u8> = (NUMBER..size.max(NUMBER)).map(|n| n as u8).collect();
        Self {
            began: now(),
            reply_topic,
            queue: backend.declare_queue(spec).await.unwrap().queue,
            filling: filling.into(),
            sent: (0..count).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// The message of that number. `sent` is the moment from which its reply is waited for.
    pub(crate) fn outgoing(&self, number: usize, topic: TopicName, sent: Instant) -> Outgoing {
        let nanos = sent.saturating_duration_since(self.began).as_nanos();
        self.sent[number].store(nanos as u64, Ordering::Relaxed);
        let mut content = Vec::with_capacity(NUMBER + self.filling.len());
        content.extend_from_slice(&(number as u64).to_le_bytes());
        content.extend_from_slice(&self.filling);
        let message = Message::new(topic, Payload::new(content));
        Outgoing::new(message.with_reply_topic(self.reply_topic.clone()))
    }

    /// Takes all replies, checks them, and settles them.
    pub(crate) async fn receive<B: Backend>(
        &self,
        backend: &Arc<B>,
        room: Option<&Semaphore>,
    ) -> Spread {
        let mut missing: Vec<bool> = vec![true; self.sent.len()];
        let mut left = missing.len();
        let mut spread = Spread::default();
        let mut settling = FuturesUnordered::new();
        while left > 0 {
            let next = backend.receive(&self.queue, BATCH, PATIENCE);
            tokio::pin!(next);
            // Settling goes on while we wait, as it would in any consumer that prefetches.
            let batch = loop {
                tokio::select! {
                    batch = &mut next => break batch.unwrap(),
                    Some(results) = settling.next() => settled(results),
                }
            };
            assert!(!batch.is_empty(), "void, {left} replies are missing");
            let arrived = self.began.elapsed();
            left -= batch.len();
            if let Some(room) = room {
                room.add_permits(batch.len());
            }
            let mut settlements = Vec::with_capacity(batch.len());
            for delivery in batch {
                let number = self.check(&delivery);
                assert!(
                    std::mem::take(&mut missing[number]),
                    "void, reply {number} came twice"
                );
                let sent = Duration::from_nanos(self.sent[number].load(Ordering::Relaxed));
                spread.add(arrived.saturating_sub(sent));
                settlements.push(delivery.settle(Verdict::Ack, Effects::default()));
            }
            settling.push(backend.settle(settlements));
        }
        while let Some(results) = settling.next().await {
            settled(results);
        }
        spread
    }

    /// The queue of the replies.
    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    /// The number of a reply that is as it should be.
    pub(crate) fn check(&self, delivery: &Delivery) -> usize {
        let reply = decode(Form::Native, &delivery.packet).unwrap();
        assert!(reply.ok(), "void, a reply has status {:?}", reply.payload);
        let (number, rest) = reply.payload.content.split_at(NUMBER);
        let number = u64::from_le_bytes(number.try_into().unwrap()) as usize;
        assert!(rest == self.filling, "void, reply {number} was changed");
        number
    }

    /// Makes sure that nothing more comes, and removes the queue.
    pub(crate) async fn end<B: Backend>(self, backend: &Arc<B>) {
        let more = backend.receive(&self.queue, BATCH, Duration::ZERO).await;
        let more: HashSet<usize> = more.unwrap().iter().map(|it| self.check(it)).collect();
        assert!(more.is_empty(), "void, these came twice: {more:?}");
        backend.delete_queue(&self.queue.name).await.unwrap();
    }
}

fn settled<E: std::fmt::Debug>(results: Vec<Result<(), E>>) {
    for result in results {
        result.unwrap();
    }
}
