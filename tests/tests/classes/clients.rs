//! Clients: their own topic, what arrives there, and requests.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt as _};
use sandbar::backend::{Backend, BackendError, Outgoing};
use sandbar::client::{Client, RequestError};
use sandbar::message::Message;
use sandbar_tests::contract::{Failure, NEVER, Outcome, SOON, spec};

use super::{memory, message, on_each, publish, text, waiting};

async fn owner(backend: &Arc<dyn Backend>, topic: &str) -> Result<Client, Failure> {
    Ok(Client::connect_as(backend.clone(), topic.parse()?).await?)
}

/// Answers the next message of a client with its content.
async fn answer(client: &Client) -> Outcome {
    let question = tokio::time::timeout(SOON, client.receive()).await??;
    let topic = question.reply_topic.clone().ok_or("no reply is wanted")?;
    let answer = Message::new(topic, question.payload.clone());
    let answer = answer.with_identifier(question.identifier);
    client.send(answer.into()).await?;
    Ok(())
}

#[tokio::test]
async fn replies_come_to_the_clients_own_topic_unless_another_is_named() -> Outcome {
    on_each(async |backend, _| {
        let users = owner(&backend, "user.get").await?;
        let client = owner(&backend, "mine").await?;
        let other = owner(&backend, "other").await?;
        assert_eq!(client.topic(), Some(&"mine".parse()?));
        client.send(message("user.get", "1")?.into()).await?;
        let named = message("user.get", "2")?.with_reply_topic("other".parse()?);
        client.send(named.into()).await?;
        answer(&users).await?;
        answer(&users).await?;
        assert_eq!(text(&*client.receive().await?), "1");
        assert_eq!(text(&*other.receive().await?), "2");
        assert!(client.receive().now_or_never().is_none());
        Ok(())
    })
    .await
}

/// The seed loses what came before the time-out; here it is yielded, and what comes later is for the next one.
#[tokio::test]
async fn receive_many_yields_what_arrived_before_the_time_out() -> Outcome {
    on_each(async |backend, _| {
        let client = owner(&backend, "news").await?;
        publish(&*backend, &[message("news", "1")?, message("news", "2")?]).await?;
        let stream = client.receive_many(5, Some(Duration::from_secs(1)));
        let got: Vec<String> = stream
            .map(|m| m.map_or_else(|e| e.to_string(), |m| text(&m)))
            .collect()
            .await;
        assert_eq!(got, ["1", "2"]);
        publish(&*backend, &[message("news", "3")?, message("news", "4")?]).await?;
        // The count ends it too, and takes no more than that.
        let mut stream = pin!(client.receive_many(1, None));
        let third = tokio::time::timeout(SOON, stream.next()).await?;
        assert_eq!(third.transpose()?.map(|m| text(&m)).as_deref(), Some("3"));
        assert!(stream.next().await.is_none());
        assert_eq!(text(&*client.receive().await?), "4");
        assert_eq!(client.receive_many(0, None).count().await, 0);
        Ok(())
    })
    .await
}

