//! The socket of a data folder: what goes through it is what the owner's backend would have done, and whatever ends,
//! nothing stays behind and nothing hangs.
//!
//! The contract runs over it as well, served by a memory backend. How long things take is not tested here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::local::{Server, serve};
use sandbar::backend::{
    BackendError, Effects, LocalBackend, MemoryBackend, Outgoing, PublishError, Queue, SettleError,
    SourceEvent, Verdict,
};
use sandbar_tests::contract::{self, Broker, Failure, NEVER, Outcome, SOON};

#[path = "local/ends.rs"]
mod ends;
#[path = "local/load.rs"]
mod load;
#[path = "local/open.rs"]
mod open;
#[path = "local/socket.rs"]
mod socket;

/// An owner with its folder.
struct Host {
    broker: Broker,
    server: Option<Server>,
    folder: PathBuf,
    _root: tempfile::TempDir,
}

impl Host {
    fn start() -> Result<Self, Failure> {
        Self::start_in("data")
    }

    fn start_in(folder: &str) -> Result<Self, Failure> {
        let root = tempfile::tempdir()?;
        let folder = root.path().join(folder);
        std::fs::create_dir_all(&folder)?;
        let memory = Arc::new(MemoryBackend::new());
        let broker = Broker {
            backend: memory.clone(),
            store: memory,
        };
        let server = serve(&folder, broker.backend.clone(), broker.store.clone())?;
        Ok(Self {
            broker,
            server: Some(server),
            folder,
            _root: root,
        })
    }

    async fn client(&self) -> Result<Broker, BackendError> {
        connect(&self.folder).await
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("sandbar.sock")
    }

    async fn stop(&mut self) -> Outcome {
        let server = self.server.take().ok_or("it runs")?;
        Ok(tokio::time::timeout(SOON, server.close()).await?)
    }
}

async fn connect(folder: &Path) -> Result<Broker, BackendError> {
    let local = Arc::new(LocalBackend::connect(folder).await?);
    Ok(Broker {
        backend: local.clone(),
        store: local,
    })
}

mod the_contract {
    use super::*;

    macro_rules! cases {
        ($($case:ident)*) => {$(
            #[tokio::test]
            async fn $case() -> Outcome {
                let host = Host::start()?;
                contract::$case(host.client().await?).await
            }
        )*};
    }
    sandbar_tests::contract_cases!(cases);
    sandbar_tests::letter_cases!(cases);
    sandbar_tests::queue_cases!(cases);
}

#[tokio::test]
async fn it_has_the_capabilities_of_the_owner_and_names_it() -> Outcome {
    let host = Host::start()?;
    let client = host.client().await?;
    assert_eq!(
        client.backend.capabilities(),
        host.broker.backend.capabilities()
    );
    let detail = client.backend.health().await?.detail;
    assert!(detail.contains(&std::process::id().to_string()), "{detail}");
    Ok(())
}

#[tokio::test]
async fn a_batch_of_any_size_keeps_its_order() -> Outcome {
    let host = Host::start()?;
    let client = host.client().await?;
    let queue = client.queue("q", &["t"]).await?;
    // More than fits into a frame, in publishing, in one answer and in settling.
    let content = "x".repeat(3 << 20);
    let numbered = |n: usize| contract::message("t", &format!("{n} {content}"));
    let batch: Result<Vec<_>, _> = (0..24).map(numbered).collect();
    assert!(
        client
            .backend
            .publish(batch?)
            .await
            .iter()
            .all(Result::is_ok)
    );
    let taken = client.take(&queue, 24).await?;
    for (n, text) in contract::texts(&taken).iter().enumerate() {
        assert!(
            text.starts_with(&format!("{n} ")),
            "{n} is {:?}",
            text.get(..4)
        );
    }
    let effects =
        |text: String| contract::message("t", &text).map(|out| contract::publishing(vec![out]));
    let mut settlements = Vec::new();
    for (n, delivery) in taken.into_iter().enumerate() {
        settlements.push(delivery.settle(Verdict::Ack, effects(format!("{n} {content}"))?));
    }
    let results = client.backend.settle(settlements).await;
    assert_eq!(results, vec![Ok(()); 24]);
    let again = client.take(&queue, 24).await?;
    assert!(
        contract::texts(&again)
            .iter()
            .enumerate()
            .all(|(n, text)| text.starts_with(&format!("{n} ")))
    );
    Ok(())
}

