//! K4: two versions take each other's place under constant load, with a broken one in between.
//!
//! `SANDBAR_TEST_RELOAD_SWAPS=200` makes it long.

use super::*;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use sandbar::backend::{Effects, Outgoing, QueueSpec, Verdict};
use sandbar::wire::{self, Form};
use sandbar_tests::settings::chosen;
use sandbar_tests::traffic::{eventually, topic};
use tokio::time::Instant;

/// The number of a message, and whether the second version told it: small, since memory is looked at.
type Told = (u32, bool);

const SWAPS: usize = 12;
/// Messages that wait to be told at any time.
const AHEAD: usize = 200;
/// How long each version is live: long enough for a second of its own in the figures of the long form.
const EACH: Duration = Duration::from_millis(150);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_take_each_others_place_under_load() {
    let swaps = chosen("SANDBAR_TEST_RELOAD_SWAPS", SWAPS as u64) as usize;
    let fixture = Arc::new(Fixture::new("embedded").await);
    let versions = [fixture.version("two", &[TWO]), fixture.version("one", &[])];
    // Half of a component.
    let broken = fixture.folder.path().join("broken.wasm");
    std::fs::write(&broken, &version(&[])[..2_000]).unwrap();
    let broken = served(broken);
    let sent = Arc::new(AtomicUsize::new(0));
    let over = Arc::new(AtomicBool::new(false));
    // A queue of its own from the beginning, so that nothing is told to nobody.
    assert!(more(&fixture).await.is_empty());
    let sending = tokio::spawn(send(fixture.clone(), sent.clone(), over.clone()));
    let asking = tokio::spawn(ask(fixture.clone(), over.clone()));
    let mut old = Vec::new();
    let (mut told, mut moments) = (Vec::<Told>::new(), Vec::new());
    for swap in 0..swaps {
        if swap % 3 == 1 {
            let outcome = fixture.host.reload(broken.clone()).await;
            assert!(
                matches!(outcome, ReloadOutcome::RolledBack(_)),
                "{outcome:?}"
            );
        }
        old.push(Arc::downgrade(&fixture.host.plugins()[0]));
        moments.push(Instant::now());
        fixture.swaps(versions[swap % 2].clone()).await;
        // Something is told by each version.
        let until = Instant::now() + EACH;
        let before = told.len();
        while Instant::now() < until || told.len() == before {
            told.extend(more(&fixture).await);
        }
        if swap == swaps / 4 {
            println!("after {swap} swaps: {} KiB resident", resident_kib());
        }
    }
    over.store(true, Ordering::SeqCst);
    sending.await.unwrap();
    let asked = asking.await.unwrap();
    let sent = sent.load(Ordering::SeqCst);
    eventually("everything is told", async || {
        told.extend(more(&fixture).await);
        told.len() >= sent
    })
    .await;
    assert_eq!(told.len(), sent, "none is told twice");
    let by_two = told.iter().filter(|(_, two)| *two).count();
    println!("version two told {by_two} of {sent}");
    assert!(by_two > 0 && by_two < sent, "each has told something");
    let numbers: HashSet<u32> = told.into_iter().map(|(number, _)| number).collect();
    assert_eq!(numbers.len(), sent, "none is lost");
    fixture.no_dead_letters().await;
    eventually("no version before is left", async || {
        old.iter().all(|version| version.upgrade().is_none())
    })
    .await;
    println!("after {swaps} swaps: {} KiB resident", resident_kib());
    figures(asked, &moments);
}

/// What was told meanwhile, one batch of it: there may always be more.
async fn more(fixture: &Fixture) -> Vec<Told> {
    let topics = vec![topic("out.told").into()];
    let spec = QueueSpec::new("take.out.told".parse().unwrap(), topics);
    let queue = fixture.backend.declare_queue(spec).await.unwrap().queue;
    let wait = Duration::from_millis(20);
    let batch = fixture.backend.receive(&queue, 500, wait).await.unwrap();
    let (mut told, mut settled) = (Vec::new(), Vec::new());
    for delivery in batch {
        let said = text(&wire::decode(Form::Native, &delivery.packet).unwrap());
        let (number, version) = said.split_once(' ').unwrap();
        assert!(version == "version one" || version == "version two");
        told.push((number.parse().unwrap(), version == "version two"));
        settled.push(delivery.settle(Verdict::Ack, Effects::default()));
    }
    for settled in fixture.backend.settle(settled).await {
        settled.unwrap();
    }
    told
}

/// Keeps so many messages waiting.
async fn send(fixture: Arc<Fixture>, sent: Arc<AtomicUsize>, over: Arc<AtomicBool>) {
    while !over.load(Ordering::SeqCst) {
        let first = sent.load(Ordering::SeqCst);
        let batch = (first..first + AHEAD / 4)
            .map(|number| Outgoing::new(message("swap.told", &number.to_string())));
        for receipt in fixture.backend.publish(batch.collect()).await {
            receipt.unwrap();
            sent.fetch_add(1, Ordering::SeqCst);
        }
        let queues = fixture.backend.overview().await.unwrap().queues;
        let own = queues
            .iter()
            .find(|it| it.spec.name.as_str() == "sandbar.swap");
        if own.is_some_and(|own| own.depth() > AHEAD as u64) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Asks one question after the other; when each was asked and how long it took.
async fn ask(fixture: Arc<Fixture>, over: Arc<AtomicBool>) -> Vec<(Instant, Duration)> {
    let mut asked = Vec::new();
    while !over.load(Ordering::SeqCst) {
        let began = Instant::now();
        assert!(fixture.ask().await.starts_with("version "));
        asked.push((began, began.elapsed()));
    }
    asked
}

/// A figure, and no assertion: this machine has other things to do.
fn figures(asked: Vec<(Instant, Duration)>, swaps: &[Instant]) {
    const NEAR: Duration = Duration::from_millis(50);
    let near = |at: &Instant| {
        let mut swaps = swaps.iter();
        swaps.any(|swap| *at + NEAR > *swap && *swap + NEAR > *at)
    };
    let (during, steady): (Vec<_>, Vec<_>) = asked.into_iter().partition(|(at, _)| near(at));
    for (name, asked) in [("steady", steady), ("within 50 ms of a swap", during)] {
        let mut times: Vec<Duration> = asked.into_iter().map(|(_, took)| took).collect();
        times.sort();
        let at = |share: usize| times.get(times.len() * share / 100);
        println!(
            "{name}: {} questions, p50 {:?}, p99 {:?}",
            times.len(),
            at(50),
            at(99)
        );
    }
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let resident = resident.unwrap().trim().trim_end_matches(" kB");
    resident.parse().unwrap()
}
