//! A broker that was written outside of the host, `sandbar_tests::own_backend`: the contract suite, unchanged, what it
//! promises itself, and a host that runs on it.

use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::{Backend, BackendError, Effects, Outgoing, QueueSpec, Verdict};
use sandbar::control::{Host, HostOptions};
use sandbar::dispatch::{Dispatcher, Kind};
use sandbar::message::{Message, Payload};
use sandbar::store::Store;
use sandbar_tests::contract::{self, Broker, Outcome};
use sandbar_tests::own_backend::FilesBackend;

/// The folder lives as long as the test that got it.
fn broker() -> Result<(Broker, tempfile::TempDir), contract::Failure> {
    let folder = tempfile::tempdir()?;
    Ok((open(&folder)?, folder))
}

fn open(folder: &tempfile::TempDir) -> Result<Broker, BackendError> {
    let backend = Arc::new(FilesBackend::open(folder.path())?);
    Ok(Broker {
        backend: backend.clone(),
        store: backend,
    })
}

macro_rules! cases {
    ($($case:ident)*) => {$(
        #[tokio::test]
        async fn $case() -> Outcome {
            let (broker, _folder) = broker()?;
            contract::$case(broker).await
        }
    )*};
}
sandbar_tests::contract_cases!(cases);

#[tokio::test]
async fn what_was_confirmed_survives() -> Outcome {
    let (broker, folder) = broker()?;
    let spec = QueueSpec {
        dead_letter: Some(contract::name("dead")?),
        ..contract::spec("q", &["t"])?
    };
    let queue = broker.declare(spec).await?;
    let mut ephemeral = contract::spec("gone", &["t"])?;
    ephemeral.ephemeral = true;
    broker.declare(ephemeral).await?;
    broker.send("kept", &["kept"]).await?;
    broker
        .send("t", &["done", "again", "dead", "held", "binary"])
        .await?;
    broker.publish(contract::keyed("t", "k", "keyed")?).await?;
    let mut taken = broker.take(&queue, 4).await?.into_iter();
    let mut next = || taken.next().ok_or("four");
    let done = next()?.settle(Verdict::Ack, contract::writing(&[], &[("k", Some("v"))]));
    broker.settle(done).await?;
    broker.retry(next()?, Duration::ZERO).await?;
    let dead = next()?;
    let letter = contract::letter(&dead, "no");
    let verdict = Verdict::DeadLetter(Box::new(letter.clone()));
    broker
        .settle(dead.settle(verdict, Effects::default()))
        .await?;
    // As in a crash this one is never settled.
    let held = next()?;
    let refused = open(&folder).err();
    assert!(
        matches!(refused, Some(BackendError::Invalid(_))),
        "one process owns the folder: {refused:?}"
    );
    broker.backend.close().await;

    let broker = open(&folder)?;
    let queue = broker.backend.get_queue(&queue.name).await?;
    let taken = broker.take(&queue, 4).await?;
    assert_eq!(
        contract::texts(&taken),
        ["again", "held", "binary", "keyed"]
    );
    let attempts: Vec<u32> = taken.iter().map(|delivery| delivery.attempt).collect();
    assert_eq!(attempts, [2, 1, 1, 1]);
    assert_eq!(taken[3].key.as_deref(), Some("k"));
    assert_eq!(broker.store.dead_letters(9).await?, [letter]);
    let dead = broker.backend.get_queue(&contract::name("dead")?).await?;
    assert_eq!(contract::texts(&broker.take(&dead, 1).await?), ["dead"]);
    let value = broker.store.state_get("p", "k").await?.value;
    assert_eq!(value.as_deref(), Some(&b"v"[..]));
    let gone = broker.backend.get_queue(&contract::name("gone")?).await;
    assert!(gone.is_err(), "it ended with its process");
    let late = broker.queue("late", &["kept"]).await?;
    assert_eq!(contract::texts(&broker.take(&late, 1).await?), ["kept"]);
    drop(held);
    Ok(())
}

#[tokio::test]
async fn a_line_that_was_cut_off_is_passed_over() -> Outcome {
    let (broker, folder) = broker()?;
    broker.queue("q", &["t"]).await?;
    broker.send("t", &["1"]).await?;
    drop(broker);
    let journal = folder.path().join("journal.jsonl");
    let mut text = std::fs::read_to_string(&journal)?;
    text.push_str("[{\"Message\":{\"id\":9,\"que");
    std::fs::write(&journal, &text)?;
    {
        let broker = open(&folder)?;
        broker.send("t", &["2"]).await?;
    }
    let broker = open(&folder)?;
    let queue = broker.queue("q", &["t"]).await?;
    assert_eq!(contract::texts(&broker.take(&queue, 2).await?), ["1", "2"]);
    drop((broker, queue));
    // Damage in the middle is no such line.
    std::fs::write(&journal, "junk\n")?;
    let error = open(&folder).map(drop).map_err(|error| error.to_string());
    assert!(
        error
            .as_ref()
            .is_err_and(|text| text.contains("is damaged")),
        "{error:?}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_runs_on_it() -> Outcome {
    let (broker, _folder) = broker()?;
    let mut native = Dispatcher::default();
    native.action(Kind::Query, "user.get".parse()?, |request| async move {
        Ok(Some(Payload::new(request.content())))
    })?;
    let options = HostOptions {
        native: Some(native),
        ..HostOptions::default()
    };
    let backend: Arc<dyn Backend> = broker.backend.clone();
    let store: Arc<dyn Store> = broker.store.clone();
    let host = Host::start(backend, store, options).await?;
    let message = Message::new("user.get".parse()?, Payload::text("7"));
    let reply = host.client().request(message, contract::SOON).await?;
    assert_eq!(reply.payload.content, "7");
    assert!(host.stop(contract::SOON).await);
    let nobody = Outgoing {
        mandatory: true,
        ..contract::message("user.gone", "x")?
    };
    assert!(broker.publish(nobody).await.is_err());
    Ok(())
}
