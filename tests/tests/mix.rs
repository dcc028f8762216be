//! P1: of a hundred messages one crashes its guest, one never ends, one takes all the memory, one is malformed and one
//! publishes what it may not. Each of them is a dead letter with its own reason, and the others notice nothing: each has
//! exactly one reply and one effect.
//!
//! How much longer the others wait is printed, not asserted. `SANDBAR_TEST_MIX_HUNDREDS` makes it long,
//! `SANDBAR_TEST_MIX_SEED` repeats a run.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use sandbar::backend::{Delivery, Effects, Opened, Outgoing, Queue, Verdict, open};
use sandbar::control::{Host, HostOptions, ServedPlugin};
use sandbar::message::{Message, Status};
use sandbar::plugin::PluginSpec;
use sandbar::retry::RetryPolicy;
use sandbar::store::{LetterFilter, Reason};
use sandbar_tests::contract::{Failure, Outcome, content, spec};
use sandbar_tests::guests::guest;
use sandbar_tests::settings::{chosen, seed};
use sandbar_tests::traffic::{SOON, eventually, message, text, topic, wait_for};
use tokio::time::Instant;
use uuid::Uuid;

/// Attempts of what crashes.
const ATTEMPTS: u32 = 2;
/// Messages that wait for their reply at once.
const AT_ONCE: usize = 16;
const QUEUE: &str = "sandbar.misbehave";

/// A message that cannot end well, one in each hundred.
#[derive(Debug)]
struct Fault {
    topic: &'static str,
    content: &'static str,
    /// The header `user`.
    user: Option<&'static str>,
    status: Status,
    reason: Reason,
    /// Part of the error of its dead letter.
    error: &'static str,
    attempts: u32,
}

const fn crash(topic: &'static str, reason: Reason, error: &'static str) -> Fault {
    Fault {
        topic,
        content: "abort",
        user: None,
        status: Status::SystemError,
        reason,
        error,
        attempts: ATTEMPTS,
    }
}

const FAULTS: [Fault; 5] = [
    crash("bad.trap", Reason::Trap, "unreachable"),
    crash("bad.loop", Reason::Timeout, "took longer than"),
    crash("bad.memory", Reason::Memory, "bytes of memory"),
    Fault {
        user: Some("zzz"),
        status: Status::Error,
        attempts: 1,
        ..crash("bad.ledger", Reason::Malformed, "not a UUID")
    },
    Fault {
        content: "forbidden.topic",
        attempts: 1,
        ..crash(
            "bad.publish-forbidden",
            Reason::Forbidden,
            "add `publish = [\"forbidden.topic\"]` under [plugins.misbehave]",
        )
    },
];

impl Fault {
    fn message(&self) -> Message {
        let mut message = message(self.topic, self.content);
        if let Some(user) = self.user {
            message.payload.headers.insert("user", user).unwrap();
        }
        message
    }
}

async fn host(opened: &Opened) -> Result<Host, Failure> {
    let mut plugin = ServedPlugin::new(PluginSpec::from_file(&guest("misbehave")));
    // Longer than a machine with other work to do takes for what does end, the last of the memory included.
    plugin.spec.limits.time = Duration::from_secs(1);
    plugin.spec.limits.memory = 8 << 20;
    plugin.spec.grants.state = true;
    plugin.spec.grants.publish = vec!["out.>".parse()?];
    plugin.retry = RetryPolicy {
        max_attempts: ATTEMPTS,
        initial: Duration::from_millis(5),
        ..RetryPolicy::default()
    };
    let options = HostOptions {
        plugins: vec![plugin],
        ..HostOptions::default()
    };
    Ok(Host::start(opened.backend.clone(), opened.store.clone(), options).await?)
}

/// Sends all of them, a few at once, and waits for their replies: of each message, and how long it took.
async fn replies(
    opened: &Opened,
    queue: &Queue,
    messages: &[Message],
) -> Result<HashMap<Uuid, (Message, Duration)>, Failure> {
    let (mut waiting, mut sent) = (messages.iter(), HashMap::new());
    let mut replies = HashMap::new();
    while replies.len() < messages.len() {
        let room = AT_ONCE - (sent.len() - replies.len());
        let next: Vec<Outgoing> = waiting
            .by_ref()
            .take(room)
            .map(|message| message.clone().with_reply_topic(topic("answer")).into())
            .collect();
        let now = Instant::now();
        sent.extend(next.iter().map(|next| (next.message.identifier, now)));
        for published in opened.backend.publish(next).await {
            published?;
        }
        let batch = opened.backend.receive(queue, AT_ONCE, SOON).await?;
        assert!(!batch.is_empty(), "{} replies", replies.len());
        for delivery in &batch {
            let reply = content(delivery)?;
            let identifier = reply.identifier;
            let began = sent.get(&identifier).ok_or("nobody asked that")?;
            let twice = replies.insert(identifier, (reply, began.elapsed()));
            assert!(twice.is_none(), "{identifier} has two replies");
        }
        acknowledge(opened, batch).await?;
    }
    Ok(replies)
}

