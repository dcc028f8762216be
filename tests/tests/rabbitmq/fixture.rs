//! Brokers on a server, and short ways to do things with them.

use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::{
    Delivery, Effects, Outgoing, Queue, QueueSpec, RabbitMqBackend, RabbitMqOptions, Source,
    SourceEvent, Verdict,
};
use sandbar::message::{Message, Payload};
use sandbar::telemetry::{self, LogFormat};
use sandbar::value::Setting;
use sandbar_tests::contract::{self, Broker, Failure};
use tempfile::TempDir;

/// How long anything may take on a machine where everything is tested at once.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A broker with its folder.
pub(crate) struct Opened {
    pub(crate) broker: Broker,
    pub(crate) _folder: TempDir,
}

/// With a short heartbeat, so that silence is noticed soon.
pub(crate) fn options(url: &str) -> RabbitMqOptions {
    RabbitMqOptions {
        url: Setting::new(url),
        heartbeat: Duration::from_secs(2),
        ..RabbitMqOptions::default()
    }
}

pub(crate) async fn open(url: &str) -> Result<Opened, Failure> {
    open_with(options(url)).await
}

pub(crate) async fn open_with(options: RabbitMqOptions) -> Result<Opened, Failure> {
    // What the broker says of itself, for whoever looks for the cause of a failure.
    if let Ok(filter) = std::env::var("RUST_LOG") {
        telemetry::start(&filter, LogFormat::Text)?;
    }
    let folder = tempfile::tempdir()?;
    let backend = Arc::new(RabbitMqBackend::open(folder.path(), options).await?);
    let broker = Broker {
        backend: backend.clone(),
        store: backend,
    };
    Ok(Opened {
        broker,
        _folder: folder,
    })
}

impl Opened {
    /// Messages of a queue of its own group.
    pub(crate) async fn source(&self, queue: &Queue) -> Result<Box<dyn Source>, Failure> {
        Ok(self.broker.backend.clone().subscribe(queue).await?)
    }

    /// Publishes until it is taken, however often the server is away.
    pub(crate) async fn publish_surely(&self, outgoing: Outgoing) {
        while let Err(error) = self.broker.publish(outgoing.clone()).await {
            println!("publishing again: {error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The next event, within patience.
pub(crate) async fn next(source: &mut Box<dyn Source>) -> Result<SourceEvent, Failure> {
    Ok(tokio::time::timeout(PATIENCE, source.next(100)).await?)
}

/// Waits for deliveries and passes over what the source says meanwhile.
pub(crate) async fn delivered(source: &mut Box<dyn Source>) -> Result<Vec<Delivery>, Failure> {
    loop {
        match next(source).await? {
            SourceEvent::Delivered(batch) => return Ok(batch),
            SourceEvent::Fatal(error) => return Err(error.into()),
            SourceEvent::Stalled(_) | SourceEvent::Reconnected => {}
        }
    }
}

/// Waits until the source says that nothing can arrive. Deliveries on the way there are given back.
pub(crate) async fn stalled(source: &mut Box<dyn Source>) -> Result<(), Failure> {
    loop {
        match next(source).await? {
            SourceEvent::Stalled(error) => {
                println!("stalled: {error}");
                return Ok(());
            }
            SourceEvent::Fatal(error) => return Err(error.into()),
            SourceEvent::Delivered(_) | SourceEvent::Reconnected => {}
        }
    }
}

/// Waits until the source says that it works again.
pub(crate) async fn reconnected(source: &mut Box<dyn Source>) -> Result<(), Failure> {
    loop {
        match next(source).await? {
            SourceEvent::Reconnected => return Ok(()),
            SourceEvent::Fatal(error) => return Err(error.into()),
            SourceEvent::Delivered(_) | SourceEvent::Stalled(_) => {}
        }
    }
}

/// A number as a message.
pub(crate) fn numbered(topic: &str, number: usize) -> Result<Outgoing, Failure> {
    let message = Message::new(topic.parse()?, Payload::text(number.to_string()));
    Ok(Outgoing::new(message))
}

/// The number in a delivery.
pub(crate) fn number(delivery: &Delivery) -> Result<usize, Failure> {
    let text = contract::texts(std::slice::from_ref(delivery)).concat();
    Ok(text.parse()?)
}

/// A durable queue of a group of its own.
pub(crate) async fn queue(opened: &Opened, name: &str, topic: &str) -> Result<Queue, Failure> {
    let spec = QueueSpec::new(name.parse()?, vec![topic.parse()?]);
    opened.broker.declare(spec).await
}

/// Ends a delivery without any effect.
pub(crate) async fn ack(opened: &Opened, delivery: Delivery) -> Result<(), Failure> {
    let settlement = delivery.settle(Verdict::Ack, Effects::default());
    Ok(opened.broker.settle(settlement).await?)
}
