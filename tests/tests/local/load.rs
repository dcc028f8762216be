//! Many messages over several connections: each is handled exactly once.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

const MESSAGES: usize = 10_000;
const CLIENTS: usize = 4;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_clients_handle_each_message_once() -> Outcome {
    let host = Host::start()?;
    let queue = host.broker.queue("q", &["t"]).await?;
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let twice = Arc::new(AtomicUsize::new(0));
    let mut running = tokio::task::JoinSet::new();
    for part in 0..CLIENTS {
        let client = host.client().await?;
        let (queue, seen, twice) = (queue.clone(), seen.clone(), twice.clone());
        running.spawn(async move {
            let publish = async {
                for start in (0..MESSAGES / CLIENTS).step_by(100) {
                    let numbers = start..start + 100;
                    let texts: Vec<String> = numbers.map(|n| format!("{part}.{n}")).collect();
                    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
                    client.send("t", &texts).await.expect("they fit");
                }
            };
            let consume = async {
                while seen.lock().expect("no panic").len() < MESSAGES {
                    let mut taken = client
                        .backend
                        .receive(&queue, 64, NEVER)
                        .await
                        .expect("it runs");
                    // Some go back, as if their handler had been cancelled.
                    if taken.len() > 3 {
                        taken.pop();
                    }
                    let texts = contract::texts(&taken);
                    client.ack(taken).await.expect("they are held");
                    let mut seen = seen.lock().expect("no panic");
                    let again = texts
                        .into_iter()
                        .filter(|text| !seen.insert(text.clone()))
                        .count();
                    twice.fetch_add(again, Ordering::Relaxed);
                }
            };
            tokio::join!(publish, consume);
        });
    }
    while let Some(ended) = tokio::time::timeout(3 * SOON, running.join_next()).await? {
        ended?;
    }
    assert_eq!(twice.load(Ordering::Relaxed), 0);
    host.broker.nothing(&queue).await
}
