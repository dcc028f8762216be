//! The local socket of a host that runs: what another process really says to it, with a few things changed.
//!
//! The host lives, says nothing of a defect, and answers the next client.

use super::*;

use std::io::{Read as _, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::{Arc, Mutex};

use proptest::strategy::ValueTree as _;
use sandbar::backend::{Backend as _, LocalBackend, Outgoing, QueueSpec, Verdict};
use sandbar::store::{LetterFilter, LetterPart, ReplayTo, Store as _};
use sandbar_tests::contract::{
    Failure, Outcome, keyed, letter, message, name, publishing, spec, writing,
};
use sandbar_tests::process::Folder;
use sandbar_tests::traffic::eventually;

/// Bytes of the length before a frame.
const HEAD: usize = 4;
/// However it is treated, a host takes no more than this.
const TOO_MUCH: u64 = 1 << 20;
/// No connection lasts longer when its client has said everything.
const ENDS: Duration = Duration::from_secs(30);
/// Longer than any clock counts.
const FOR_EVER: Duration = Duration::MAX;

/// What was said on each connection.
type Heard = Arc<Mutex<Vec<Vec<u8>>>>;

/// A socket beside that of a host, which writes down what passes.
fn eavesdrop(at: &Path, host: &Path) -> Result<Heard, Failure> {
    std::fs::create_dir_all(at)?;
    let (listener, host) = (
        UnixListener::bind(at.join("sandbar.sock"))?,
        host.to_owned(),
    );
    let all: Heard = Arc::default();
    let heard = all.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let there = UnixStream::connect(&host).unwrap();
            let heard = heard.clone();
            std::thread::spawn(move || pass_on(client, there, &heard));
        }
    });
    Ok(all)
}

fn pass_on(mut client: UnixStream, mut there: UnixStream, heard: &Heard) {
    let (mut back, mut answers) = (client.try_clone().unwrap(), there.try_clone().unwrap());
    let answering = std::thread::spawn(move || {
        std::io::copy(&mut answers, &mut back).ok();
        back.shutdown(Shutdown::Write).ok();
    });
    let (mut buffer, mut said) = (vec![0; 1 << 16], Vec::new());
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        said.extend(&buffer[..count]);
        there.write_all(&buffer[..count]).unwrap();
    }
    there.shutdown(Shutdown::Write).ok();
    // Before the client sees the end.
    heard.lock().unwrap().push(said);
    answering.join().ok();
}

/// One of everything that a client says.
async fn talk(client: &LocalBackend) -> Outcome {
    client.health().await?;
    client.declare_topic(&"f.kept".parse()?).await?;
    let with_everything = QueueSpec {
        group: "g".to_owned(),
        dead_letter: Some(name("f.dead")?),
        ..spec("f.q", &["f.t", "f.*.x", "f.>"])?
    };
    let queue = client.declare_queue(with_everything).await?.queue;
    let short_lived = QueueSpec {
        ephemeral: true,
        ..spec("f.short", &["f.short"])?
    };
    client.declare_queue(short_lived).await?;
    client.get_queue(&queue.name).await?;
    let mut batch = vec![keyed("f.t", "key", "a")?, keyed("f.t", "key", "b")?];
    for text in ["c", "d", "e"] {
        batch.push(message("f.t", text)?);
    }
    batch.push(Outgoing {
        delay: FOR_EVER,
        ..message("f.t", "much later")?
    });
    batch.push(Outgoing {
        delay: Duration::from_millis(1),
        mandatory: true,
        ..message("f.nobody", &"x".repeat(2000))?
    });
    client.publish(batch).await;
    let mut taken = client.receive(&queue, 4, Duration::from_secs(1)).await?;
    let tokens: Vec<_> = taken.iter().map(|delivery| delivery.token()).collect();
    client.extend(&tokens, Duration::from_secs(1)).await;
    client.extend(&tokens, FOR_EVER).await;
    client.extend(&tokens, Duration::ZERO).await;
    let mut settlements = Vec::new();
    let effects = || {
        let mut effects = writing(&[("k", 0)], &[("k", Some("v")), ("gone", None)]);
        effects.publishes.push(message("f.kept", "effect")?);
        Ok::<_, Failure>(effects)
    };
    if let Some(done) = taken.pop() {
        settlements.push(done.settle(Verdict::Ack, effects()?));
    }
    if let Some(dead) = taken.pop() {
        let kept = Verdict::DeadLetter(Box::new(letter(&dead, "dead")));
        settlements.push(dead.settle(kept, publishing(Vec::new())));
    }
    client.settle(settlements).await;
    // Given back.
    drop(taken);
    client.state_get("p", "k").await?;
    client.state_keys("p", "", Some("a"), 10).await?;
    client.dead_letters(10).await?;
    let all = LetterFilter::default();
    client.letters(&all, None, 10).await?;
    client.letter(1).await?;
    client.count_letters(&all).await?;
    client.overview().await?;
    client.purge_queue(&name("f.dead")?).await?;
    let part = LetterPart {
        filter: all,
        after: 0,
        until: 10,
        limit: 10,
    };
    client.replay_letters(&part, &ReplayTo::default()).await?;
    client.purge_letters(&part).await?;
    let waits = client.receive(&queue, 10, FOR_EVER);
    // Cancelled.
    tokio::time::timeout(Duration::from_millis(20), waits)
        .await
        .ok();
    client.delete_topic(&"f.kept".parse()?).await?;
    client.delete_queue(&queue.name).await?;
    client.close().await;
    Ok(())
}

