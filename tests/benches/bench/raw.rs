//! The limit of the embedded backend: its own bulk statements, through its own writer, with nothing around them.

use std::time::Duration;

use sandbar::message::{Message, Payload};
use sandbar::store::bare::{Bare, Transaction};
use sandbar::topic::TopicName;
use uuid::Uuid;

use super::driver::Load;
use super::measure::{cpu, now};
use super::stats::Spread;

/// In which transactions the messages of one round and their replies are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Plan {
    /// The requests; their end with the replies.
    Two,
    /// The same, and the end of the replies.
    Three,
    /// All of it at once: these requests, the end of those of the round before with their replies, the end of the replies
    /// before that.
    Overlapped,
}

/// The messages of one round, in numbers: requests, then replies.
struct Round {
    first: u64,
    requests: Vec<Message>,
    replies: Vec<Message>,
}

impl Round {
    fn new(number: u64, size: u64) -> Self {
        let topic: TopicName = "echo".parse().unwrap();
        let reply: TopicName = format!("replies.{}", Uuid::nil().simple()).parse().unwrap();
        let payload = Payload::new(vec![b'x'; 200]);
        let request =
            || Message::new(topic.clone(), payload.clone()).with_reply_topic(reply.clone());
        let requests: Vec<Message> = (0..size).map(|_| request()).collect();
        let answer = |to: &Message| {
            Message::new(reply.clone(), payload.clone()).with_identifier(to.identifier)
        };
        Self {
            first: 1 + number * size * 2,
            replies: requests.iter().map(answer).collect(),
            requests,
        }
    }

    fn requests(&self) -> impl Iterator<Item = (u64, &Message)> {
        (self.first..).zip(&self.requests)
    }

    fn replies(&self) -> impl Iterator<Item = (u64, &Message)> {
        (self.first + self.requests.len() as u64..).zip(&self.replies)
    }
}

fn numbers<'a>(messages: impl Iterator<Item = (u64, &'a Message)>) -> Vec<u64> {
    messages.map(|(number, _)| number).collect()
}

/// Writes `rounds` rounds of `size` messages after a few that do not count. Rows are made beforehand; what is timed is
/// the statements and the disk. The times are those of whole rounds.
pub(crate) async fn write(plan: Plan, size: u64, rounds: u64) -> Load {
    let folder = tempfile::tempdir_in(sandbar_tests::guests::target()).unwrap();
    let mut bare = Bare::open(folder.path()).await.unwrap();
    let warm_up = rounds / 10;
    let (mut spread, mut seconds, mut processor) = (Spread::default(), 0.0, Duration::ZERO);
    let nothing = || Round::new(0, 0);
    let (mut before, mut older) = (nothing(), nothing());
    for number in 0..rounds + warm_up {
        let round = Round::new(number, size);
        let end = Transaction::new([], numbers(round.replies()));
        let mut timed = match plan {
            Plan::Two | Plan::Three => vec![
                Transaction::new(round.requests(), Vec::new()),
                Transaction::new(round.replies(), numbers(round.requests())),
            ],
            Plan::Overlapped => {
                let ended = numbers(before.requests().chain(older.replies()));
                vec![Transaction::new(
                    round.requests().chain(before.replies()),
                    ended,
                )]
            }
        };
        let untimed = match plan {
            Plan::Two => Some(end),
            Plan::Three => {
                timed.push(end);
                None
            }
            Plan::Overlapped => None,
        };
        let (began, processor_before) = (now(), cpu());
        for transaction in &timed {
            bare.write(transaction).await.unwrap();
        }
        if number >= warm_up {
            let took = began.elapsed();
            processor += cpu() - processor_before;
            spread.add(took);
            seconds += took.as_secs_f64();
        }
        if let Some(end) = untimed {
            bare.write(&end).await.unwrap();
        }
        if plan == Plan::Overlapped {
            (older, before) = (before, round);
        } else {
            assert_eq!(bare.last().await.unwrap(), 0, "void, rows are left");
        }
    }
    if plan == Plan::Overlapped {
        let last = before.requests().last().map_or(0, |(number, _)| number);
        assert_eq!(bare.last().await.unwrap(), last, "void, rows are missing");
    }
    bare.close().await.unwrap();
    let count = (rounds * size) as f64;
    Load {
        rate: count / seconds,
        cpu_us: processor.as_secs_f64() * 1e6 / count,
        spread,
    }
}

/// Bytes that one commit of one small message appends to the write-ahead log.
pub(crate) async fn commit_size() -> u64 {
    let folder = tempfile::tempdir_in(sandbar_tests::guests::target()).unwrap();
    let mut bare = Bare::open(folder.path()).await.unwrap();
    let log = folder.path().join("sandbar.db-wal");
    let mut sizes = Vec::new();
    for number in 0..9 {
        let before = std::fs::metadata(&log).map_or(0, |it| it.len());
        let round = Round::new(number, 1);
        let transaction = Transaction::new(round.requests(), Vec::new());
        bare.write(&transaction).await.unwrap();
        sizes.push(std::fs::metadata(&log).unwrap().len() - before);
    }
    bare.close().await.unwrap();
    sizes.sort_unstable();
    sizes[sizes.len() / 2]
}
