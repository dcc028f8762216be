//! One load driver for all brokers: publishes in batches, keeps a bounded number of messages outstanding, and verifies
//! that each reply comes once with the content of its request.

use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::{Backend, Effects, Outgoing, Queue, QueueSpec, Verdict};
use sandbar::control::{Host, HostOptions, ServedPlugin};
use sandbar::dispatch::{Dispatcher, Kind};
use sandbar::message::{Message, Payload};
use sandbar::plugin::PluginSpec;
use sandbar::store::Store;
use sandbar::topic::TopicName;
use sandbar::wire::{Form, decode};
use sandbar_tests::guests::guest;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::measure::{cpu, now};

/// Messages that may be on their way at once.
const OUTSTANDING: usize = 8192;
/// Messages in one publish.
const BATCH: usize = 512;

/// What a run of the driver measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    /// Messages for each second, each with its reply.
    pub(crate) rate: f64,
    /// Processor time for each message, driver included.
    pub(crate) cpu_us: f64,
}

/// A host that serves `echo` as a plugin or as a native action.
pub(crate) async fn host(backend: Arc<dyn Backend>, store: Arc<dyn Store>, native: bool) -> Host {
    let mut options = HostOptions::default();
    if native {
        let mut dispatcher = Dispatcher::default();
        let echo = |request: sandbar::dispatch::Request| async move {
            Ok(Some(Payload::new(request.content())))
        };
        dispatcher
            .action(Kind::Command, "echo".parse().unwrap(), echo)
            .unwrap();
        options.native = Some(dispatcher);
    } else {
        options
            .plugins
            .push(ServedPlugin::new(PluginSpec::from_file(&guest("echo"))));
    }
    Host::start(backend, store, options).await.unwrap()
}

/// Sends `count` messages of `size` bytes to `echo` and waits for all replies.
pub(crate) async fn drive(backend: Arc<dyn Backend>, count: usize, size: usize) -> Load {
    let reply: TopicName = format!("bench.{}", Uuid::now_v7().simple())
        .parse()
        .unwrap();
    let spec = QueueSpec::new(reply.as_str().parse().unwrap(), vec![reply.clone().into()]);
    let queue = backend.declare_queue(spec).await.unwrap().queue;
    let room = Arc::new(Semaphore::new(OUTSTANDING));
    let (began, cpu_before) = (now(), cpu());
    let receiver = tokio::spawn(receive(backend.clone(), queue.clone(), room.clone(), count));
    let mut content = vec![b'x'; size.max(8)];
    let mut sent = 0;
    while sent < count {
        let batch = BATCH.min(count - sent);
        room.acquire_many(u32::try_from(batch).unwrap())
            .await
            .unwrap()
            .forget();
        let messages = (sent..sent + batch).map(|number| {
            content[..8].copy_from_slice(&(number as u64).to_le_bytes());
            let message = Message::new("echo".parse().unwrap(), Payload::new(content.clone()));
            Outgoing::new(message.with_reply_topic(reply.clone()))
        });
        for result in backend.publish(messages.collect()).await {
            result.unwrap();
        }
        sent += batch;
    }
    receiver.await.unwrap();
    let seconds = began.elapsed().as_secs_f64();
    let cpu_us = (cpu() - cpu_before).as_secs_f64() * 1e6 / count as f64;
    backend.delete_queue(&queue.name).await.unwrap();
    Load {
        rate: count as f64 / seconds,
        cpu_us,
    }
}

async fn receive(backend: Arc<dyn Backend>, queue: Queue, room: Arc<Semaphore>, count: usize) {
    let mut seen = vec![false; count];
    let mut left = count;
    while left > 0 {
        let batch = backend
            .receive(&queue, BATCH, Duration::from_secs(30))
            .await
            .unwrap();
        assert!(!batch.is_empty(), "{left} replies are missing");
        let arrived = batch.len();
        let mut settlements = Vec::with_capacity(arrived);
        for delivery in batch {
            let message = decode(Form::Native, &delivery.packet).unwrap();
            assert!(message.ok());
            let number = message.payload.content[..8].try_into().unwrap();
            let number = u64::from_le_bytes(number) as usize;
            assert!(
                !std::mem::replace(&mut seen[number], true),
                "reply {number} came twice"
            );
            settlements.push(delivery.settle(Verdict::Ack, Effects::default()));
        }
        room.add_permits(arrived);
        left -= arrived;
        for result in backend.settle(settlements).await {
            result.unwrap();
        }
    }
}