/// The frames in what was heard, without their lengths.
fn frames(mut heard: &[u8]) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    while let Some((head, rest)) = heard.split_first_chunk::<HEAD>() {
        let Some((frame, rest)) = rest.split_at_checked(u32::from_be_bytes(*head) as usize) else {
            break;
        };
        frames.push(frame.to_vec());
        heard = rest;
    }
    frames
}

/// How a connection ends.
#[derive(Debug, Clone, Copy)]
enum End {
    /// Everything is said, and answers are read to the last one.
    Said,
    /// It goes away without reading anything.
    Gone,
}

/// What is said on one connection.
#[derive(Debug, Clone)]
struct Said {
    greets: bool,
    /// Frames, and what their length is set to instead of the right one.
    frames: Vec<(Vec<u8>, Option<u32>)>,
    end: End,
}

fn said(real: &[Vec<u8>]) -> impl Strategy<Value = Said> + use<> {
    let wrong = prop_oneof![
        Just(0),
        Just(u32::MAX),
        Just((32 << 20) + 1),
        Just(32 << 20),
        any::<u32>(),
        0..64_u32
    ];
    // Most of what is said before has to be understood.
    let frame = prop_oneof![
        10 => prop::sample::select(real.to_vec()).prop_map(|frame| (frame, None)),
        2 => changed(real.to_vec()).prop_map(|frame| (frame, None)),
        1 => (changed(real.to_vec()), prop::option::weighted(0.5, wrong)),
    ];
    let end = prop_oneof![3 => Just(End::Said), 1 => Just(End::Gone)];
    let frames = prop::collection::vec(frame, 1..12);
    (prop::bool::weighted(0.95), frames, end).prop_map(|(greets, frames, end)| Said {
        greets,
        frames,
        end,
    })
}

