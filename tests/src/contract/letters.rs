//! Dead letters as an operator deals with them: looked at, made into messages again, removed.
//!
//! How they come about is in `settling.rs`.

use std::time::Duration;

use sandbar::backend::{Delivery, Effects, Queue, QueueSpec, Verdict};
use sandbar::message::Strategy;
use sandbar::store::{
    Answer, Blob, DeadLetter, Frame, History, Journal, LetterFilter, LetterPart, LetterSummary,
    Reason, ReplayTo, Report, Step, Used,
};

use super::{Broker, Failure, Outcome, again, content, keyed, letter, message, name, spec, texts};

/// Everything that a filter selects, in parts of this size.
fn all(filter: LetterFilter, limit: usize) -> LetterPart {
    LetterPart {
        filter,
        after: 0,
        until: u64::MAX,
        limit,
    }
}

/// Every kind of step.
fn journal() -> Journal {
    let (key, topic, bytes) = ("k".to_owned(), "t".to_owned(), Blob(vec![0, 255]));
    Journal {
        attempt: 13,
        began_ms: -1,
        seed: Some(Blob(vec![7; 32])),
        steps: vec![
            Step::Read {
                key: key.clone(),
                value: None,
            },
            Step::Listed {
                prefix: String::new(),
                after: Some(key.clone()),
                keys: vec!["\u{1f980}".to_owned()],
            },
            Step::Wrote {
                key,
                value: Some(bytes.clone()),
            },
            Step::Published {
                topic: topic.clone(),
                content: bytes.clone(),
            },
            Step::Asked {
                topic: topic.clone(),
                content: bytes.clone(),
                answer: Answer::Reply {
                    status: 200,
                    headers: vec![("a".to_owned(), "b".to_owned())],
                    content: bytes.clone(),
                },
            },
            Step::Asked {
                topic,
                content: bytes,
                answer: Answer::Timeout,
            },
        ],
        cut: true,
    }
}

async fn bury(broker: &Broker, delivery: Delivery, letter: DeadLetter) -> Outcome {
    let verdict = Verdict::DeadLetter(Box::new(letter));
    let settled = delivery.settle(verdict, Effects::default());
    Ok(broker.settle(settled).await?)
}

/// Publishes texts to the topic `t` and makes dead letters of them.
async fn bury_all(broker: &Broker, queue: &Queue, texts: &[&str]) -> Outcome {
    broker.send("t", texts).await?;
    for text in texts {
        let delivery = broker.one(queue).await?;
        let mut letter = letter(&delivery, text);
        letter.queue = queue.name.to_string();
        bury(broker, delivery, letter).await?;
    }
    Ok(())
}

async fn listed(broker: &Broker, filter: &LetterFilter) -> Result<Vec<LetterSummary>, Failure> {
    let page = broker.store.letters(filter, None, 100).await?;
    assert_eq!(page.next, None);
    Ok(page.letters)
}

