//! The power cut: a process works while everything that it writes and flushes is recorded; then the disk is made as a cut
//! at any moment leaves it, and opened again. What had been confirmed by then is there, and every transaction is there as a
//! whole or not at all.
//!
//! The process and its flushes are real; the disk is made from the records, since nobody cuts the power of a test. That a
//! real disk keeps what it says it has flushed cannot be tested here.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use sandbar::backend::{
    Backend, Effects, EmbeddedBackend, EmbeddedOptions, Outgoing, Queue, QueueSpec, Verdict,
};
use sandbar::message::{Message, Payload};
use sandbar::wire::{Form, decode};
use sandbar_tests::contract::{Failure, Outcome, content, publishing, spec};
use sandbar_tests::settings::{chosen, seed};

#[path = "power/disk.rs"]
mod disk;

use disk::{Disk, Record, records};

/// Where the other process works.
const CHILD: &str = "SANDBAR_TEST_POWER";
/// Messages that are published; `SANDBAR_TEST_POWER_MESSAGES` says another number.
const MESSAGES: u32 = 3_000;
/// Cuts; `SANDBAR_TEST_POWER_CUTS` says another number.
const CUTS: usize = 40;
/// Says what was confirmed, in the order in which it was.
const CONFIRMED: &str = "confirmed";
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_confirmed_survives_a_power_cut_at_any_moment() -> Outcome {
    let records = work()?;
    let flushes: Vec<usize> = (0..records.len())
        .filter(|place| records[*place].ends_flush())
        .collect();
    let seed = seed("SANDBAR_TEST_POWER_SEED");
    let mut random = StdRng::seed_from_u64(seed);
    // Half of the cuts come right after a flush, when something has just become promised; the last is at the end.
    let cuts = chosen("SANDBAR_TEST_POWER_CUTS", CUTS).max(2);
    let mut moments = BTreeSet::from([records.len() - 1]);
    while moments.len() < cuts {
        let after = flushes[random.random_range(0..flushes.len())];
        moments.insert(match random.random_bool(0.5) {
            true => (after + random.random_range(0..3)).min(records.len() - 1),
            false => random.random_range(0..records.len()),
        });
    }
    println!(
        "seed {seed}, {} records, {} flushes, {cuts} cuts",
        records.len(),
        flushes.len()
    );
    let (mut disk, mut confirmed) = (Disk::default(), 0);
    for (place, record) in records.iter().enumerate() {
        disk.play(record);
        if moments.contains(&place) {
            let promised = Promised::read(&disk.seen(CONFIRMED));
            confirmed = promised.published.len();
            for random in [None, Some(&mut random)] {
                let found = open(&disk.cut(random)).await?;
                let missing = promised.missing(&found);
                assert!(
                    missing.is_empty(),
                    "seed {seed}, cut at {place}: {missing:?}"
                );
            }
        }
    }
    let messages = chosen("SANDBAR_TEST_POWER_MESSAGES", MESSAGES);
    assert_eq!(
        confirmed, messages as usize,
        "everything was confirmed at the end"
    );
    Ok(())
}

/// The test above can fail: with a disk that flushes nothing, what was confirmed is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_lies_is_found_out() -> Outcome {
    let records = work()?;
    let mut disk = Disk::lying();
    records.iter().for_each(|record| disk.play(record));
    let promised = Promised::read(&disk.seen(CONFIRMED));
    let found = open(&disk.cut(None)).await?;
    assert!(!promised.missing(&found).is_empty());
    Ok(())
}

/// Lets the other process work, and returns what it did.
fn work() -> Result<Vec<Record>, Failure> {
    let folder = tempfile::tempdir()?;
    let (data, log) = (folder.path().join("data"), folder.path().join("log"));
    std::fs::create_dir(&data)?;
    let data = data.canonicalize()?;
    let child = Command::new(std::env::current_exe()?)
        .args(["--exact", "the_process_that_works", "--ignored"])
        .env(CHILD, &data)
        .env("LD_PRELOAD", recorder(folder.path())?)
        .env("RECORD_FOLDER", &data)
        .env("RECORD_LOG", &log)
        .output()?;
    let said = String::from_utf8_lossy(&child.stderr);
    assert!(data.join(CONFIRMED).exists(), "it did not work: {said}");
    Ok(records(&std::fs::read(log)?))
}

/// Builds the recorder with the compiler that building SQLite needs as well.
fn recorder(folder: &Path) -> Result<PathBuf, Failure> {
    let library = folder.join("recorder.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power/recorder.c");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .arg("-lpthread")
        .output()?;
    let said = String::from_utf8_lossy(&built.stderr);
    assert!(built.status.success(), "cc: {said}");
    Ok(library)
}

/// The numbers of messages that were published, and of those whose handling was settled.
#[derive(Debug, Default)]
struct Promised {
    published: BTreeSet<u32>,
    settled: BTreeSet<u32>,
}

/// How often each number waits in the first queue and in the one that handling publishes to.
type Found = [BTreeMap<u32, u32>; 2];

impl Promised {
    fn read(confirmed: &[u8]) -> Self {
        let mut promised = Self::default();
        for line in std::str::from_utf8(confirmed).unwrap().lines() {
            let (what, number) = line.split_once(' ').unwrap();
            let numbers = match what {
                "published" => &mut promised.published,
                _ => &mut promised.settled,
            };
            numbers.insert(number.parse().unwrap());
        }
        promised
    }

