//! kill -9 of the host in the middle of its work: every accepted message is handled, and whatever it caused is there
//! exactly once.
//!
//! Real processes, real files, real SIGKILL. The systematic harness with named points is not here.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::time::Duration;

use sandbar::backend::{Backend, Effects, EmbeddedBackend, EmbeddedOptions, QueueSpec, Verdict};
use sandbar::store::Store as _;
use sandbar::topic::TopicName;
use sandbar::wire::{Form, decode};
use sandbar_tests::process::Folder;

const MESSAGES: usize = 100_000;
/// Kills before the host may finish.
const KILLS: u32 = 8;

#[test]
fn every_message_is_handled_once_across_kills() {
    let folder = Folder::new();
    folder.guest("misbehave", "plugins/misbehave.wasm");
    folder.write(
        "sandbar.toml",
        "[plugins.misbehave]\nstate = true\npublish = [\"out.>\"]\n[plugins.misbehave.limits]\nconcurrency = 8\n",
    );
    let mut lines = String::new();
    for number in 0..MESSAGES {
        writeln!(lines, "{number}").unwrap();
    }
    folder.write("lines", &lines);
    let sent = folder.run([
        "send",
        "bad.ledger",
        "--lines",
        "lines",
        "--reply-to",
        "out.reply",
    ]);
    assert_eq!(sent.code, Some(0), "{}", sent.stderr);

    // A seed of its own for each run, printed so that a failure can be repeated.
    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = seed;
    let mut done = 0;
    for kill in 0..KILLS {
        let host = folder.host(["--log", "warn"]);
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        pause(Duration::from_millis(50 + (random >> 33) % 350));
        host.signal("KILL");
        assert_eq!(host.ended().code, None, "ended by the signal");
        let handled = runtime().block_on(handled(&folder));
        println!("kill {kill}: {handled} handled");
        assert!(handled >= done, "what was handled stays handled");
        done = handled;
    }
    // Orderly stops in between cost nothing either; each round gets further.
    for _ in 0..60 {
        if done == MESSAGES {
            break;
        }
        let host = folder.host(["--log", "warn"]);
        pause(Duration::from_secs(1));
        host.signal("TERM");
        let ended = host.ended();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        done = runtime().block_on(handled(&folder));
    }
    assert_eq!(done, MESSAGES, "the counter in the state");
    runtime().block_on(verify(&folder));
}

/// Lets the host work for a while; what it has done by then is looked up, never assumed.
#[expect(
    clippy::disallowed_methods,
    reason = "the test waits for another process"
)]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
}

async fn open(folder: &Folder) -> EmbeddedBackend {
    let data = folder.path().join("sandbar-data");
    EmbeddedBackend::open(&data, EmbeddedOptions::default())
        .await
        .unwrap()
}

/// What the handler has counted in its state.
async fn handled(folder: &Folder) -> usize {
    let backend = open(folder).await;
    let count = backend
        .state_get("misbehave", "ledger")
        .await
        .unwrap()
        .value;
    backend.close().await;
    count.map_or(0, |count| {
        std::str::from_utf8(&count).unwrap().parse().unwrap()
    })
}

/// Each message was published once and replied to once, and nothing became a dead letter.
async fn verify(folder: &Folder) {
    let backend = open(folder).await;
    for topic in ["out.ledger", "out.reply"] {
        let name: TopicName = topic.parse().unwrap();
        let spec = QueueSpec::new(topic.parse().unwrap(), vec![name.into()]);
        let queue = backend.declare_queue(spec).await.unwrap().queue;
        let mut numbers = HashSet::new();
        loop {
            let batch = backend
                .receive(&queue, 2048, Duration::from_millis(500))
                .await
                .unwrap();
            if batch.is_empty() {
                break;
            }
            let mut settlements = Vec::new();
            for delivery in batch {
                let message = decode(Form::Native, &delivery.packet).unwrap();
                assert!(message.ok());
                let text = std::str::from_utf8(&message.payload.content).unwrap();
                let number: usize = text.parse().unwrap();
                assert!(
                    number < MESSAGES && numbers.insert(number),
                    "{number} came twice in {topic}"
                );
                settlements.push(delivery.settle(Verdict::Ack, Effects::default()));
            }
            for settled in backend.settle(settlements).await {
                settled.unwrap();
            }
        }
        assert_eq!(numbers.len(), MESSAGES, "{topic}");
    }
    assert!(backend.dead_letters(10).await.unwrap().is_empty());
    backend.close().await;
}