#[tokio::test]
async fn what_does_not_fit_is_refused_and_gives_its_delivery_back() -> Outcome {
    let host = Host::start()?;
    let client = host.client().await?;
    let queue = client.queue("q", &["t"]).await?;
    let large = contract::message("t", &"x".repeat(40 << 20))?;
    let refused = client.publish(large.clone()).await;
    assert!(
        matches!(refused, Err(PublishError::TooLarge { .. })),
        "{refused:?}"
    );
    client.send("t", &["a"]).await?;
    let delivery = client.one(&queue).await?;
    let settled = client
        .settle(delivery.settle(Verdict::Ack, contract::publishing(vec![large])))
        .await;
    assert!(
        matches!(settled, Err(SettleError::Refused(_))),
        "{settled:?}"
    );
    assert_eq!(client.one(&queue).await?.attempt, 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settlements_take_their_order_when_they_are_made() -> Outcome {
    const COUNT: usize = 500;
    let host = Host::start()?;
    let client = host.client().await?;
    let queue = client.queue("q", &["t"]).await?;
    client.send("t", &[""; COUNT]).await?;
    let mut pending = Vec::new();
    for (n, delivery) in client.take(&queue, COUNT).await?.into_iter().enumerate() {
        let effects = contract::writing(&[], &[("k", Some(&n.to_string()))]);
        pending.push(
            client
                .backend
                .settle(vec![delivery.settle(Verdict::Ack, effects)]),
        );
    }
    // Nobody has waited for them, and yet the next call sees the last of them.
    let found = client.store.state_get("p", "k").await?;
    assert_eq!(
        found.value.as_deref(),
        Some((COUNT - 1).to_string().as_bytes())
    );
    for settled in pending.into_iter().rev() {
        assert_eq!(settled.await, [Ok(())]);
    }
    Ok(())
}

#[tokio::test]
async fn what_another_connection_holds_is_stale() -> Outcome {
    let host = Host::start()?;
    let (one, other) = (host.client().await?, host.client().await?);
    let queue = one.queue("q", &["t"]).await?;
    one.send("t", &["a"]).await?;
    let delivery = one.one(&queue).await?;
    let token = delivery.token();
    assert_eq!(
        other.backend.extend(&[token], SOON).await,
        [Err(SettleError::Stale)]
    );
    let settlement = delivery.settle(Verdict::Ack, Effects::default());
    assert_eq!(
        other.settle(settlement.clone()).await,
        Err(SettleError::Stale)
    );
    assert_eq!(one.backend.extend(&[token], SOON).await, [Ok(())]);
    assert_eq!(one.settle(settlement).await, Ok(()));
    Ok(())
}

#[tokio::test]
async fn a_client_gets_its_reply_from_a_native_responder() -> Outcome {
    let host = Host::start()?;
    let queue = host.broker.queue("squares", &["square"]).await?;
    let backend = host.broker.backend.clone();
    let responder = tokio::spawn(async move {
        let Ok(mut source) = backend.clone().subscribe(&queue).await else {
            return;
        };
        while let SourceEvent::Delivered(batch) = source.next(16).await {
            for delivery in batch {
                let reply = square(&delivery).unwrap_or_default();
                drop(
                    backend
                        .settle(vec![
                            delivery.settle(Verdict::Ack, contract::publishing(reply)),
                        ])
                        .await,
                );
            }
        }
    });
    let client = sandbar::client::Client::connect(host.client().await?.backend).await?;
    let questions: Result<Vec<_>, _> = (0..50_u64)
        .map(|n| contract::message("square", &n.to_string()))
        .collect();
    let asked = questions?
        .into_iter()
        .map(|question| client.request(question.message, SOON));
    let replies = futures_util::future::join_all(asked).await;
    for (n, reply) in (0..50_u64).zip(replies) {
        assert_eq!(reply?.payload.content, (n * n).to_string());
    }
    client.close().await;
    responder.abort();
    Ok(())
}

fn square(delivery: &sandbar::backend::Delivery) -> Result<Vec<Outgoing>, Failure> {
    let message = contract::content(delivery)?;
    let n: u64 = std::str::from_utf8(&message.payload.content)?.parse()?;
    let to = message.reply_topic.clone().ok_or("no reply is wanted")?;
    let reply = contract::message(to.as_str(), &(n * n).to_string())?;
    Ok(vec![Outgoing {
        message: reply.message.with_identifier(message.identifier),
        ..reply
    }])
}
