//! O1: the messages of a key take effect in the order in which they were sent, whatever fails, comes again or becomes a dead
//! letter in between, and however often the host is killed.
//!
//! A real host, real SIGKILL, the embedded broker; several hosts on one database are in `postgres/keys.rs`.
//! `SANDBAR_TEST_ORDER_KEYS=100 SANDBAR_TEST_ORDER_EACH=1000 SANDBAR_TEST_ORDER_KILLS=20` is the long form,
//! `SANDBAR_TEST_ORDER_SEED` repeats what was sent and when it was killed.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sandbar::backend::{EmbeddedBackend, EmbeddedOptions, Outgoing, Queue, open_data};
use sandbar::message::{Message, Status};
use sandbar::store::{LetterFilter, Reason};
use sandbar_tests::contract::{Broker, Failure, Outcome, SOON, content, keyed, name};
use sandbar_tests::process::{Folder, Host};
use sandbar_tests::settings::{chosen, seed};
use sandbar_tests::traffic::text;
use uuid::Uuid;

const CONFIGURATION: &str = "[plugins.misbehave]
state = true
publish = [\"out.>\"]
[plugins.misbehave.limits]
concurrency = 8
[plugins.misbehave.retry]
initial = \"5ms\"
[plugins.misbehave.breaker]
enabled = false
";

/// How a message ends.
#[derive(Debug, Clone, Copy)]
struct End {
    topic: &'static str,
    status: Status,
    dead: Option<Reason>,
}

const fn end(topic: &'static str, status: Status, dead: Option<Reason>) -> End {
    End {
        topic,
        status,
        dead,
    }
}

/// It leaves its content in `out.ledger`.
const LEDGER: End = end("bad.ledger", Status::Success, None);
/// It succeeds at its third attempt, after the milliseconds that its content says each.
const RETRY: End = end("bad.retry", Status::Success, None);
/// What doesn't succeed doesn't hold up what follows.
const FAILURES: [End; 3] = [
    end("bad.reject", Status::Error, None),
    end("bad.fail", Status::SystemError, Some(Reason::Failed)),
    end("bad.trap", Status::SystemError, Some(Reason::Trap)),
];

/// Everything that was sent.
#[derive(Debug)]
struct Sent {
    random: StdRng,
    keys: usize,
    /// Key, number within it, and how it has to end.
    messages: HashMap<Uuid, (usize, usize, End)>,
}

impl Sent {
    fn draw(&mut self, key: usize, number: usize) -> Result<Outgoing, Failure> {
        let end = match self.random.random_range(0..100) {
            0..66 => LEDGER,
            66..91 => RETRY,
            other => FAILURES[other % FAILURES.len()],
        };
        let text = match end.topic {
            "bad.retry" => self.random.random_range(1..30).to_string(),
            _ => format!("{key} {number}"),
        };
        let mut outgoing = keyed(end.topic, &format!("key {key}"), &text)?;
        outgoing.message.reply_topic = Some("out.reply".parse()?);
        let identifier = outgoing.message.identifier;
        self.messages.insert(identifier, (key, number, end));
        Ok(outgoing)
    }

    /// Sends these numbers of every key, the keys among each other.
    async fn send(&mut self, broker: &Broker, numbers: Range<usize>) -> Outcome {
        for number in numbers {
            let batch: Result<Vec<_>, _> =
                (0..self.keys).map(|key| self.draw(key, number)).collect();
            for sent in broker.backend.publish(batch?).await {
                sent?;
            }
        }
        Ok(())
    }

    fn count(&self, topic: &str) -> usize {
        let ends = self.messages.values();
        ends.filter(|(.., end)| end.topic == topic).count()
    }
}

fn data(folder: &Folder) -> PathBuf {
    folder.path().join("sandbar-data")
}

async fn open(folder: &Folder) -> Result<(Broker, [Queue; 2]), Failure> {
    let embedded = EmbeddedBackend::open(&data(folder), EmbeddedOptions::default()).await?;
    let backend = std::sync::Arc::new(embedded);
    let broker = Broker {
        backend: backend.clone(),
        store: backend,
    };
    let replies = broker.queue("replies", &["out.reply"]).await?;
    let ledger = broker.queue("ledger", &["out.ledger"]).await?;
    Ok((broker, [replies, ledger]))
}

async fn depth(broker: &Broker, queue: &Queue) -> Result<u64, Failure> {
    let overview = broker.backend.overview().await?;
    let mut queues = overview.queues.iter();
    let status = queues.find(|status| status.spec.name == queue.name);
    Ok(status.ok_or("the queue is gone")?.depth())
}

/// So many messages of a queue, in its order.
async fn take(broker: &Broker, queue: &Queue, count: usize) -> Result<Vec<Message>, Failure> {
    let mut taken = Vec::with_capacity(count);
    while taken.len() < count {
        let batch = broker.backend.receive(queue, 500, SOON).await?;
        assert!(!batch.is_empty(), "{} of {count}", taken.len());
        for delivery in &batch {
            taken.push(content(delivery)?);
        }
        broker.ack(batch).await?;
    }
    Ok(taken)
}

/// The replies while the host works, asked for as another process does it.
async fn replies(folder: &Folder, host: Host, count: usize) -> Result<Vec<Message>, Failure> {
    let shared = open_data(&data(folder)).await?;
    assert!(!shared.owner, "the host has it");
    let broker = Broker {
        backend: shared.backend,
        store: shared.store,
    };
    let name = name("replies")?;
    let replies = take(&broker, &Queue { name }, count).await?;
    broker.backend.close().await;
    host.signal("TERM");
    let ended = host.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    Ok(replies)
}

/// Each message has one reply, and those of a key came in the order in which its messages were sent.
fn check_replies(sent: &Sent, replies: &[Message], each: usize) -> Outcome {
    let mut numbers = vec![Vec::new(); sent.keys];
    for reply in replies {
        let (key, number, end) = sent.messages[&reply.identifier];
        assert_eq!(reply.payload.status, end.status, "{end:?}: {reply:?}");
        if end.topic == RETRY.topic {
            assert_eq!(text(reply), "3", "no kill costs an attempt");
        }
        numbers[key].push(number);
    }
    let all: Vec<usize> = (0..each).collect();
    for (key, numbers) in numbers.iter().enumerate() {
        assert_eq!(*numbers, all, "key {key}");
    }
    Ok(())
}

/// What succeeded has published once, in order as well, and has been counted.
async fn check_ledger(sent: &Sent, broker: &Broker, queue: &Queue) -> Outcome {
    let count = sent.count(LEDGER.topic);
    let mut last = vec![None; sent.keys];
    for message in take(broker, queue, count).await? {
        let text = text(&message);
        let (key, number) = text.split_once(' ').ok_or("key and number")?;
        let (key, number): (usize, usize) = (key.parse()?, number.parse()?);
        assert!(
            last[key] < Some(number),
            "{text} came after {:?}",
            last[key]
        );
        last[key] = Some(number);
    }
    broker.nothing(queue).await?;
    let counted = broker.store.state_get("misbehave", "ledger").await?.value;
    let counted = counted.ok_or("nothing was counted")?;
    assert_eq!(std::str::from_utf8(&counted)?, count.to_string());
    Ok(())
}

/// What had to become a dead letter is one, and nothing else.
async fn check_letters(sent: &Sent, broker: &Broker) -> Outcome {
    let dead = |(identifier, (.., end)): (&Uuid, &(usize, usize, End))| {
        end.dead.map(|reason| (*identifier, reason.as_str()))
    };
    let expected: BTreeMap<_, _> = sent.messages.iter().filter_map(dead).collect();
    let (mut found, mut before) = (BTreeMap::new(), None);
    loop {
        let everything = LetterFilter::default();
        let page = broker.store.letters(&everything, before, 1_000).await?;
        for letter in page.letters {
            let identifier = letter.identifier.ok_or("a message has an identifier")?;
            let twice = found.insert(identifier, letter.reason.as_str());
            assert_eq!(twice, None, "{identifier} is two letters");
        }
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(found, expected);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_keeps_its_order_through_failures_and_kills() -> Outcome {
    let keys = chosen("SANDBAR_TEST_ORDER_KEYS", 20);
    let each = chosen("SANDBAR_TEST_ORDER_EACH", 75);
    let kills = chosen("SANDBAR_TEST_ORDER_KILLS", 4);
    let mut sent = Sent {
        random: StdRng::seed_from_u64(seed("SANDBAR_TEST_ORDER_SEED")),
        keys,
        messages: HashMap::new(),
    };
    let folder = Folder::new();
    folder.guest("misbehave", "plugins/misbehave.wasm");
    folder.write("sandbar.toml", CONFIGURATION);
    // What one host has not come to meets what is sent before the next one.
    for kill in 0..kills {
        let (broker, [replies, _]) = open(&folder).await?;
        println!(
            "{} of {} ended",
            depth(&broker, &replies).await?,
            sent.messages.len()
        );
        let part = |part: usize| part * each / (kills + 1);
        sent.send(&broker, part(kill)..part(kill + 1)).await?;
        broker.backend.close().await;
        drop(broker);
        let host = folder.host(["--log", "error"]);
        let pause = sent.random.random_range(20..300);
        tokio::time::sleep(Duration::from_millis(pause)).await;
        host.signal("KILL");
        assert_eq!(host.ended().code, None, "ended by the signal");
    }
    let (broker, _) = open(&folder).await?;
    sent.send(&broker, kills * each / (kills + 1)..each).await?;
    broker.backend.close().await;
    drop(broker);
    let host = folder.host(["--log", "error"]);
    let answered = replies(&folder, host, sent.messages.len()).await?;
    check_replies(&sent, &answered, each)?;

    let (broker, [replies, ledger]) = open(&folder).await?;
    broker.nothing(&replies).await?;
    check_ledger(&sent, &broker, &ledger).await?;
    check_letters(&sent, &broker).await?;
    let work = Queue {
        name: name("sandbar.misbehave")?,
    };
    assert_eq!(depth(&broker, &work).await?, 0);
    println!("{keys} keys of {each} messages, {kills} kills");
    broker.backend.close().await;
    Ok(())
}
