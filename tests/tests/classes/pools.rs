//! The pool of clients: how many there are, who is next, and which client is never given out again.

use std::sync::Arc;

use futures_util::FutureExt as _;
use sandbar::backend::{Backend, BackendError};
use sandbar::client::{Client, ClientPool, PoolOptions, PooledClient};
use sandbar_tests::contract::{Outcome, SOON, spec};

use super::{memory, message};

fn pool(maxsize: usize) -> (ClientPool, Arc<dyn Backend>) {
    let backend: Arc<dyn Backend> = memory();
    let pool = ClientPool::new(backend.clone(), PoolOptions { maxsize });
    (pool, backend)
}

/// Which client it is.
fn topic(client: &Client) -> String {
    client.topic().map(ToString::to_string).unwrap_or_default()
}

#[tokio::test]
async fn so_many_clients_and_no_more() -> Outcome {
    assert_eq!(PoolOptions::default().maxsize, 5);
    let (pool, _) = pool(2);
    let first = pool.acquire().await?;
    let second = pool.acquire().await?;
    assert_ne!(topic(&first), topic(&second));
    assert_eq!(pool.in_use(), 2);
    assert!(pool.acquire().now_or_never().is_none(), "it waits");
    let given_back = topic(&first);
    drop(first);
    let third = tokio::time::timeout(SOON, pool.acquire()).await??;
    assert_eq!(
        topic(&third),
        given_back,
        "and gets the one that was given back"
    );
    drop((second, third));
    assert_eq!(pool.in_use(), 0);
    Ok(())
}

#[tokio::test]
async fn who_waits_longest_is_next() -> Outcome {
    let (pool, _) = pool(1);
    let pool = Arc::new(pool);
    let held = pool.acquire().await?;
    let (sender, mut order) = tokio::sync::mpsc::channel(10);
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..5 {
        let (pool, sender) = (pool.clone(), sender.clone());
        waiting.spawn(async move {
            let client = pool.acquire().await;
            let client: Result<PooledClient, BackendError> = client;
            sender.send((number, client.is_ok())).await.ok();
        });
        // So that each of them waits before the next one comes.
        tokio::task::yield_now().await;
    }
    drop((held, sender));
    let mut served = Vec::new();
    while let Some(next) = tokio::time::timeout(SOON, order.recv()).await? {
        served.push(next);
    }
    assert_eq!(
        served,
        (0..5).map(|number| (number, true)).collect::<Vec<_>>()
    );
    Ok(())
}

/// Only one whose replies have all come is used again, so that nobody gets the reply of somebody else.
#[tokio::test]
async fn a_client_with_open_replies_is_not_used_again() -> Outcome {
    let (pool, backend) = pool(1);
    backend.declare_queue(spec("q", &["user.get"])?).await?;
    let mut before = String::new();
    for (answered, reused) in [(true, false), (true, true), (false, true), (true, false)] {
        let client = pool.acquire().await?;
        assert_eq!(topic(&client) == before, reused);
        before = topic(&client);
        client.send(message("user.get", "7")?.into()).await?;
        if answered {
            let reply = message(&before, "Ada")?;
            sandbar_tests::contract::Broker {
                backend: backend.clone(),
                store: memory(),
            }
            .publish(reply.into())
            .await?;
            client.receive().await?;
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_client_that_has_ended_is_not_used_again() -> Outcome {
    let (pool, backend) = pool(1);
    let mut topics = std::collections::BTreeSet::new();
    for end in ["closed by its user", "ended by the broker", "alive"] {
        let client = pool.acquire().await?;
        assert!(!client.is_closed());
        assert!(topics.insert(topic(&client)), "a new one: {end}");
        match end {
            "closed by its user" => client.close().await,
            "ended by the broker" => {
                backend.declare_queue(spec("q", &["t"])?).await?;
                let queue = client
                    .reply_topic()
                    .ok_or("it can request")?
                    .as_str()
                    .parse()?;
                let ends = async {
                    tokio::task::yield_now().await;
                    backend.delete_queue(&queue).await
                };
                let (reply, ended) = tokio::join!(client.request(message("t", "1")?, SOON), ends);
                ended?;
                assert!(reply.is_err());
            }
            _ => {}
        }
    }
    assert!(topics.contains(&topic(&*pool.acquire().await?)));
    Ok(())
}

#[tokio::test]
async fn a_closed_pool_refuses_who_waits_and_who_comes() -> Outcome {
    let (pool, backend) = pool(1);
    let held = pool.acquire().await?;
    let (refused, ()) = tokio::join!(pool.acquire(), pool.close());
    let refused = refused.map(|client| topic(&client));
    assert_eq!(refused, Err(BackendError::Closed));
    let refused = pool.acquire().await.map(|client| topic(&client));
    assert_eq!(refused, Err(BackendError::Closed));
    // Who has one may finish.
    let own = topic(&held);
    held.send(message(&own, "1")?.into()).await?;
    held.receive().await?;
    drop(held);
    pool.close().await;
    let mandatory = sandbar::backend::Outgoing {
        mandatory: true,
        ..message(&own, "2")?.into()
    };
    assert!(
        backend.publish(vec![mandatory]).await[0].is_err(),
        "it was closed"
    );
    // A broker that refuses is no reason to lose a place.
    let (pool, backend) = self::pool(1);
    backend.close().await;
    for _ in 0..2 {
        let refused = pool.acquire().await.map(|client| topic(&client));
        assert_eq!(refused, Err(BackendError::Closed));
        assert_eq!(pool.in_use(), 0);
    }
    Ok(())
}