async fn acknowledge(opened: &Opened, batch: Vec<Delivery>) -> Outcome {
    let done = |delivery: Delivery| delivery.settle(Verdict::Ack, Effects::default());
    let settled = opened.backend.settle(batch.into_iter().map(done).collect());
    for settled in settled.await {
        settled?;
    }
    Ok(())
}

async fn depth(opened: &Opened, queue: &str) -> Result<u64, Failure> {
    let queues = opened.backend.overview().await?.queues;
    let mut queues = queues.iter();
    let queue = queues.find(|it| it.spec.name.as_str() == queue);
    Ok(queue.ok_or("the queue is gone")?.depth())
}

fn print(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() * percent).div_ceil(100) - 1];
    println!(
        "{what}: {} healthy messages, p50 {:?}, p99 {:?}",
        times.len(),
        at(50),
        at(99)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_is_a_dead_letter_and_the_others_notice_nothing() -> Outcome {
    let hundreds = chosen("SANDBAR_TEST_MIX_HUNDREDS", 4_usize);
    let mut random = StdRng::seed_from_u64(seed("SANDBAR_TEST_MIX_SEED"));
    let folder = tempfile::tempdir()?;
    let opened = open("embedded", folder.path()).await?;
    let answers = opened.backend.declare_queue(spec("answers", &["answer"])?);
    let answers = answers.await?.queue;
    let host = host(&opened).await?;

    let mut expected = BTreeMap::new();
    let mut healthy = Vec::new();
    for (what, faults) in [("without faults", &[][..]), ("with faults", &FAULTS)] {
        let mut messages = Vec::new();
        for _ in 0..hundreds {
            let mut hundred: Vec<Message> = faults.iter().map(Fault::message).collect();
            let faulty = hundred.iter().map(|message| message.identifier);
            expected.extend(faulty.zip(faults));
            while hundred.len() < 100 {
                let number = healthy.len().to_string();
                hundred.push(message("bad.ledger", &number));
                healthy.push(number);
            }
            hundred.shuffle(&mut random);
            messages.extend(hundred);
        }
        let replies = replies(&opened, &answers, &messages).await?;
        let mut times = Vec::new();
        for message in &messages {
            let (reply, time) = &replies[&message.identifier];
            let status = match expected.get(&message.identifier) {
                Some(fault) => fault.status,
                None => {
                    assert_eq!(text(reply), text(message));
                    times.push(*time);
                    Status::Success
                }
            };
            assert_eq!(reply.payload.status, status, "{message:?}: {reply:?}");
        }
        print(what, times);
    }

    eventually("everything has ended", async || {
        depth(&opened, QUEUE).await.is_ok_and(|depth| depth == 0)
    })
    .await;
    assert_eq!(depth(&opened, "answers").await?, 0, "one reply for each");
    let count = opened.store.state_get("misbehave", "ledger").await?.value;
    let count = count.ok_or("nothing was counted")?;
    assert_eq!(std::str::from_utf8(&count)?, healthy.len().to_string());
    let published = wait_for(&*opened.backend, "out.ledger", healthy.len()).await;
    let mut published: Vec<String> = published.iter().map(|message| text(message)).collect();
    published.sort();
    healthy.sort();
    assert_eq!(published, healthy, "each has had its effect once");

    let everything = LetterFilter::default();
    let most = expected.len() + 1;
    let letters = opened.store.letters(&everything, None, most).await?.letters;
    let mut reasons = BTreeMap::new();
    for letter in &letters {
        let identifier = letter.identifier.ok_or("a message has an identifier")?;
        let fault = expected.remove(&identifier).ok_or("a healthy message")?;
        let found = (letter.reason, letter.attempts);
        assert_eq!(found, (fault.reason, fault.attempts), "{letter:?}");
        assert!(letter.error.contains(fault.error), "{letter:?}");
        *reasons.entry(letter.reason.as_str()).or_insert(0) += 1;
    }
    println!("dead letters: {reasons:?}");
    let each = FAULTS.map(|fault| (fault.reason.as_str(), hundreds));
    assert_eq!(reasons, BTreeMap::from(each));
    assert!(host.stop(SOON).await);
    Ok(())
}
