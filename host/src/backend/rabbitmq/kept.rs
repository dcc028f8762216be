//! Messages that no queue was bound to: they wait in queues of ours until one is.
//!
//! The server keeps them; what is done here is to publish them once more when that may have become useful.

use std::sync::Arc;
use std::time::Duration;

use lapin::Channel;
use lapin::options::{BasicGetOptions, QueueDeclareOptions};
use lapin::types::FieldTable;

use super::arrived::Arrived;
use super::failure::{Failure, answer};
use super::outgoing::Parcel;
use super::registry::{KEEPING, lock, unlock};
use super::shared::Shared;
use super::topology::{KEPT, short};
use crate::topic::{Pattern, TopicName};

/// What was published at the moment of a declaration may be kept just after we have looked.
const ONCE_MORE: Duration = Duration::from_secs(5);

/// What becomes of a message that was kept.
enum Fate {
    Stays,
    Publish,
    Forget,
}

impl Shared {
    /// Publishes what was kept for these topics, now and a little later.
    pub(super) async fn release_kept(
        self: &Arc<Self>,
        topics: Vec<Pattern>,
    ) -> Result<(), Failure> {
        if topics.is_empty() {
            return Ok(());
        }
        self.go_through_kept(|topic| publish(&topics, topic))
            .await?;
        let shared = self.clone();
        self.tasks.spawn(async move {
            let pause = tokio::time::sleep(ONCE_MORE);
            if shared.stop.run_until_cancelled(pause).await.is_some()
                && let Err(failure) = shared
                    .go_through_kept(|topic| publish(&topics, topic))
                    .await
            {
                tracing::debug!(%failure, "kept messages wait for the next declaration");
            }
        });
        Ok(())
    }

    /// Forgets what was kept for a topic.
    pub(super) async fn forget_kept(&self, topic: &TopicName) -> Result<(), Failure> {
        self.go_through_kept(|kept| match kept == topic.as_str() {
            true => Fate::Forget,
            false => Fate::Stays,
        })
        .await
    }

    async fn go_through_kept(&self, decide: impl Fn(&str) -> Fate) -> Result<(), Failure> {
        let session = match self.ready().await {
            Ok(session) => session,
            Err(error) => return Err(Failure::new(error.to_string())),
        };
        // Whoever looks meanwhile would find nothing, since all of it is in the hands of another.
        let _one = self.keeping.lock().await;
        let locked = lock(&session, KEEPING).await?;
        for queue in KEPT {
            let channel = Arc::new(session.channel().await?);
            let done = self.go_through(&channel, queue, &decide).await;
            // What stays goes back to its place with the channel.
            drop(answer(channel.close(200, "done".into())).await);
            if done.is_err() {
                drop(unlock(&locked, KEEPING).await);
                return done;
            }
        }
        unlock(&locked, KEEPING).await
    }

    async fn go_through(
        &self,
        channel: &Arc<Channel>,
        queue: &str,
        decide: impl Fn(&str) -> Fate,
    ) -> Result<(), Failure> {
        let mut publish = Vec::new();
        for _ in 0..waiting(channel, queue).await? {
            let options = BasicGetOptions::default();
            let Some(message) = answer(channel.basic_get(short(queue), options)).await? else {
                break;
            };
            let arrived = Arrived::new(channel.clone(), message.delivery);
            match decide(arrived.topic()) {
                Fate::Stays => {}
                Fate::Forget => arrived.acknowledge().await?,
                Fate::Publish => publish.push(arrived),
            }
        }
        let parcels: Vec<Parcel> = publish.iter().map(Parcel::kept).collect();
        let published = self.publisher.publish(&parcels).await;
        for (arrived, published) in publish.iter().zip(published) {
            if published.is_ok() {
                arrived.acknowledge().await?;
            }
        }
        Ok(())
    }
}

fn publish(topics: &[Pattern], topic: &str) -> Fate {
    let selected = topic
        .parse::<TopicName>()
        .is_ok_and(|topic| topics.iter().any(|pattern| pattern.matches(&topic)));
    if selected { Fate::Publish } else { Fate::Stays }
}

async fn waiting(channel: &Channel, queue: &str) -> Result<u32, Failure> {
    let options = QueueDeclareOptions {
        passive: true,
        ..QueueDeclareOptions::default()
    };
    let asked = channel.queue_declare(short(queue), options, FieldTable::default());
    Ok(answer(asked).await?.message_count())
}