/// Whoever stops waiting takes nothing with him.
#[tokio::test]
async fn a_receive_that_is_dropped_loses_nothing() -> Outcome {
    on_each(async |backend, _| {
        const COUNT: usize = 50;
        let client = owner(&backend, "t").await?;
        let mut got = Vec::new();
        for n in 0..COUNT {
            let mut receive = Box::pin(client.receive());
            publish(&*backend, &[message("t", &n.to_string())?]).await?;
            // Dropped at a different point of its way each time.
            for _ in 0..n % 6 {
                if let Some(received) = receive.as_mut().now_or_never() {
                    got.push(text(&*received?));
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        while got.len() < COUNT {
            let received = tokio::time::timeout(SOON, client.receive()).await??;
            got.push(text(&received));
        }
        let all: Vec<String> = (0..COUNT).map(|n| n.to_string()).collect();
        assert_eq!(got, all);
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_late_reply_is_dropped_and_counted() -> Outcome {
    on_each(async |backend, _| {
        let users = owner(&backend, "user.get").await?;
        let client = Client::connect(backend.clone()).await?;
        let timeout = client
            .request(message("user.get", "late")?, Duration::from_millis(20))
            .await;
        assert!(
            matches!(timeout, Err(RequestError::Timeout { .. })),
            "{timeout:?}"
        );
        answer(&users).await?;
        let request = client.request(message("user.get", "in time")?, SOON);
        let (reply, answered) = tokio::join!(request, answer(&users));
        answered?;
        assert_eq!(text(&*reply?), "in time");
        assert_eq!(client.late_replies(), 1);
        Ok(())
    })
    .await
}

/// Nobody waits for the time-out of a request whose client or broker has ended.
#[tokio::test]
async fn requests_end_with_their_client() -> Outcome {
    let ended = Err(RequestError::Backend(BackendError::Closed));
    for closes_broker in [false, true] {
        let backend: Arc<dyn Backend> = memory();
        backend.declare_queue(spec("q", &["t"])?).await?;
        let client = Client::connect(backend.clone()).await?;
        let end = async {
            tokio::task::yield_now().await;
            match closes_broker {
                true => backend.close().await,
                false => client.close().await,
            }
        };
        let request = client.request(message("t", "1")?, Duration::from_secs(3_600));
        let (reply, ()) = tokio::join!(request, end);
        assert_eq!(reply, ended);
        assert!(client.is_closed());
        let reply = client.request(message("t", "2")?, SOON).await;
        assert_eq!(reply, ended);
        if !closes_broker {
            assert_eq!(
                waiting(&*backend, "q").await?,
                ["1"],
                "the second was not sent"
            );
        }
    }
    Ok(())
}

#[tokio::test]
async fn what_a_client_cannot_do_it_says() -> Outcome {
    let backend: Arc<dyn Backend> = memory();
    let client = Client::connect(backend.clone()).await?;
    let no_topic = client.receive().await.map(drop).map_err(|e| e.to_string());
    assert!(no_topic.is_err_and(|text| text.contains("connect_as")));
    // Without a topic of its own it asks for no replies.
    backend.declare_queue(spec("q", &["t"])?).await?;
    client.send(message("t", "1")?.into()).await?;
    let name = "q".parse()?;
    let queue = sandbar::backend::Queue { name };
    let sent = backend.receive(&queue, 1, SOON).await?;
    assert!(!sandbar_tests::contract::content(&sent[0])?.should_reply());
    let nobody = client.request(message("nobody", "1")?, SOON).await;
    assert!(matches!(nobody, Err(RequestError::Publish(_))));
    let twice = message("t", "1")?;
    let first = client.request(twice.clone(), NEVER);
    let second = client.request(twice.clone(), NEVER);
    let (_, second) = tokio::join!(first, second);
    assert_eq!(second, Err(RequestError::InFlight(twice.identifier)));
    Ok(())
}

/// The queues of a client go with it: nothing is kept for it, and its topic is free for others.
#[tokio::test]
async fn a_closed_client_leaves_nothing_behind() -> Outcome {
    let backend: Arc<dyn Backend> = memory();
    let client = owner(&backend, "t").await?;
    let receipt = client.send(message("t", "1")?.into()).await?;
    assert_eq!(receipt.queues, 1);
    client.close().await;
    let mandatory = |topic: &str| {
        message(topic, "2").map(|message| Outgoing {
            mandatory: true,
            ..message.into()
        })
    };
    let reply_topic = client.reply_topic().ok_or("it can request")?.to_string();
    for topic in ["t", &reply_topic] {
        let sent = backend.publish(vec![mandatory(topic)?]).await;
        assert!(sent[0].is_err(), "{topic}");
    }
    assert!(client.receive().await.is_err());
    Ok(())
}
