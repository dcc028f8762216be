//! Publishers with an outbox, in front of one that fails as it is told.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use sandbar::backend::{
    Backend, Destination, EmbeddedBackend, EmbeddedOptions, MemoryBackend, Outgoing, PublishError,
    Receipt,
};
use sandbar::publisher::{
    BackendPublisher, Publisher, PublisherBuilder, QueuedOptions, QueuedPublisher,
};
use sandbar::retry::RetryPolicy;
use sandbar::store::{Reason, Store};
use sandbar_tests::contract::{Failure, Outcome, SOON};
use tokio::sync::mpsc;

use super::{memory, message, text, waiting};

/// A publisher that does what it is told, one thing for each message, and then takes everything.
#[derive(Debug)]
struct Behind {
    script: Mutex<VecDeque<Does>>,
    taken: mpsc::Sender<Outgoing>,
}

#[derive(Debug, Clone, Copy)]
enum Does {
    Take,
    Fail,
    Panic,
    Hang,
}

impl Behind {
    fn new(script: &[Does]) -> (Arc<Self>, mpsc::Receiver<Outgoing>) {
        let (taken, receiver) = mpsc::channel(1_000);
        let script = Mutex::new(script.iter().copied().collect());
        (Arc::new(Self { script, taken }), receiver)
    }
}

#[async_trait]
impl Publisher for Behind {
    async fn send_batch(&self, batch: Vec<Outgoing>) -> Vec<Result<Receipt, PublishError>> {
        let mut results = Vec::new();
        for outgoing in batch {
            let does = self.script.lock().unwrap().pop_front();
            results.push(match does.unwrap_or(Does::Take) {
                Does::Take => {
                    self.taken.try_send(outgoing).unwrap();
                    Ok(Receipt { queues: 1 })
                }
                Does::Fail => Err(PublishError::Unavailable("as told".to_owned())),
                Does::Panic => panic!("as told"),
                Does::Hang => std::future::pending().await,
            });
        }
        results
    }
}

fn options() -> QueuedOptions {
    QueuedOptions {
        backoff: RetryPolicy {
            initial: Duration::from_millis(1),
            max: Duration::from_millis(5),
            ..RetryPolicy::default()
        },
        ..QueuedOptions::default()
    }
}

async fn queued(
    behind: Arc<dyn Publisher>,
    outbox: Arc<dyn Backend>,
    options: QueuedOptions,
) -> Result<QueuedPublisher, Failure> {
    Ok(QueuedPublisher::start(behind, outbox, "outbox".parse()?, options).await?)
}

async fn taken(
    receiver: &mut mpsc::Receiver<Outgoing>,
    count: usize,
) -> Result<Vec<String>, Failure> {
    let mut texts = Vec::new();
    for _ in 0..count {
        let outgoing = tokio::time::timeout(SOON, receiver.recv()).await?;
        texts.push(text(&outgoing.ok_or("the publisher is gone")?.message));
    }
    Ok(texts)
}

/// Failures that pass, panics among them, delay messages and lose, repeat or reorder none.
#[tokio::test]
async fn an_outbox_keeps_the_order_through_failures() -> Outcome {
    use Does::{Fail, Panic, Take};
    let (behind, mut receiver) = Behind::new(&[Fail, Fail, Take, Take, Panic, Take, Fail, Panic]);
    let publisher = queued(behind, memory(), options()).await?;
    let all: Vec<String> = (0..20).map(|n| n.to_string()).collect();
    for text in &all {
        publisher.send(message("t", text)?.into()).await?;
    }
    tokio::time::timeout(SOON, publisher.flush()).await?;
    assert_eq!(taken(&mut receiver, 20).await?, all);
    assert!(receiver.try_recv().is_err(), "each once");
    assert_eq!((publisher.failures().await, publisher.waiting()), (5, 0));
    Ok(())
}

/// What was sent is forwarded by the next publisher on the same outbox when the first one cannot.
#[tokio::test]
async fn an_outbox_on_disk_survives_the_end() -> Outcome {
    let folder = tempfile::tempdir()?;
    let open = || EmbeddedBackend::open(folder.path(), EmbeddedOptions::default());
    {
        let outbox = Arc::new(open().await?);
        let (hangs, _receiver) = Behind::new(&[Does::Hang]);
        let publisher = queued(hangs, outbox.clone(), options()).await?;
        for text in ["1", "2", "3"] {
            publisher.send(message("t", text)?.into()).await?;
        }
        assert_eq!(publisher.waiting(), 3);
        publisher.close().await;
        outbox.close().await;
    }
    let outbox = Arc::new(open().await?);
    let (behind, mut receiver) = Behind::new(&[]);
    let publisher = queued(behind, outbox.clone(), options()).await?;
    publisher.send(message("t", "4")?.into()).await?;
    assert_eq!(taken(&mut receiver, 4).await?, ["1", "2", "3", "4"]);
    tokio::time::timeout(SOON, publisher.flush()).await?;
    assert!(waiting(&*outbox, "outbox").await?.is_empty());
    publisher.close().await;
    outbox.close().await;
    Ok(())
}

