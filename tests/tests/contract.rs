//! The contract of the backends, each case for each of them under a name of its own, and what only one promises.
//!
//! The cases are in `tests/src/contract.rs`.

use std::sync::Arc;

use sandbar::backend::{MemoryBackend, PublishError};
use sandbar_tests::contract::{self, Broker, Outcome};

#[path = "contract/durable.rs"]
mod durable;
#[path = "contract/faults.rs"]
mod faults;

mod memory {
    use super::*;

    fn broker() -> Broker {
        let backend = Arc::new(MemoryBackend::new());
        Broker {
            backend: backend.clone(),
            store: backend,
        }
    }

    macro_rules! cases {
        ($($case:ident)*) => {$(
            #[tokio::test]
            async fn $case() -> Outcome {
                contract::$case(broker()).await
            }
        )*};
    }
    sandbar_tests::contract_cases!(cases);
    sandbar_tests::letter_cases!(cases);
    sandbar_tests::queue_cases!(cases);

    #[tokio::test]
    async fn a_queue_and_a_topic_are_bounded() -> Outcome {
        let backend = Arc::new(MemoryBackend::with_capacity(3));
        let broker = Broker {
            backend: backend.clone(),
            store: backend,
        };
        let queue = broker.queue("q", &["t"]).await?;
        broker.send("t", &["1", "2", "3"]).await?;
        let full = Err(PublishError::Full(contract::name("q")?));
        assert_eq!(broker.publish(contract::message("t", "4")?).await, full);
        let one = broker.take(&queue, 1).await?;
        assert_eq!(
            broker.publish(contract::message("t", "4")?).await,
            full,
            "in flight counts"
        );
        broker.ack(one).await?;
        broker.send("t", &["4"]).await?;
        let kept = contract::message("nowhere", "x")?;
        for _ in 0..10_000 {
            broker.publish(kept.clone()).await?;
        }
        assert!(matches!(
            broker.publish(kept).await,
            Err(PublishError::Full(_))
        ));
        Ok(())
    }
}

mod rabbitmq {
    use sandbar::backend::{BackendError, RabbitMqBackend, RabbitMqOptions};
    use sandbar::value::Setting;
    use sandbar_tests::servers::rabbitmq::RabbitMq;

    use super::*;

    /// The folder lives as long as the test that got it; nothing without a server.
    async fn broker() -> Result<Option<(Broker, tempfile::TempDir)>, contract::Failure> {
        let Some(server) = RabbitMq::shared().await else {
            return Ok(None);
        };
        let folder = tempfile::tempdir()?;
        let options = RabbitMqOptions {
            url: Setting::new(&server.vhost()),
            ..RabbitMqOptions::default()
        };
        let backend = Arc::new(RabbitMqBackend::open(folder.path(), options).await?);
        let broker = Broker {
            backend: backend.clone(),
            store: backend,
        };
        Ok(Some((broker, folder)))
    }

    macro_rules! cases {
        ($($case:ident)*) => {$(
            #[tokio::test]
            async fn $case() -> Outcome {
                match broker().await? {
                    Some((broker, _folder)) => contract::$case(broker).await,
                    None => Ok(()),
                }
            }
        )*};
    }
    sandbar_tests::contract_cases!(cases);
    sandbar_tests::letter_cases!(cases);

    /// Queues are looked at and emptied with the tools of RabbitMQ, and whoever asks here is told so.
    #[tokio::test]
    async fn what_waits_is_seen_in_part_and_not_removed() -> Outcome {
        let Some((broker, _folder)) = broker().await? else {
            return Ok(());
        };
        let queue = broker.queue("q", &["t"]).await?;
        let seen = broker.backend.overview().await?;
        let beyond = seen.beyond.as_deref().unwrap_or_default();
        assert!(beyond.contains("rabbitmqctl list_queues"), "{beyond}");
        assert!(seen.queues.iter().any(|seen| seen.spec.name == queue.name));
        let purged = broker.backend.purge_queue(&queue.name).await;
        let told = matches!(&purged, Err(BackendError::Invalid(text)) if text.contains("rabbitmqctl purge_queue"));
        assert!(told, "{purged:?}");
        Ok(())
    }
}

mod embedded {
    use super::*;

    /// The folder lives as long as the test that got it.
    async fn broker() -> Result<(Broker, tempfile::TempDir), contract::Failure> {
        let folder = tempfile::tempdir()?;
        let opened = sandbar::backend::open("embedded", folder.path()).await?;
        let (backend, store) = (opened.backend, opened.store);
        Ok((Broker { backend, store }, folder))
    }

    macro_rules! cases {
        ($($case:ident)*) => {$(
            #[tokio::test]
            async fn $case() -> Outcome {
                let (broker, _folder) = broker().await?;
                contract::$case(broker).await
            }
        )*};
    }
    sandbar_tests::contract_cases!(cases);
    sandbar_tests::letter_cases!(cases);
    sandbar_tests::queue_cases!(cases);
}

mod postgres {
    use super::*;
    use sandbar::backend::{PostgresBackend, PostgresOptions};
    use sandbar_tests::servers::postgres::Postgres;

    /// A schema of its own in the server that all cases share; `None` where there is no server.
    async fn broker() -> Result<Option<Broker>, contract::Failure> {
        let Some(server) = Postgres::shared() else {
            return Ok(None);
        };
        let options = PostgresOptions {
            schema: server.schema(),
            ..PostgresOptions::at(&server.url())
        };
        let backend = Arc::new(PostgresBackend::open(options).await?);
        Ok(Some(Broker {
            backend: backend.clone(),
            store: backend,
        }))
    }

    macro_rules! cases {
        ($($case:ident)*) => {$(
            #[tokio::test]
            async fn $case() -> Outcome {
                match broker().await? {
                    Some(broker) => contract::$case(broker).await,
                    None => Ok(()),
                }
            }
        )*};
    }
    sandbar_tests::contract_cases!(cases);
    sandbar_tests::letter_cases!(cases);
    sandbar_tests::queue_cases!(cases);
}
