//! kill -9 of the host in the middle of its work: every accepted message is handled, and whatever it caused is there
//! exactly once.
//!
//! Real processes, real files, real SIGKILL: at random moments, and at named places of the path.

use std::collections::HashSet;
use std::time::Duration;

use sandbar::backend::{Backend, Effects, EmbeddedBackend, EmbeddedOptions, QueueSpec, Verdict};
use sandbar::store::Store as _;
use sandbar::topic::TopicName;
use sandbar::wire::{Form, decode};
use sandbar_tests::process::{Folder, binary_with_kill_points, finish};

/// Messages of the random kills.
const MESSAGES: usize = 100_000;
/// Kills before the host may finish.
const KILLS: u32 = 8;

/// Messages that are sent before each kill at a named place.
const FEW: usize = 1_000;
/// The places, in the order of the path, and at which of the times that it passes one a host is killed. Messages are received
/// and committed together, as many as there are, so that only the first time is certain to come there.
const POINTS: [(&str, [usize; 3]); 7] = [
    ("received", [1, 1, 1]),
    ("handled", [1, 300, 700]),
    ("decided", [1, 300, 700]),
    ("before-commit", [1, 1, 1]),
    ("committed", [1, 1, 1]),
    ("flushed", [1, 1, 1]),
    ("confirmed", [1, 1, 1]),
];

/// A folder with a plugin that counts in its state, publishes and replies.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.guest("misbehave", "plugins/misbehave.wasm");
    folder.write(
        "sandbar.toml",
        "[plugins.misbehave]\nstate = true\npublish = [\"out.>\"]\n[plugins.misbehave.limits]\nconcurrency = 8\n",
    );
    folder
}

/// K2: wherever on the path the host is killed, what was accepted is handled, and what it caused is there once.
#[test]
fn every_message_is_handled_once_wherever_the_host_is_killed() {
    for (point, times) in POINTS {
        let folder = folder();
        let (mut done, mut sent) = (0, 0);
        for time in times {
            folder.send_numbers("bad.ledger", sent..sent + FEW, "out.reply");
            sent += FEW;
            let usual = folder.command(["run", "--log", "warn"]);
            let mut command = std::process::Command::new(binary_with_kill_points());
            command
                .args(usual.get_args())
                .current_dir(folder.path())
                .env("KILL_POINT", format!("{point}:{time}"));
            let ended = finish(command, b"");
            let place = format!("`{point}`, time {time}");
            assert_eq!(ended.code, None, "not killed at {place}: {}", ended.stderr);
            let handled = runtime().block_on(handled(&folder));
            println!("killed at {place}: {handled} handled");
            assert!(handled >= done, "what was handled stays handled");
            if matches!(point, "committed" | "flushed" | "confirmed") {
                assert!(handled > done, "what was committed before {place} is there");
            }
            done = handled;
        }
        let host = folder.host(["--log", "warn"]);
        let began = tokio::time::Instant::now();
        while !waits_for_nothing(&folder) {
            assert!(began.elapsed() < Duration::from_secs(60), "{}", host.log());
        }
        host.signal("TERM");
        assert_eq!(host.ended().code, Some(0));
        assert_eq!(runtime().block_on(handled(&folder)), sent, "{point}");
        runtime().block_on(verify(&folder, sent));
    }
}

/// Whether the plugin's queue is empty, as the running host says.
fn waits_for_nothing(folder: &Folder) -> bool {
    let shown = folder.run(["queues", "show", "sandbar.misbehave", "--json"]);
    assert_eq!(shown.code, Some(0), "{}", shown.stderr);
    let shown: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap();
    ["ready", "in_flight", "delayed", "retrying", "parked"]
        .iter()
        .all(|count| shown[count].as_u64() == Some(0))
}

#[test]
fn every_message_is_handled_once_across_kills() {
    let folder = folder();
    folder.send_numbers("bad.ledger", 0..MESSAGES, "out.reply");

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
    runtime().block_on(verify(&folder, MESSAGES));
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
async fn verify(folder: &Folder, messages: usize) {
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
                    number < messages && numbers.insert(number),
                    "{number} came twice in {topic}"
                );
                settlements.push(delivery.settle(Verdict::Ack, Effects::default()));
            }
            for settled in backend.settle(settlements).await {
                settled.unwrap();
            }
        }
        assert_eq!(numbers.len(), messages, "{topic}");
    }
    assert!(backend.dead_letters(10).await.unwrap().is_empty());
    backend.close().await;
}
