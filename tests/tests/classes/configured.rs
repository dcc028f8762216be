//! What is made from a configuration: one broker for all of it, and errors that say what to do.

use sandbar::backend::LocalBackend;
use sandbar::broker::{Broker, BuildError};
use sandbar::client::{Client, ClientPool};
use sandbar::config::{Config, Flags, Options};
use sandbar::publisher::{BackendPublisher, Publisher, PublisherBuilder, QueuedOptions};
use sandbar::retry::RetryPolicy;
use sandbar::subscriber::SubscriberBuilder;
use sandbar_tests::contract::{Failure, Outcome, SOON, spec};

use super::{memory, message, next, text};

fn config(folder: &tempfile::TempDir) -> Result<Config, Failure> {
    let flags = Flags {
        data: Some(folder.path().join("data")),
        ..Flags::default()
    };
    Ok(Config::load(Options {
        flags,
        ..Options::default()
    })?)
}

/// Everything of one configuration shares its broker, which other processes reach meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_of_one_configuration_meets() -> Outcome {
    let folder = tempfile::tempdir()?;
    let config = config(&folder)?;
    let mut subscriber = SubscriberBuilder::from_config(&config)
        .with_topics(["t".parse()?])
        .queued(RetryPolicy::default())
        .build()
        .await?;
    let queued = PublisherBuilder::from_config(&config)
        .queued(QueuedOptions::default())
        .build()
        .await?;
    let plain = BackendPublisher::from_config(&config).await?;
    let client = Client::from_config(&config, Some("mine".parse()?)).await?;
    let pool = ClientPool::from_config(&config).await?;
    queued.send(message("t", "queued")?.into()).await?;
    assert_eq!(text(&*next(&mut *subscriber).await?), "queued");
    plain.send(message("mine", "plain")?.into()).await?;
    assert_eq!(text(&*client.receive().await?), "plain");
    {
        let pooled = pool.acquire().await?;
        pooled.send(message("mine", "pooled")?.into()).await?;
        assert_eq!(text(&*client.receive().await?), "pooled");
    }
    // In the queue of the configuration's group.
    let other = LocalBackend::connect(&config.data.value).await?;
    let other: &dyn sandbar::backend::Backend = &other;
    other.get_queue(&"sandbar.subscriber".parse()?).await?;
    other.get_queue(&"sandbar.outbox".parse()?).await?;
    other
        .get_queue(&"sandbar.subscriber.inbox".parse()?)
        .await?;

    queued.close().await;
    subscriber.close().await;
    client.close().await;
    pool.close().await;
    drop((queued, plain, subscriber, client, pool));
    // The last one has gone, so the folder is free; closing it properly frees it at once.
    Broker::open(&config).await?.close().await;
    let again = Broker::open(&config).await?;
    let queue = again
        .backend()
        .get_queue(&"sandbar.subscriber".parse()?)
        .await?;
    drop(queue);
    again.close().await;
    Ok(())
}

/// Another process owns the folder: everything goes through its socket, and is found again after it has gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_of_another_process_is_used_while_it_lives() -> Outcome {
    let folder = tempfile::tempdir()?;
    let config = config(&folder)?;
    let data = &config.data.value;
    let owner = sandbar::backend::open("embedded", data).await?;
    let server = sandbar::backend::local::serve(data, owner.backend.clone(), owner.store.clone())?;
    let broker = Broker::open(&config).await?;
    assert_eq!(broker.backend().kind(), "local");
    let same = Broker::open(&config).await?;
    assert!(std::sync::Arc::ptr_eq(&broker, &same));
    server.close().await;
    owner.backend.close().await;
    drop(owner);
    let broker = Broker::open(&config).await?;
    assert_eq!(broker.backend().kind(), "embedded");
    broker.close().await;
    Ok(())
}

#[tokio::test]
async fn builders_say_what_is_missing() -> Outcome {
    let text = |error: Option<BuildError>| error.map(|error| error.to_string()).unwrap_or_default();
    let publisher = PublisherBuilder::new();
    assert!(text(publisher.build().await.err()).contains("`with_config`) or a backend"));
    let publisher = PublisherBuilder::new()
        .with_backend(memory())
        .queued(QueuedOptions::default());
    assert!(text(publisher.build().await.err()).contains("no queue was named"));
    let subscriber = SubscriberBuilder::new();
    assert!(text(subscriber.clone().build().await.err()).contains("no topic was named"));
    let subscriber = subscriber.with_topics(["t".parse()?]);
    assert!(text(subscriber.clone().build().await.err()).contains("no broker was named"));
    let subscriber = subscriber.with_backend(memory());
    let queued = subscriber.clone().queued(RetryPolicy::default());
    assert!(text(queued.build().await.err()).contains("no queue was named"));
    let named = subscriber.with_group_id(Some("a b".to_owned()));
    assert!(text(named.build().await.err()).contains("is not legal"));

    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("data"), "a file")?;
    let error = text(Broker::open(&config(&folder)?).await.err());
    assert!(error.contains("is not a folder"), "{error}");
    Ok(())
}

/// A queue that a builder is given may be of any backend, the configuration's group is used, and time is not waited for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_builder_prefers_what_it_is_given() -> Outcome {
    let folder = tempfile::tempdir()?;
    let config = config(&folder)?;
    let (broker, outbox) = (memory(), memory());
    let backend: &dyn sandbar::backend::Backend = &*broker;
    backend.declare_queue(spec("q", &["t"])?).await?;
    let publisher = PublisherBuilder::from_config(&config)
        .with_backend(broker.clone())
        .with_queue(outbox, "box".parse()?)
        .build()
        .await?;
    publisher.send(message("t", "1")?.into()).await?;
    let name = "q".parse()?;
    let queue = sandbar::backend::Queue { name };
    let arrived = backend.receive(&queue, 1, SOON).await?;
    assert_eq!(sandbar_tests::contract::texts(&arrived), ["1"]);
    assert!(
        !config.data.value.exists(),
        "the configured broker was not opened"
    );
    Ok(())
}
