//! Which queues get a message.
//!
//! When they get it is told elsewhere.

use sandbar::backend::{Backend, Destination, Outgoing, PublishError, Queue, QueueSpec};

use super::{Broker, Outcome, message, name, spec, texts};

/// One queue may be bound to several topics and patterns, and gets a message that fits twice only once.
pub async fn several_topics_and_wildcards(broker: Broker) -> Outcome {
    let queue = broker
        .queue("q", &["a", "user.*", "user.created", "log.>"])
        .await?;
    for topic in ["a", "user.created", "user.a.b", "log", "log.x.y", "b"] {
        broker.send(topic, &[topic]).await?;
    }
    let taken = broker.take(&queue, 3).await?;
    assert_eq!(texts(&taken), ["a", "user.created", "log.x.y"]);
    broker.ack(taken).await?;
    broker.nothing(&queue).await
}

async fn groups(broker: &Broker) -> Result<[Queue; 4], super::Failure> {
    let grouped = |queue: &str, group: &str, topics: &[&str]| {
        spec(queue, topics).map(|spec| QueueSpec {
            group: group.to_owned(),
            ..spec
        })
    };
    Ok([
        broker.declare(grouped("a1", "a", &["t"])?).await?,
        broker.declare(grouped("a2", "a", &[">"])?).await?,
        broker.declare(grouped("b1", "b", &["t"])?).await?,
        broker.declare(grouped("c1", "c", &["other"])?).await?,
    ])
}

/// Each queue gets so many messages and no more.
async fn expect(broker: &Broker, queues: &[Queue], counts: &[usize]) -> Outcome {
    for (queue, expected) in queues.iter().zip(counts) {
        let taken = broker.take(queue, *expected).await?;
        broker.ack(taken).await?;
        broker.nothing(queue).await?;
    }
    Ok(())
}

/// A unicast message goes to all matching queues of the group that was declared first.
pub async fn unicast_goes_to_one_group(broker: Broker) -> Outcome {
    let queues = groups(&broker).await?;
    let receipt = broker.publish(message("t", "x")?).await?;
    broker.check_count(receipt, 2);
    expect(&broker, &queues, &[1, 1, 0, 0]).await?;
    broker.backend.delete_queue(&name("a1")?).await?;
    broker.backend.delete_queue(&name("a2")?).await?;
    let receipt = broker.publish(message("t", "y")?).await?;
    broker.check_count(receipt, 1);
    // The next group takes over.
    expect(&broker, &queues[2..], &[1, 0]).await
}

/// A multicast message goes to all matching queues of all groups.
pub async fn multicast_goes_to_every_group(broker: Broker) -> Outcome {
    let queues = groups(&broker).await?;
    let everybody = message("t", "x")?.message.multicast();
    let receipt = broker.publish(Outgoing::new(everybody)).await?;
    broker.check_count(receipt, 3);
    expect(&broker, &queues, &[1, 1, 1, 0]).await
}

/// A message can be sent to one queue, whatever its topic; a route travels with it.
pub async fn a_queue_can_be_addressed_by_name(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &[]).await?;
    let to = Destination::Queue(name("q")?);
    let outgoing = Outgoing {
        to,
        route: Some(3),
        ..message("whatever", "x")?
    };
    assert_eq!(broker.publish(outgoing).await?.queues, 1);
    let delivery = broker.one(&queue).await?;
    assert_eq!(delivery.route, Some(3));
    assert_eq!(super::content(&delivery)?.topic.as_str(), "whatever");
    Ok(())
}

/// A mandatory message to nobody is refused, and nothing is kept of it.
pub async fn mandatory_messages_need_a_queue(broker: Broker) -> Outcome {
    let mandatory = || {
        message("t", "x").map(|outgoing| Outgoing {
            mandatory: true,
            ..outgoing
        })
    };
    let refused = broker.publish(mandatory()?).await;
    assert_eq!(refused, Err(PublishError::Unroutable("t".parse()?)));
    let queue = broker.queue("q", &["t"]).await?;
    broker.nothing(&queue).await?;
    assert_eq!(broker.publish(mandatory()?).await?.queues, 1);
    Ok(())
}

