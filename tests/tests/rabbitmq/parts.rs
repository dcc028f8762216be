//! B3: what ends is a part of what runs over a connection, and only that is made again.

use lapin::options::QueueDeleteOptions;
use lapin::{Connection, ConnectionProperties};
use sandbar::backend::{Effects, SettleError, Source, SourceEvent, Verdict};
use sandbar_tests::contract::{Failure, Outcome, texts};
use sandbar_tests::servers::rabbitmq::RabbitMq;

use super::fixture::{Opened, ack, delivered, open, queue, reconnected};

/// Two subscriptions over one connection; the second one holds a message.
struct Two {
    opened: Opened,
    disturbed: Box<dyn Source>,
    other: Box<dyn Source>,
}

async fn two(url: &str) -> Result<Two, Failure> {
    let opened = open(url).await?;
    let disturbed = queue(&opened, "disturbed", "disturbed").await?;
    let other = queue(&opened, "other", "other").await?;
    Ok(Two {
        disturbed: opened.source(&disturbed).await?,
        other: opened.source(&other).await?,
        opened,
    })
}

impl Two {
    /// The other subscription has noticed nothing: the first event is a delivery, and it can be settled.
    async fn other_goes_on(&mut self) -> Outcome {
        self.opened.broker.send("other", &["other"]).await?;
        match super::fixture::next(&mut self.other).await? {
            SourceEvent::Delivered(mut batch) => ack(&self.opened, batch.remove(0)).await,
            event => Err(format!("the other subscription says {event:?}").into()),
        }
    }

    /// The subscription delivers what is published now.
    async fn delivers(&mut self, text: &str) -> Outcome {
        self.opened.broker.send("disturbed", &[text]).await?;
        loop {
            for delivery in delivered(&mut self.disturbed).await? {
                let found = texts(std::slice::from_ref(&delivery)).concat();
                ack(&self.opened, delivery).await?;
                if found == text {
                    return Ok(());
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_that_the_server_closes_is_opened_again() -> Outcome {
    let Some(server) = RabbitMq::start().await else {
        return Ok(());
    };
    // A delivery that is not acknowledged for so long makes the server close its channel.
    server.erlang(
        "application:set_env(rabbit, consumer_timeout, 1000), \
         application:set_env(rabbit, channel_tick_interval, 500).",
    );
    let mut two = two(&server.url()).await?;
    two.opened.broker.send("disturbed", &["1"]).await?;
    let held = delivered(&mut two.disturbed).await?.remove(0);
    reconnected(&mut two.disturbed).await?;
    let settled = held.settle(Verdict::Ack, Effects::default());
    assert_eq!(
        two.opened.broker.settle(settled).await,
        Err(SettleError::Stale)
    );
    let again = delivered(&mut two.disturbed).await?.remove(0);
    assert_eq!(
        (
            texts(std::slice::from_ref(&again)).concat().as_str(),
            again.attempt
        ),
        ("1", 1)
    );
    ack(&two.opened, again).await?;
    two.delivers("2").await?;
    two.other_goes_on().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_deleted_while_consuming_is_declared_again() -> Outcome {
    let Some(server) = RabbitMq::shared().await else {
        return Ok(());
    };
    let url = server.vhost();
    let mut two = two(&url).await?;
    two.delivers("1").await?;
    let operator = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = operator.create_channel().await?;
    let options = QueueDeleteOptions::default();
    channel.queue_delete("disturbed".into(), options).await?;
    two.delivers("2").await?;
    two.other_goes_on().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_that_the_server_cancels_is_made_again() -> Outcome {
    let Some(server) = RabbitMq::shared().await else {
        return Ok(());
    };
    let url = server.vhost();
    let mut two = two(&url).await?;
    two.opened.broker.send("disturbed", &["1"]).await?;
    let held = delivered(&mut two.disturbed).await?.remove(0);
    // The process of the queue crashes; the server starts it again, and cancels its consumers.
    let vhost = url.rsplit('/').next().ok_or("no virtual host")?;
    server.erlang(&format!(
        "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"{vhost}\">>, queue, <<\"disturbed\">>)), \
         exit(amqqueue:get_pid(Q), kill)."
    ));
    reconnected(&mut two.disturbed).await?;
    let settled = held.settle(Verdict::Ack, Effects::default());
    assert_eq!(
        two.opened.broker.settle(settled).await,
        Err(SettleError::Stale)
    );
    two.delivers("2").await?;
    two.other_goes_on().await
}
