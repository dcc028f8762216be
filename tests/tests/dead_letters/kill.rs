//! kill -9 in the middle of a replay: each dead letter is either still one or a message again, never both and never
//! neither.
//!
//! Real processes, real files, real SIGKILL: of the command that owns the folder, and of a host that does it for one.

use std::collections::HashSet;
use std::time::Duration;

use sandbar::backend::{Backend, Effects, EmbeddedBackend, EmbeddedOptions, Queue, Verdict};
use sandbar::store::{LetterFilter, Store};
use sandbar_tests::contract::{Failure, Outcome, SOON, content, letter, message, name, spec};
use sandbar_tests::process::{Folder, signal};
use uuid::Uuid;

const LETTERS: usize = 6_000;
/// Kills before the replay may finish.
const KILLS: u64 = 6;
const DATA: &str = "sandbar-data";
const REPLAY: [&str; 3] = ["dead-letters", "replay", "--all"];

async fn open(folder: &Folder) -> Result<EmbeddedBackend, Failure> {
    let data = folder.path().join(DATA);
    Ok(EmbeddedBackend::open(&data, EmbeddedOptions::default()).await?)
}

/// Makes dead letters of so many messages, which came from the queue `q`.
async fn bury(folder: &Folder) -> Result<HashSet<Uuid>, Failure> {
    let backend = open(folder).await?;
    let queue = backend.declare_queue(spec("q", &["t"])?).await?.queue;
    let mut identifiers = HashSet::new();
    while identifiers.len() < LETTERS {
        let batch: Result<Vec<_>, Failure> = (0..500).map(|_| message("t", "x")).collect();
        let batch = batch?;
        identifiers.extend(batch.iter().map(|outgoing| outgoing.message.identifier));
        for published in backend.publish(batch).await {
            published?;
        }
        let deliveries = backend.receive(&queue, 500, SOON).await?;
        let settlements = deliveries.into_iter().map(|delivery| {
            let mut letter = letter(&delivery, "no");
            // A host removes what is too old.
            letter.at_ms = sandbar::clock::now_ms();
            delivery.settle(Verdict::DeadLetter(Box::new(letter)), Effects::default())
        });
        for settled in backend.settle(settlements.collect()).await {
            settled?;
        }
    }
    backend.close().await;
    Ok(identifiers)
}

/// The identifiers of all letters and of all messages; each comes once.
async fn found(folder: &Folder) -> Result<(HashSet<Uuid>, HashSet<Uuid>), Failure> {
    let backend = open(folder).await?;
    let (mut letters, mut before) = (HashSet::new(), None);
    loop {
        let page = backend
            .letters(&LetterFilter::default(), before, 1_000)
            .await?;
        for letter in page.letters {
            let identifier = letter.identifier.ok_or("a message has an identifier")?;
            assert!(letters.insert(identifier), "{identifier} is two letters");
        }
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    let queue = Queue { name: name("q")? };
    let overview = backend.overview().await?;
    let mut queues = overview.queues.iter();
    let status = queues.find(|status| status.spec.name == queue.name);
    let depth = usize::try_from(status.ok_or("the queue is gone")?.depth())?;
    let (mut messages, mut held) = (HashSet::new(), Vec::new());
    while messages.len() < depth {
        let deliveries = backend.receive(&queue, 1_000, SOON).await?;
        assert!(!deliveries.is_empty(), "{} of {depth}", messages.len());
        for delivery in &deliveries {
            let identifier = content(delivery)?.identifier;
            assert!(
                messages.insert(identifier),
                "{identifier} was replayed twice"
            );
            assert_eq!(delivery.attempt, 1, "{identifier}");
        }
        held.extend(deliveries);
    }
    drop(held);
    backend.close().await;
    Ok((letters, messages))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replay_loses_and_repeats_nothing() -> Outcome {
    let folder = Folder::new();
    folder.guest("echo", "echo.wasm");
    let all = bury(&folder).await?;
    let mut random = u64::from(std::process::id());
    println!("seed {random}");
    let mut replayed = 0;
    for kill in 0..KILLS {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let pause = Duration::from_millis(10 + (random >> 33) % 150);
        let host = (kill % 2 == 1).then(|| folder.host(["echo.wasm", "--log", "warn"]));
        let mut replay = folder.command(REPLAY).spawn()?;
        tokio::time::sleep(pause).await;
        match &host {
            Some(host) => host.signal("KILL"),
            // It may have ended already, which is as good.
            None if replay.try_wait()?.is_none() => signal(replay.id(), "KILL"),
            None => {}
        }
        replay.wait()?;
        drop(host);

        let (letters, messages) = found(&folder).await?;
        println!("kill {kill}: {} replayed", messages.len());
        assert!(letters.is_disjoint(&messages), "both letter and message");
        let together: HashSet<Uuid> = letters.union(&messages).copied().collect();
        assert_eq!(together.len(), LETTERS, "neither letter nor message");
        assert_eq!(together, all);
        assert!(
            messages.len() >= replayed,
            "what is replayed stays replayed"
        );
        replayed = messages.len();
    }
    let ended = folder.run(REPLAY);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let (letters, messages) = found(&folder).await?;
    assert!(letters.is_empty());
    assert_eq!(messages, all);
    Ok(())
}