/// What went wrong at each attempt is kept with the message, and with its letter in the end.
pub async fn attempts_are_kept_with_the_message(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["t"]).await?;
    broker.publish(keyed("t", "k", "x")?).await?;
    for attempt in 1..=12_u32 {
        let delivery = broker.one(&queue).await?;
        assert_eq!(delivery.attempt, attempt);
        let verdict = again(&delivery, Duration::ZERO);
        broker
            .settle(delivery.settle(verdict, Effects::default()))
            .await?;
    }
    let delivery = broker.one(&queue).await?;
    let letter = letter(&delivery, "the end");
    let report = Report {
        trace: vec![Frame {
            function: "a::b".to_owned(),
            source: Some("src/a.rs:1:2".to_owned()),
        }],
        log: vec!["info: \"ä\"".to_owned()],
        refused: vec!["no".to_owned()],
        used: vec![Used::new("time", 7, u64::MAX)],
        journal: Some(journal()),
    };
    let told = DeadLetter {
        report: Some(Box::new(report.clone())),
        ..letter.clone()
    };
    bury(&broker, delivery, told).await?;

    let found = listed(&broker, &LetterFilter::default()).await?;
    let [summary] = found.as_slice() else {
        return Err("one letter".into());
    };
    let kept = broker.store.letter(summary.id).await?.ok_or("kept")?;
    assert_eq!(kept.letter, letter);
    assert_eq!(kept.key.as_deref(), Some("k"));
    let History {
        first_ms,
        last,
        report: kept_report,
    } = kept.history;
    assert_eq!(kept_report.as_deref(), Some(&report));
    assert_eq!(
        first_ms, 1_700_000_000_001,
        "the first attempt is long forgotten, its moment is not"
    );
    assert_eq!(last.len(), History::MOST);
    let attempts: Vec<u32> = last.iter().map(|failed| failed.attempt).collect();
    assert_eq!(attempts, (4..=13).collect::<Vec<_>>());
    let (earlier, end) = (last.first().ok_or("one")?, last.last().ok_or("one")?);
    assert_eq!(
        (earlier.reason, earlier.error.as_str(), earlier.at_ms),
        (Reason::Retry, "not yet", 1_700_000_000_004)
    );
    assert_eq!(
        (end.reason, end.error.as_str()),
        (Reason::Rejected, "the end")
    );
    assert_eq!(summary.first_ms, first_ms);
    assert!(kept.published_ms > 0);
    assert!(broker.store.letter(summary.id + 1).await?.is_none());
    Ok(())
}

/// Lists go from the newest to the oldest letter, page by page; a filter says which.
pub async fn letters_are_paged_and_filtered(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["a.>"]).await?;
    let topics = ["a.b", "a.c", "a.b.c", "a.b", "a.c"];
    for (position, topic) in (0_i64..).zip(topics) {
        broker.publish(message(topic, "12345")?).await?;
        let delivery = broker.one(&queue).await?;
        let mut letter = letter(&delivery, "because");
        letter.at_ms = 1_000 + position;
        if position >= 3 {
            letter.reason = Reason::Trap;
            letter.plugin = Some("other".to_owned());
            letter.queue = "elsewhere".to_owned();
        }
        bury(&broker, delivery, letter).await?;
    }
    let everything = listed(&broker, &LetterFilter::default()).await?;
    let ids: Vec<u64> = everything.iter().map(|letter| letter.id).collect();
    assert!(ids.is_sorted_by(|a, b| a > b), "{ids:?}");
    let newest = everything.first().ok_or("five")?;
    assert_eq!((newest.topic.as_str(), newest.bytes), ("a.c", 5));
    assert_eq!((newest.attempts, newest.at_ms), (1, 1_004));
    assert!(newest.identifier.is_some());

    let (mut paged, mut before) = (Vec::new(), None);
    for _ in 0..3 {
        let page = broker
            .store
            .letters(&LetterFilter::default(), before, 2)
            .await?;
        paged.extend(page.letters);
        before = page.next;
    }
    assert_eq!((paged, before), (everything.clone(), None));

    let none = LetterFilter::default;
    let only = |position: usize| ids.get(position).copied().into_iter().collect::<Vec<u64>>();
    let cases: [(LetterFilter, &[usize]); 9] = [
        (
            LetterFilter {
                topic: Some("a.*".parse()?),
                ..none()
            },
            &[0, 1, 3, 4],
        ),
        (
            LetterFilter {
                topic: Some("a.b".parse()?),
                ..none()
            },
            &[1, 4],
        ),
        (
            LetterFilter {
                plugin: Some("other".to_owned()),
                ..none()
            },
            &[0, 1],
        ),
        (
            LetterFilter {
                reason: Some(Reason::Rejected),
                ..none()
            },
            &[2, 3, 4],
        ),
        (
            LetterFilter {
                queue: Some("q".to_owned()),
                topic: Some("a.*".parse()?),
                ..none()
            },
            &[3, 4],
        ),
        (
            LetterFilter {
                before_ms: Some(1_002),
                ..none()
            },
            &[3, 4],
        ),
        (
            LetterFilter {
                since_ms: Some(1_002),
                before_ms: Some(1_004),
                ..none()
            },
            &[1, 2],
        ),
        (
            LetterFilter {
                ids: only(2),
                ..none()
            },
            &[2],
        ),
        (
            LetterFilter {
                identifier: newest.identifier,
                ..none()
            },
            &[0],
        ),
    ];
    for (filter, expected) in cases {
        let expected: Vec<u64> = expected
            .iter()
            .filter_map(|at| ids.get(*at))
            .copied()
            .collect();
        let found = listed(&broker, &filter).await?;
        let found: Vec<u64> = found.iter().map(|letter| letter.id).collect();
        assert_eq!(found, expected, "{filter:?}");
        let counts = broker.store.count_letters(&filter).await?;
        assert_eq!(counts.total(), expected.len() as u64, "{filter:?}");
        assert_eq!(counts.last, expected.first().copied(), "{filter:?}");
    }
    let counts = broker.store.count_letters(&none()).await?;
    assert_eq!(counts.reasons, [(Reason::Rejected, 3), (Reason::Trap, 2)]);
    Ok(())
}

