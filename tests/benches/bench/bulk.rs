//! The limit of the postgres backend: its own bulk statements, on connections of their own, with nothing around them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sandbar::backend::QueueSpec;
use sandbar::message::{Message, Payload};
use sandbar::store::bare_postgres::{Bare, BareDelivery};
use sandbar::topic::TopicName;
use sandbar_tests::servers::postgres::Postgres;
use tokio::task::JoinSet;

use super::driver::Load;
use super::measure::{cpu, now};
use super::stats::Spread;

/// Rounds of bulk statements.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bulk {
    /// On so many connections at once, each with queues of its own.
    pub(crate) connections: usize,
    /// Messages of a round.
    pub(crate) size: usize,
    /// Rounds of each connection.
    pub(crate) rounds: usize,
    /// With two keys of state for each message.
    pub(crate) state: bool,
}

/// Writes and claims the rounds in a new schema, after a few that do not count, and verifies each. The times are those
/// of whole rounds.
pub(crate) async fn raw(server: &Postgres, bulk: &Bulk) -> Load {
    let schema = server.schema();
    let mut lanes = Vec::new();
    for number in 0..bulk.connections {
        let mut lane = Lane::open(server, &schema, number).await;
        for round in 0..bulk.rounds / 10 {
            lane.round(bulk, bulk.rounds + round).await;
        }
        lanes.push(lane);
    }
    let (began, processor) = (now(), cpu());
    let mut working = JoinSet::new();
    for mut lane in lanes {
        let bulk = *bulk;
        working.spawn(async move {
            let mut spread = Spread::default();
            for round in 0..bulk.rounds {
                spread.add(lane.round(&bulk, round).await);
            }
            spread
        });
    }
    let spreads = working.join_all().await;
    let (seconds, processor) = (began.elapsed().as_secs_f64(), cpu() - processor);
    let left = server.psql(&format!("SELECT count(*) FROM {schema}.messages"));
    assert_eq!(left, "0", "void, rows are left");
    let count = (bulk.connections * bulk.rounds * bulk.size) as f64;
    Load {
        rate: count / seconds,
        cpu_us: processor.as_secs_f64() * 1e6 / count,
        spread: Spread::all(&spreads),
    }
}

/// A connection with its queues.
struct Lane {
    bare: Bare,
    number: usize,
    work: i64,
    replies: i64,
    topics: [TopicName; 2],
}

impl Lane {
    async fn open(server: &Postgres, schema: &str, number: usize) -> Self {
        let mut bare = Bare::open(&server.url(), schema).await.unwrap();
        let topics: [TopicName; 2] =
            ["work", "replies"].map(|name| format!("{name}.{number}").parse().unwrap());
        let mut ids = [0; 2];
        for (id, topic) in ids.iter_mut().zip(&topics) {
            let name = topic.as_str().parse().unwrap();
            let spec = QueueSpec::new(name, vec![topic.clone().into()]);
            *id = bare.queue(&spec).await.unwrap();
        }
        let [work, replies] = ids;
        Self {
            bare,
            number,
            work,
            replies,
            topics,
        }
    }

    async fn round(&mut self, bulk: &Bulk, number: usize) -> Duration {
        let [work, replies] = &self.topics;
        let payload = Payload::new(vec![b'x'; 200]);
        let request =
            |_| Message::new(work.clone(), payload.clone()).with_reply_topic(replies.clone());
        let requests: Vec<Message> = (0..bulk.size).map(request).collect();
        let answer = |to: &Message| {
            Message::new(replies.clone(), payload.clone()).with_identifier(to.identifier)
        };
        let answers: Vec<Message> = requests.iter().map(answer).collect();
        let state: Vec<(Arc<str>, Bytes)> = match bulk.state {
            true => (0..bulk.size)
                .flat_map(|message| [("seen", message), ("value", message)])
                .map(|(kind, message)| {
                    let key = format!("{kind}.{}.{number}.{message}", self.number);
                    (key.into(), Bytes::from_static(&[b'x'; 16]))
                })
                .collect(),
            false => Vec::new(),
        };
        let bare = &mut self.bare;
        let began = now();
        bare.publish(self.work, &requests).await.unwrap();
        let claimed = bare.claim(self.work, bulk.size).await.unwrap();
        check(&claimed, &requests);
        let settled = bare.settle_with(&claimed, self.replies, &answers, &state);
        settled.await.unwrap();
        let claimed = bare.claim(self.replies, bulk.size).await.unwrap();
        check(&claimed, &answers);
        bare.settle(&claimed, self.replies, []).await.unwrap();
        began.elapsed()
    }
}

/// What was claimed is what was published; not necessarily in its order.
fn check(claimed: &[BareDelivery], published: &[Message]) {
    let mut claimed: Vec<_> = claimed.iter().map(|one| one.message.identifier).collect();
    let mut expected: Vec<_> = published.iter().map(|one| one.identifier).collect();
    claimed.sort_unstable();
    expected.sort_unstable();
    assert!(claimed == expected, "void, other messages were claimed");
}
