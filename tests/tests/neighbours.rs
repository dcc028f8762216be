//! What each sin costs the neighbour of the sinner, and that all of the memory comes back.
//!
//! The neighbour is asked one question after the other, without the sin and beside it, in turns; the times are printed, not
//! asserted. `SANDBAR_TEST_NEIGHBOURS` is how many questions are asked in each turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sandbar::backend::{Opened, open};
use sandbar::control::{Host, HostOptions, ServedPlugin};
use sandbar::message::{Message, Payload};
use sandbar::plugin::PluginSpec;
use sandbar::retry::RetryPolicy;
use sandbar::store::LetterPart;
use sandbar_tests::contract::{Failure, Outcome};
use sandbar_tests::guests::guest;
use sandbar_tests::raw::{Raw, TOPIC};
use sandbar_tests::settings::chosen;
use sandbar_tests::traffic::SOON;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// What is done with it, how often, and what it is called.
const SINS: [(&str, &str, &str); 10] = [
    ("endless loop", "bad.loop", ""),
    ("memory, in pieces of 1 MiB", "bad.memory", ""),
    ("memory, in small pieces", "bad.memory", "small"),
    ("trap", "bad.trap", "abort"),
    ("panic", "bad.trap", "x"),
    ("huge reply", "bad.huge-reply", "4000000"),
    ("huge message published", "bad.publish-huge", "4000000"),
    ("10,000 messages published", "bad.publish-many", "10000"),
    ("100,000 lines logged", "bad.log-flood", "100000"),
    ("100,000 keys written", "bad.state-flood", "100000 1"),
];
/// Memory that may stay after all of it was done once more, in KiB.
const MORE_KIB: u64 = 32 << 10;

async fn host(folder: &std::path::Path) -> Result<(Host, Opened), Failure> {
    let opened = open("memory", folder).await?;
    let file = folder.join("raw.wasm");
    let deep = Raw {
        more: "(func $down (param i32) (result i32)
                (i32.add (i32.const 1) (call $down (i32.add (local.get 0) (i32.const 1)))))"
            .to_owned(),
        handle: "(call $down (i32.const 0))".to_owned(),
        ..Raw::default()
    };
    std::fs::write(&file, deep.component())?;
    let sinner = |file: &std::path::Path| {
        let mut served = ServedPlugin::new(PluginSpec::from_file(file));
        served.spec.limits.time = Duration::from_millis(200);
        served.spec.limits.memory = 16 << 20;
        served.spec.limits.content = 64 << 10;
        // It goes on, so that it goes on hurting.
        served.spec.limits.breaker = None;
        served.spec.grants.state = true;
        served.retry = RetryPolicy {
            max_attempts: 1,
            ..RetryPolicy::default()
        };
        served
    };
    let mut misbehave = sinner(&guest("misbehave"));
    misbehave.spec.grants.publish = vec!["out.>".parse()?];
    let echo = ServedPlugin::new(PluginSpec::from_file(&guest("echo")));
    let options = HostOptions {
        plugins: vec![echo, misbehave, sinner(&file)],
        ..HostOptions::default()
    };
    let host = Host::start(opened.backend.clone(), opened.store.clone(), options).await?;
    Ok((host, opened))
}

async fn ask(host: &Host, topic: &str, content: &str) -> Outcome {
    let message = Message::new(topic.parse()?, Payload::text(content));
    host.client().request(message, SOON).await?;
    Ok(())
}

/// How long each of so many questions took. Whoever asks is a task beside those of the host, as one that serves a connection
/// would be: a thread of its own would be one more than there are cores, and wait for one of them.
async fn times(host: &Host, count: usize) -> Result<Vec<Duration>, Failure> {
    let host = host.clone();
    let asked = tokio::spawn(async move {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let began = Instant::now();
            ask(&host, "echo", "are you there?").await?;
            times.push(began.elapsed());
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        Ok(times)
    });
    AbortOnDropHandle::new(asked).await?
}

/// Commits it again and again as long as the neighbour is asked. Returns how often, too.
async fn beside(
    host: &Host,
    (topic, content): (&'static str, &'static str),
    count: usize,
) -> Result<(Vec<Duration>, usize), Failure> {
    let committed = Arc::new(AtomicUsize::new(0));
    let (sinner, counter) = (host.clone(), committed.clone());
    let sins = tokio::spawn(async move {
        loop {
            if let Err(error) = ask(&sinner, topic, content).await {
                return error;
            }
            counter.fetch_add(1, Ordering::Relaxed);
        }
    });
    tokio::select! {
        error = AbortOnDropHandle::new(sins) => Err(error?),
        times = times(host, count) => Ok((times?, committed.load(Ordering::Relaxed))),
    }
}

fn at(times: &mut [Duration], percent: usize) -> Duration {
    times.sort_unstable();
    let at = (times.len() * percent).div_ceil(100).saturating_sub(1);
    times.get(at).copied().unwrap_or_default()
}

fn resident_kib() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("no such line")?.parse()?)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_sin_costs_the_sinner_and_leaves_nothing() -> Outcome {
    let count = chosen("SANDBAR_TEST_NEIGHBOURS", 80_usize);
    let folder = tempfile::tempdir()?;
    let (host, opened) = host(folder.path()).await?;
    let mut sins = SINS.to_vec();
    sins.push(("endless recursion", TOPIC, "x"));
    let mut resident = Vec::new();
    for round in 0..3 {
        for (what, topic, content) in &sins {
            let (mut without, mut with, mut committed) = (Vec::new(), Vec::new(), 0);
            for _ in 0..2 {
                without.extend(times(&host, count / 2).await?);
                let (times, sins) = beside(&host, (topic, content), count / 2).await?;
                with.extend(times);
                committed += sins;
            }
            let (before, during) = (at(&mut without, 99), at(&mut with, 99));
            let ratio = during.as_secs_f64() / before.as_secs_f64();
            println!(
                "{round} {what}: p50 {:?} -> {:?}, p99 {before:?} -> {during:?}, {ratio:.2}x, {committed} sins",
                at(&mut without, 50),
                at(&mut with, 50),
            );
        }
        // Each sin is a dead letter, and those are kept.
        let all = LetterPart {
            until: u64::MAX,
            limit: usize::MAX,
            ..LetterPart::default()
        };
        let purged = opened.store.purge_letters(&all).await?;
        println!("{round} {} dead letters", purged.done);
        resident.push(resident_kib()?);
    }
    println!("resident: {resident:?} KiB");
    // From the second round on the allocator has what it keeps of the dead letters of a whole round.
    let (first, last) = (resident.get(1), resident.last());
    let grown = first
        .zip(last)
        .map(|(first, last)| last.saturating_sub(*first));
    assert!(
        grown.is_some_and(|grown| grown < MORE_KIB),
        "{resident:?} KiB"
    );
    assert!(host.stop(SOON).await);
    Ok(())
}