/// A reply to a client that has gone is not kept for the next one.
pub async fn replies_to_nobody_are_dropped(broker: Broker) -> Outcome {
    let receipt = broker.publish(message("_reply.c1", "x")?).await?;
    broker.check_count(receipt, 0);
    let queue = broker.queue("q", &["_reply.c1"]).await?;
    broker.nothing(&queue).await?;
    assert_eq!(broker.publish(message("_reply.c1", "x")?).await?.queues, 1);
    Ok(())
}

/// Declaring the same queue twice changes nothing, and loses nothing.
pub async fn declaring_twice_is_the_same(broker: Broker) -> Outcome {
    let spec = QueueSpec {
        dead_letter: Some(name("dead")?),
        ..spec("q", &["t"])?
    };
    let first = broker.backend.declare_queue(spec.clone()).await?;
    broker.send("t", &["1"]).await?;
    let second = broker.backend.declare_queue(spec).await?;
    assert_eq!(first, second);
    assert_eq!(
        first.dead_letter.map(|queue| queue.name),
        Some(name("dead")?)
    );
    assert_eq!(
        broker.backend.get_queue(&name("dead")?).await?.name,
        name("dead")?
    );
    assert_eq!(texts(&broker.take(&first.queue, 1).await?), ["1"]);
    Ok(())
}

/// Declaring a queue with fewer topics unbinds it from the others, and leaves other queues alone.
pub async fn redeclaring_with_fewer_topics_unbinds_only_this_queue(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["a", "b.*"]).await?;
    let other = broker.queue("other", &["a", "b.*"]).await?;
    broker.queue("q", &["a"]).await?;
    let to_all = message("b.x", "b")?.message.multicast();
    assert_eq!(broker.publish(Outgoing::new(to_all)).await?.queues, 1);
    assert_eq!(texts(&broker.take(&other, 1).await?), ["b"]);
    broker.nothing(&queue).await?;
    broker.send("a", &["a"]).await?;
    assert_eq!(texts(&broker.take(&queue, 1).await?), ["a"]);
    Ok(())
}

/// What is published while its queue is being declared is in it, in its order.
pub async fn nothing_falls_between_publishing_and_declaring(broker: Broker) -> Outcome {
    for round in 0..5 {
        let topic = format!("t{round}");
        let expected: Vec<String> = (0..20).map(|number| number.to_string()).collect();
        let publishing = async {
            for text in &expected {
                broker.publish(message(&topic, text)?).await?;
            }
            Outcome::Ok(())
        };
        let topics = [topic.as_str()];
        let (published, queue) = tokio::join!(publishing, broker.queue(&topic, &topics));
        published?;
        let taken = broker.take(&queue?, expected.len()).await?;
        let mut found = texts(&taken);
        if !broker.promises("order across a declaration", |can| can.transactional) {
            found.sort_by_key(|text| text.parse::<usize>().ok());
        }
        assert_eq!(found, expected);
        broker.ack(taken).await?;
    }
    Ok(())
}

/// What a topic kept is gone with it.
pub async fn deleting_a_topic_forgets_what_it_kept(broker: Broker) -> Outcome {
    let forget: &dyn Backend = &*broker.backend;
    broker.send("t", &["1"]).await?;
    broker.send("u", &["2"]).await?;
    forget.delete_topic(&"t".parse()?).await?;
    forget.delete_topic(&"t".parse()?).await?;
    let queue = broker.queue("q", &["t", "u"]).await?;
    let taken = broker.take(&queue, 1).await?;
    assert_eq!(texts(&taken), ["2"]);
    broker.nothing(&queue).await
}