/// A letter that is replayed is a message again, as it was, and no letter.
pub async fn a_replayed_letter_is_a_message_again(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["t"]).await?;
    let other = broker.queue("other", &["t", "new"]).await?;
    let mut outgoing = keyed("t", "k", "x")?;
    outgoing.to = sandbar::backend::Destination::Queue(name("q")?);
    outgoing.route = Some(3);
    outgoing.message.strategy = Strategy::Multicast;
    outgoing.message.reply_topic = Some("r".parse()?);
    outgoing.message.payload.headers.insert("a", "b")?;
    let original = outgoing.message.clone();
    broker.publish(outgoing).await?;
    let delivery = broker.one(&queue).await?;
    broker.retry(delivery, Duration::ZERO).await?;
    let delivery = broker.one(&queue).await?;
    let letter = letter(&delivery, "no");
    bury(&broker, delivery, letter).await?;

    let part = all(LetterFilter::default(), 10);
    let done = broker
        .store
        .replay_letters(&part, &ReplayTo::Origin)
        .await?;
    assert_eq!((done.done, done.next), (1, None));
    assert_eq!(listed(&broker, &LetterFilter::default()).await?, []);
    let again = broker.one(&queue).await?;
    assert_eq!(again.attempt, 1, "attempts begin anew");
    assert_eq!(content(&again)?, super::sorted(&original));
    assert_eq!(again.key.as_deref(), Some("k"));
    assert_eq!(again.route, Some(3));
    broker.nothing(&other).await?;
    let done = broker
        .store
        .replay_letters(&part, &ReplayTo::Origin)
        .await?;
    assert_eq!(done.done, 0, "once");

    // To its topic, and to another one; the route was one of the queue that it came from.
    for (to, copies) in [
        (ReplayTo::Topic, vec![&queue, &other]),
        (ReplayTo::Other("new".parse()?), vec![&other]),
    ] {
        let delivery = delivery_of(&broker, &queue, &original).await?;
        let letter = super::letter(&delivery, "no");
        bury(&broker, delivery, letter).await?;
        let done = broker.store.replay_letters(&part, &to).await?;
        assert_eq!(done.done, 1, "{to:?}");
        for queue in copies {
            let delivery = broker.one(queue).await?;
            assert_eq!(content(&delivery)?.identifier, original.identifier);
            assert_eq!(delivery.route, None, "{to:?}");
            broker.ack(vec![delivery]).await?;
        }
    }
    drop(again);
    Ok(())
}

