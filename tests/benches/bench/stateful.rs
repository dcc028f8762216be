//! Messages whose settlements write state: a reply, a key that marks the message as seen, and a value, all in the
//! transaction that ends it.

use std::sync::Arc;

use futures_util::future::join_all;
use sandbar::backend::{
    Backend as _, Delivery, Effects, Outgoing, PostgresBackend, Queue, QueueSpec, Settlement,
    Verdict,
};
use sandbar::message::Message;
use sandbar::store::{StateEffects, Store as _};
use sandbar::topic::TopicName;
use sandbar::wire::{Form, decode};
use sandbar_tests::servers::postgres::Postgres;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::driver::{Load, Run};
use super::measure::{cpu, now};
use super::postgres::open;

const BATCH: usize = 512;
/// Messages on their way.
const OUTSTANDING: usize = 8_192;
/// Receivers at once.
const RECEIVERS: usize = 3;
const PLUGIN: &str = "stateful";

/// Publishes, handles and answers messages; verifies replies and state.
pub(crate) async fn stateful(server: &Postgres, count: usize) -> Load {
    let backend = open(server).await;
    let topic: TopicName = "work".parse().unwrap();
    let spec = QueueSpec::new("work".parse().unwrap(), vec![topic.clone().into()]);
    let queue = backend.declare_queue(spec).await.unwrap().queue;
    let run = Run::new(&backend, count, 200).await;
    let room = Arc::new(Semaphore::new(OUTSTANDING));
    let (began, processor) = (now(), cpu());
    let mut working = JoinSet::new();
    for _ in 0..RECEIVERS {
        working.spawn(handle(backend.clone(), queue.clone()));
    }
    let publisher = {
        let (run, room, backend) = (run.clone(), room.clone(), backend.clone());
        tokio::spawn(async move {
            for first in (0..count).step_by(BATCH) {
                let numbers = first..count.min(first + BATCH);
                let permits = room.acquire_many(numbers.len() as u32).await.unwrap();
                permits.forget();
                let batch = numbers.map(|number| run.outgoing(number, topic.clone(), now()));
                let backend = backend.clone();
                let batch = batch.collect();
                tokio::spawn(async move {
                    for result in backend.publish(batch).await {
                        result.unwrap();
                    }
                });
            }
        })
    };
    let spread = run.receive(&backend, Some(&room)).await;
    let (seconds, processor) = (began.elapsed().as_secs_f64(), cpu() - processor);
    publisher.await.unwrap();
    run.end(&backend).await;
    for kind in ["seen.", "value."] {
        let keys = backend
            .state_keys(PLUGIN, kind, None, count + 1)
            .await
            .unwrap();
        assert_eq!(keys.len(), count, "void, keys are missing");
    }
    // Ends the receivers.
    backend.close().await;
    while working.join_next().await.is_some() {}
    Load {
        rate: count as f64 / seconds,
        cpu_us: processor.as_secs_f64() * 1e6 / count as f64,
        spread,
    }
}

async fn handle(backend: Arc<PostgresBackend>, queue: Queue) {
    let wait = std::time::Duration::from_secs(60);
    while let Ok(batch) = backend.receive(&queue, BATCH, wait).await {
        let settlements = join_all(batch.into_iter().map(|one| answer(&backend, one))).await;
        let settling = backend.settle(settlements);
        tokio::spawn(async move {
            for result in settling.await {
                result.unwrap();
            }
        });
    }
}

async fn answer(backend: &PostgresBackend, delivery: Delivery) -> Settlement {
    let message = decode(Form::Native, &delivery.packet).unwrap();
    let identifier = message.identifier.simple();
    let keys: [Arc<str>; 2] = ["seen", "value"].map(|kind| format!("{kind}.{identifier}").into());
    let [seen, value] = &keys;
    let (seen_before, value_before) = tokio::join!(
        backend.state_get(PLUGIN, seen),
        backend.state_get(PLUGIN, value)
    );
    let (seen_before, value_before) = (seen_before.unwrap(), value_before.unwrap());
    assert!(seen_before.value.is_none(), "void, a message came twice");
    let state = StateEffects {
        plugin: PLUGIN.into(),
        reads: vec![
            (seen.clone(), seen_before.version),
            (value.clone(), value_before.version),
        ],
        writes: keys
            .iter()
            .map(|key| (key.clone(), Some(bytes::Bytes::from_static(&[b'x'; 16]))))
            .collect(),
    };
    let reply = message.reply_topic.clone().unwrap();
    let reply = Message::new(reply, message.payload.clone());
    let effects = Effects {
        publishes: vec![Outgoing::new(reply)],
        state: Some(Box::new(state)),
    };
    delivery.settle(Verdict::Ack, effects)
}
