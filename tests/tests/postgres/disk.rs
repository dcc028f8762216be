//! D3: the disk of the server runs full. Who publishes is told and may try again, the host stays up and says why, and with room
//! again all goes on; what was accepted is there, once.
//!
//! The disk is a small file system of its own, which only root can mount; without it these tests are skipped, loudly.

use std::collections::BTreeSet;
use std::time::Duration;

use sandbar::backend::{BackendError, PublishError, Queue};
use sandbar_tests::contract::{Broker, Failure, Outcome, message, texts};
use sandbar_tests::process::{Folder, Host};
use sandbar_tests::servers::postgres::Postgres;
use tokio::time::Instant;

use super::{host, options};

/// How long anything may take, a server that is started again included.
const PATIENCE: Duration = Duration::from_secs(120);
/// What is left when the disk is nearly full.
const LEFT: u64 = 2 << 20;

/// A host with a plugin on a server with a small disk, and a client of the same broker.
struct Fixture {
    server: Postgres,
    broker: Broker,
    replies: Queue,
    host: Host,
    _folder: Folder,
    /// The numbers that were accepted, and how many were sent.
    accepted: BTreeSet<usize>,
    sent: usize,
}

impl Fixture {
    async fn new(size: &str, all: bool) -> Result<Option<Self>, Failure> {
        let Some(server) = Postgres::on_a_small_disk(size, all) else {
            return Ok(None);
        };
        let options = options(&server);
        let broker = host(&options).await?;
        let replies = broker.queue("replies", &["out.reply"]).await?;
        let folder = Folder::new();
        let configuration = format!(
            "[broker]\nkind = \"postgres\"\n[broker.postgres]\nurl = \"{}\"\nschema = \"{}\"\n",
            server.url(),
            options.schema
        );
        folder.write("sandbar.toml", configuration);
        folder.guest("echo", "plugins/echo.wasm");
        let host = folder.host(["--log", "warn,sandbar=info"]);
        Ok(Some(Self {
            server,
            broker,
            replies,
            host,
            _folder: folder,
            accepted: BTreeSet::new(),
            sent: 0,
        }))
    }

    /// Sends one message, with a lot behind its number.
    async fn send(&mut self) -> Result<(), PublishError> {
        // Not to be compressed by the server.
        let noise: Vec<u8> = (0..30_000)
            .map(|_| rand::random_range(b'0'..=b'z'))
            .collect();
        let text = format!("{} {}", self.sent, String::from_utf8_lossy(&noise));
        let number = self.sent;
        self.sent += 1;
        let mut outgoing = message("echo", &text).unwrap();
        outgoing.message.reply_topic = Some("out.reply".parse().unwrap());
        self.broker.publish(outgoing).await?;
        self.accepted.insert(number);
        Ok(())
    }

    /// Sends until one is refused.
    async fn fill(&mut self) -> Result<String, Failure> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.send().await {
                Ok(()) => assert!(Instant::now() < until, "the disk never fills"),
                Err(PublishError::Unavailable(reason)) => return Ok(reason),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Everything that was accepted is answered once; what was refused may have been, if nobody knew.
    async fn verify(mut self) -> Outcome {
        let until = Instant::now() + PATIENCE;
        while let Err(error) = self.send().await {
            assert!(Instant::now() < until, "there is room again: {error}");
        }
        let mut answered = BTreeSet::new();
        while !answered.is_superset(&self.accepted) {
            let missing = self.accepted.difference(&answered).count();
            assert!(
                Instant::now() < until,
                "{missing} replies are missing:\n{}",
                self.host.log()
            );
            match self
                .broker
                .backend
                .receive(&self.replies, 50, Duration::from_secs(1))
                .await
            {
                Ok(batch) => {
                    for text in texts(&batch) {
                        let number = text.split(' ').next().unwrap_or_default().parse()?;
                        assert!(answered.insert(number), "{number} was answered twice");
                    }
                    self.broker.ack(batch).await?;
                }
                Err(BackendError::Unavailable(_)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.broker.nothing(&self.replies).await?;
        assert_eq!(
            self.broker.store.dead_letters(10).await?,
            [],
            "no dead letters"
        );
        self.broker.backend.health().await?;
        println!(
            "{} of {} were accepted, {} answered",
            self.accepted.len(),
            self.sent,
            answered.len()
        );
        self.host.signal("TERM");
        let ended = self.host.ended();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        Ok(())
    }
}

/// There is no room for tables; the server goes on and refuses what it cannot write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_and_recovers() -> Outcome {
    let Some(mut fixture) = Fixture::new("96m", false).await? else {
        return Ok(());
    };
    fixture.send().await?;
    fixture.server.disk().fill(LEFT);
    let reason = fixture.fill().await?;
    assert!(
        reason.starts_with("the disk of ") && reason.ends_with(" is full"),
        "{reason}"
    );
    let sick = fixture.broker.backend.health().await;
    assert_eq!(sick, Err(BackendError::Unavailable(reason)));
    // Who tries again is told again; some find a place that another one left. The host tries again as well, and says why.
    let until = Instant::now() + PATIENCE;
    let mut refused = 0;
    while refused < 10 || !fixture.host.log().contains(" is full") {
        assert!(Instant::now() < until, "{}", fixture.host.log());
        assert!(fixture.fill().await?.ends_with(" is full"));
        refused += 1;
    }
    fixture.server.disk().empty();
    fixture.verify().await
}

/// There is no room for what is written ahead either; the server ends itself then, and somebody starts it again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_for_lack_of_room_is_found_again() -> Outcome {
    let Some(mut fixture) = Fixture::new("160m", true).await? else {
        return Ok(());
    };
    fixture.send().await?;
    fixture.server.disk().fill(LEFT);
    let reason = fixture.fill().await?;
    println!("refused: {reason}");
    // Whatever is written ahead needs another segment sooner or later.
    let until = Instant::now() + PATIENCE;
    while fixture.server.answers() {
        assert!(Instant::now() < until, "the server never ends");
        fixture.server.writes_ahead(16_000_000);
    }
    fixture.send().await.ok();
    fixture.server.disk().empty();
    tokio::task::block_in_place(|| fixture.server.again());
    fixture.verify().await
}