/// Says it, and waits until the host has ended the connection. Returns how many answers came.
fn say(socket: &Path, greeting: &[u8], said: &Said) -> usize {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(ENDS)).unwrap();
    stream.set_write_timeout(Some(ENDS)).unwrap();
    let mut bytes = Vec::new();
    let greets = said.greets.then(|| (greeting.to_vec(), None));
    for (frame, length) in greets.into_iter().chain(said.frames.clone()) {
        let length = length.unwrap_or(u32::try_from(frame.len()).unwrap());
        bytes.extend(length.to_be_bytes());
        bytes.extend(frame);
    }
    // It may have heard enough before the end.
    let heard = stream.write_all(&bytes);
    if let (End::Said, Ok(())) = (said.end, heard) {
        stream.shutdown(Shutdown::Write).ok();
        let (mut buffer, mut answers) = (vec![0; 1 << 16], Vec::new());
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => answers.extend(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    panic!("the host holds on to {said:?}")
                }
                Err(_) => break,
            }
        }
        // The first one is the greeting.
        return frames(&answers).len().saturating_sub(1);
    }
    0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_lives_whatever_is_said_to_it() -> Outcome {
    let folder = Folder::new();
    folder.guest("echo", "echo.wasm");
    let host = folder.host(["echo.wasm", "--data", "data"]);
    let (data, aside) = (folder.path().join("data"), folder.path().join("aside"));
    let socket = data.join("sandbar.sock");
    let heard = eavesdrop(&aside, &socket)?;
    talk(&LocalBackend::connect(&aside).await?).await?;
    for verb in [
        "plugins list",
        "plugins show echo",
        "plugins history echo",
        "plugins pause echo",
        "plugins resume echo",
    ] {
        let words = verb.split(' ').chain(["--data", "aside"]);
        let asked = folder.run(words);
        assert_eq!(asked.code, Some(0), "{verb}: {}", asked.stderr);
    }
    eventually("every connection has ended", async || {
        heard.lock().unwrap().len() == 6
    })
    .await;
    let mut greeting = Vec::new();
    let mut real = Vec::new();
    for said in &*heard.lock().unwrap() {
        let mut said = frames(said);
        greeting = said.remove(0);
        real.extend(said);
    }
    assert!(real.len() > 30, "{} frames were heard", real.len());
    let pid = host.id().to_string();
    let before = peak_kib(&pid);

    // As it was said, the numbers of what is settled excepted.
    say(
        &socket,
        &greeting,
        &Said {
            greets: true,
            frames: real.iter().map(|it| (it.clone(), None)).collect(),
            end: End::Said,
        },
    );
    let strategy = said(&real);
    let (mut runner, mut answers) = (runner(200), 0);
    for case in 0..runner.config().cases {
        let said = strategy.new_tree(&mut runner).unwrap().current();
        let (to, greeting, now) = (socket.clone(), greeting.clone(), said.clone());
        let saying = tokio::task::spawn_blocking(move || say(&to, &greeting, &now));
        let answered = saying.await;
        answers += answered.unwrap_or_else(|error| panic!("case {case}: {error}"));
        let log = host.log();
        assert!(
            !log.contains("panicked") && !log.contains("defect"),
            "case {case}, {said:?}:\n{log}"
        );
        if case % 20 == 0 {
            LocalBackend::connect(&data).await?.health().await?;
        }
    }
    let grown = peak_kib(&pid).saturating_sub(before);
    let cases = runner.config().cases as usize;
    println!("{cases} connections, {answers} answers, {grown} KiB more at most");
    // Otherwise hardly anything of what was said was understood, and nothing was tried.
    assert!(answers > cases / 2, "{answers} answers");
    assert!(grown < TOO_MUCH, "the host took {grown} KiB");

    // Its plugin may have been paused and its queue deleted; that is for who may say such a thing.
    let resumed = folder.run(["plugins", "resume", "echo", "--data", "data"]);
    assert_eq!(resumed.code, Some(0), "{}", resumed.stderr);
    eventually("the next client is answered", async || {
        let asked = folder.command([
            "request",
            "echo",
            "hello",
            "--data",
            "data",
            "--timeout",
            "2s",
        ]);
        let asked = tokio::task::spawn_blocking(|| sandbar_tests::process::finish(asked, b""));
        let answer = asked.await.unwrap();
        answer.code == Some(0) && answer.stdout.contains("hello")
    })
    .await;
    host.signal("TERM");
    let ended = host.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    Ok(())
}

/// As much as fits into a frame, of what costs the other side most.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_lists_do_not_fill_a_host() -> Outcome {
    const MANY: usize = 8 << 20;
    let folder = Folder::new();
    folder.guest("echo", "echo.wasm");
    let host = folder.host(["echo.wasm", "--data", "data"]);
    let (data, aside) = (folder.path().join("data"), folder.path().join("aside"));
    let socket = data.join("sandbar.sock");
    let heard = eavesdrop(&aside, &socket)?;
    let client = LocalBackend::connect(&aside).await?;
    client.declare_queue(spec("f.q", &["f.t"])?).await?;
    client.close().await;
    eventually("the connection has ended", async || {
        heard.lock().unwrap().len() == 1
    })
    .await;
    let mut real = frames(&heard.lock().unwrap()[0]);
    let greeting = real.remove(0);
    // One topic, three bytes long.
    let one = b"\x01\x03f.t";
    let at = real[0].windows(one.len()).position(|window| window == one);
    let at = at.ok_or("the list of topics")?;
    let mut long = real[0][..at].to_vec();
    // 2^23, seven bits in each byte.
    long.extend(b"\x80\x80\x80\x04");
    long.extend(b"\x01t".repeat(MANY));
    long.extend(&real[0][at + one.len()..]);
    let before = peak_kib(&host.id().to_string());
    let said = Said {
        greets: true,
        frames: vec![(long, None)],
        end: End::Said,
    };
    let (to, saying) = (socket.clone(), said);
    let answers = tokio::task::spawn_blocking(move || say(&to, &greeting, &saying)).await?;
    assert_eq!(answers, 0, "it is no request");
    let grown = peak_kib(&host.id().to_string()) - before;
    assert!(grown < TOO_MUCH / 8, "the host took {grown} KiB");

    let client = LocalBackend::connect(&data).await?;
    let refused = client.declare_queue(QueueSpec::new(name("f.many")?, vec!["t".parse()?; MANY]));
    let refused = refused.await.map(drop).map_err(|error| error.to_string());
    assert_eq!(
        refused,
        Err("queue `f.many` has 8388608 topics and may have 65536; use patterns".to_owned())
    );
    client.health().await?;
    Ok(())
}