    /// What is not as it was promised.
    fn missing(&self, [waiting, handled]: &Found) -> Vec<String> {
        let count = |of: &BTreeMap<u32, u32>, number| of.get(number).copied().unwrap_or(0);
        let mut wrong = Vec::new();
        let all = self.published.iter().chain(waiting.keys());
        for number in all.chain(handled.keys()) {
            let both = (count(waiting, number), count(handled, number));
            let right = match self.settled.contains(number) {
                true => both == (0, 1),
                // Settling is a transaction: never neither, never both.
                false => both == (1, 0) || both == (0, 1),
            };
            if !right {
                wrong.push(format!("{number}: {both:?} in the two queues"));
            }
        }
        wrong
    }
}

/// Opens what a cut has left.
async fn open(files: &BTreeMap<String, Vec<u8>>) -> Result<Found, Failure> {
    let folder = tempfile::tempdir()?;
    for (name, content) in files.iter().filter(|(name, _)| *name != CONFIRMED) {
        std::fs::write(folder.path().join(name), content)?;
    }
    let backend = EmbeddedBackend::open(folder.path(), EmbeddedOptions::default()).await?;
    let mut found = Found::default();
    for (spec, found) in queues()?.into_iter().zip(&mut found) {
        let queue = backend.declare_queue(spec).await?.queue;
        let depth = depth(&backend, &queue).await?;
        let mut held = Vec::new();
        while (held.len() as u64) < depth {
            let batch = backend.receive(&queue, 1_000, PATIENCE).await?;
            assert!(!batch.is_empty(), "{} of {depth} came", held.len());
            held.extend(batch);
        }
        for delivery in &held {
            *found.entry(number(&content(delivery)?)).or_default() += 1;
        }
    }
    backend.close().await;
    Ok(found)
}

async fn depth(backend: &EmbeddedBackend, queue: &Queue) -> Result<u64, Failure> {
    let overview = backend.overview().await?;
    let status = overview
        .queues
        .iter()
        .find(|status| status.spec.name == queue.name);
    Ok(status.map_or(0, |status| status.depth()))
}

fn queues() -> Result<[QueueSpec; 2], Failure> {
    Ok([spec("first", &["first"])?, spec("second", &["second"])?])
}

/// A message that says its number, and is as long as makes the log wrap around several times.
fn numbered(topic: &str, number: u32) -> Outgoing {
    let long = match number % 4 {
        0 => 24_000,
        _ => 40,
    };
    let content = format!("{number:0>long$}");
    Outgoing::new(Message::new(topic.parse().unwrap(), Payload::text(content)))
}

fn number(message: &Message) -> u32 {
    let text = std::str::from_utf8(&message.payload.content).unwrap();
    text.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "it is the other process of the tests above"]
async fn the_process_that_works() -> Outcome {
    let Some(folder) = std::env::var_os(CHILD).map(PathBuf::from) else {
        return Ok(());
    };
    let messages = chosen("SANDBAR_TEST_POWER_MESSAGES", MESSAGES);
    let backend = Arc::new(EmbeddedBackend::open(&folder, EmbeddedOptions::default()).await?);
    let [first, second] = queues()?;
    let queue = backend.declare_queue(first).await?.queue;
    backend.declare_queue(second).await?;
    let confirmed = Arc::new(Mutex::new(std::fs::File::create(folder.join(CONFIRMED))?));
    let publishers = (0..4).map(|publisher| {
        let (backend, confirmed) = (backend.clone(), confirmed.clone());
        tokio::spawn(async move {
            for number in (publisher..messages).step_by(4) {
                let outgoing = numbered("first", number);
                for published in backend.publish(vec![outgoing]).await {
                    published.unwrap();
                }
                let line = format!("published {number}\n");
                confirmed
                    .lock()
                    .unwrap()
                    .write_all(line.as_bytes())
                    .unwrap();
            }
        })
    });
    let publishers: Vec<_> = publishers.collect();
    let mut settled = 0;
    while settled < messages {
        let mut settlements = Vec::new();
        let mut numbers = Vec::new();
        for delivery in backend.receive(&queue, 20, PATIENCE).await? {
            let number = number(&*decode(Form::Native, &delivery.packet)?);
            if number.is_multiple_of(7) && delivery.attempt == 1 {
                let again = sandbar_tests::contract::again(&delivery, Duration::ZERO);
                settlements.push(delivery.settle(again, Effects::default()));
                numbers.push(None);
            } else {
                let effects = publishing(vec![numbered("second", number)]);
                settlements.push(delivery.settle(Verdict::Ack, effects));
                numbers.push(Some(number));
            }
        }
        for (result, number) in backend.settle(settlements).await.into_iter().zip(numbers) {
            result?;
            if let Some(number) = number {
                settled += 1;
                let line = format!("settled {number}\n");
                confirmed.lock().unwrap().write_all(line.as_bytes())?;
            }
        }
    }
    for publisher in publishers {
        publisher.await?;
    }
    // Nothing is put in order at the end.
    std::process::abort();
}