/// More than its capacity is refused, and there is room again when something has left.
#[tokio::test]
async fn an_outbox_is_bounded() -> Outcome {
    let (behind, mut receiver) = Behind::new(&[Does::Fail; 3]);
    let options = QueuedOptions {
        capacity: 2,
        ..options()
    };
    let publisher = queued(behind, memory(), options).await?;
    let batch = ["1", "2", "3"].map(|text| message("t", text).map(Outgoing::new));
    let results = publisher
        .send_batch(batch.into_iter().collect::<Result<_, _>>()?)
        .await;
    let full = PublishError::Full("outbox".parse()?);
    assert_eq!(
        results.iter().map(Result::is_ok).collect::<Vec<_>>(),
        [true, true, false]
    );
    assert_eq!(results[2], Err(full));
    tokio::time::timeout(SOON, publisher.flush()).await?;
    publisher.send(message("t", "4")?.into()).await?;
    assert_eq!(taken(&mut receiver, 3).await?, ["1", "2", "4"]);
    // Another limit is that of the queue itself; what it refuses is not counted as waiting.
    let (hangs, _receiver) = Behind::new(&[Does::Hang]);
    let small = Arc::new(MemoryBackend::with_capacity(1));
    let publisher = queued(hangs, small, self::options()).await?;
    publisher.send(message("t", "1")?.into()).await?;
    assert!(publisher.send(message("t", "2")?.into()).await.is_err());
    assert_eq!(publisher.waiting(), 1);
    Ok(())
}

/// A message that no publisher would ever take stops nobody behind it.
#[tokio::test]
async fn what_is_never_accepted_becomes_a_dead_letter() -> Outcome {
    let (outbox, broker) = (memory(), memory());
    broker
        .declare_queue(sandbar_tests::contract::spec("q", &["t"])?)
        .await?;
    let behind = Arc::new(BackendPublisher::new(broker.clone()));
    let publisher = queued(behind, outbox.clone(), options()).await?;
    let unroutable = Outgoing {
        mandatory: true,
        ..message("nowhere", "1")?.into()
    };
    let unknown = Outgoing {
        to: Destination::Queue("nope".parse()?),
        ..message("t", "2")?.into()
    };
    for outgoing in [unroutable, unknown, message("t", "3")?.into()] {
        publisher.send(outgoing).await?;
    }
    tokio::time::timeout(SOON, publisher.flush()).await?;
    assert_eq!(waiting(&*broker, "q").await?, ["3"]);
    let letters = outbox.dead_letters(9).await?;
    let reasons: Vec<Reason> = letters.iter().map(|letter| letter.reason).collect();
    assert_eq!(reasons, [Reason::NoHandler, Reason::NoHandler]);
    assert!(letters.iter().all(|letter| letter.queue == "outbox"));
    Ok(())
}

/// Where a message goes, its key and its delay are what they were, and nothing is added to it.
#[tokio::test]
async fn an_outbox_changes_nothing_of_a_message() -> Outcome {
    let (behind, mut receiver) = Behind::new(&[]);
    let publisher = PublisherBuilder::new()
        .with_backend(memory())
        .with_queue(memory(), "outbox".parse()?)
        .build()
        .await?;
    publisher.send(message("t", "built")?.into()).await?;
    publisher.close().await;

    let publisher = queued(behind, memory(), options()).await?;
    let mut sent = Outgoing {
        to: Destination::Queue("q".parse()?),
        key: Some("k".into()),
        mandatory: true,
        delay: Duration::from_millis(20),
        ..message("t", "1")?.multicast().into()
    };
    sent.message.payload.headers.insert("mine", "1")?;
    publisher.send(sent.clone()).await?;
    let got = tokio::time::timeout(SOON, receiver.recv()).await?;
    // The delay has passed in the outbox.
    sent.delay = Duration::ZERO;
    assert_eq!(got, Some(sent));
    Ok(())
}

/// Somebody may delete the queue of an outbox; what is sent later goes through a new one.
#[tokio::test]
async fn an_outbox_that_is_deleted_is_declared_again() -> Outcome {
    let outbox = memory();
    let (behind, mut receiver) = Behind::new(&[]);
    let publisher = queued(behind, outbox.clone(), options()).await?;
    publisher.send(message("t", "1")?.into()).await?;
    assert_eq!(taken(&mut receiver, 1).await?, ["1"]);
    outbox.delete_queue(&"outbox".parse()?).await?;
    let sent = async {
        // Refused until the pump has noticed.
        while publisher.send(message("t", "2")?.into()).await.is_err() {
            tokio::task::yield_now().await;
        }
        Outcome::Ok(())
    };
    tokio::time::timeout(SOON, sent).await??;
    assert_eq!(taken(&mut receiver, 1).await?, ["2"]);
    Ok(())
}