/// The message again, straight into a queue.
async fn delivery_of(
    broker: &Broker,
    queue: &Queue,
    message: &sandbar::message::Message,
) -> Result<Delivery, Failure> {
    let mut outgoing = sandbar::backend::Outgoing::new(message.clone());
    outgoing.to = sandbar::backend::Destination::Queue(queue.name.clone());
    broker.publish(outgoing).await?;
    broker.one(queue).await
}

/// Without the queue that it came from, a letter goes to its topic; what cannot go anywhere stays, and hinders no other.
pub async fn a_letter_outlives_its_queue(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["t", "_reply.x"]).await?;
    broker.publish(message("_reply.x", "reply")?).await?;
    let delivery = broker.one(&queue).await?;
    let letter = letter(&delivery, "no");
    bury(&broker, delivery, letter).await?;
    bury_all(&broker, &queue, &["1", "2"]).await?;
    broker.backend.delete_queue(&queue.name).await?;

    let part = all(LetterFilter::default(), 10);
    let done = broker
        .store
        .replay_letters(&part, &ReplayTo::Origin)
        .await?;
    assert_eq!(done.done, 2);
    let [(id, reason)] = done.refused.as_slice() else {
        return Err(format!("{done:?}").into());
    };
    assert!(reason.contains("nobody waits for replies"), "{reason}");
    let left = listed(&broker, &LetterFilter::default()).await?;
    assert_eq!(left.iter().map(|it| it.id).collect::<Vec<_>>(), [*id]);
    let late = broker.queue("late", &["t"]).await?;
    assert_eq!(texts(&broker.take(&late, 2).await?), ["1", "2"]);
    Ok(())
}

/// Parts go from the oldest letter to the newest, and end where they are told to.
pub async fn letters_are_worked_on_in_parts(broker: Broker) -> Outcome {
    let queue = broker
        .declare(QueueSpec {
            dead_letter: None,
            ..spec("q", &["t"])?
        })
        .await?;
    bury_all(&broker, &queue, &["1", "2", "3", "4", "5"]).await?;
    let counts = broker.store.count_letters(&LetterFilter::default()).await?;
    let until = counts.last.ok_or("five")?;
    bury_all(&broker, &queue, &["later"]).await?;

    let mut part = LetterPart {
        until,
        ..all(LetterFilter::default(), 2)
    };
    let mut replayed = Vec::new();
    loop {
        let done = broker
            .store
            .replay_letters(&part, &ReplayTo::Origin)
            .await?;
        replayed.push(done.done);
        match done.next {
            Some(next) => part.after = next,
            None => break,
        }
    }
    assert_eq!(replayed, [2, 2, 1]);
    let deliveries = broker.take(&queue, 5).await?;
    assert_eq!(texts(&deliveries), ["1", "2", "3", "4", "5"]);
    assert_eq!(listed(&broker, &LetterFilter::default()).await?.len(), 1);
    Ok(())
}

/// Purging removes what is selected and nothing else, and nothing comes of it.
pub async fn purged_letters_are_gone(broker: Broker) -> Outcome {
    let queue = broker.queue("q", &["t"]).await?;
    bury_all(&broker, &queue, &["1", "2", "3"]).await?;
    let letters = listed(&broker, &LetterFilter::default()).await?;
    let second = letters.get(1).ok_or("three")?.id;
    let filter = LetterFilter {
        ids: vec![second],
        ..LetterFilter::default()
    };
    let done = broker.store.purge_letters(&all(filter, 10)).await?;
    assert_eq!((done.done, done.refused.len()), (1, 0));
    let left = listed(&broker, &LetterFilter::default()).await?;
    assert_eq!(
        left.iter().map(|it| it.error.as_str()).collect::<Vec<_>>(),
        ["3", "1"]
    );
    let done = broker
        .store
        .purge_letters(&all(LetterFilter::default(), 1))
        .await?;
    assert_eq!(done.done, 1);
    assert!(done.next.is_some(), "there may be more");
    let left = listed(&broker, &LetterFilter::default()).await?;
    assert_eq!(left.len(), 1, "the newest is left");
    broker.nothing(&queue).await
}
