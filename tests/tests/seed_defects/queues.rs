//! What becomes of messages in a queue: taken, crashed, restarted, in which order, and seen by whom.

use std::collections::VecDeque;
use std::time::Duration;

use sandbar::backend::local::serve;
use sandbar::backend::{Effects, LocalBackend, QueueSpec, SettleError, Verdict};
use sandbar::dispatch::{Dispatcher, Kind, ResponseError};
use sandbar_tests::contract::{spec, texts};
use sandbar_tests::traffic::{SOON, eventually, message, publish, topic, wait_for};

use super::{embedded, host, memory, of};

/// The seed takes the row out of its table, then calls the handler.
fn seed_deletes_first(
    queue: &mut VecDeque<&'static str>,
    mut handler: impl FnMut(&str) -> Result<(), ()>,
) {
    while let Some(row) = queue.pop_front() {
        handler(row).ok();
    }
}

/// A handler that fails, or a crash meanwhile, loses the message. Ours: a message is there until what it
/// caused is committed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_row_is_deleted_before_its_handler_runs() {
    let mut handled = Vec::new();
    let mut queue = VecDeque::from(["1", "2"]);
    seed_deletes_first(&mut queue, |row| match row {
        "1" => Err(()),
        row => {
            handled.push(row.to_owned());
            Ok(())
        }
    });
    assert_eq!(
        (handled, queue.len()),
        (vec!["2".to_owned()], 0),
        "1 is lost"
    );

    let broker = memory();
    let mut dispatcher = Dispatcher::default();
    let action = |request: sandbar::dispatch::Request| async move {
        assert!(request.attempt() > 1, "the first attempt panics");
        let content = request.raw().payload.clone();
        request.publish(topic("out.done"), content, Default::default())?;
        Ok(())
    };
    dispatcher
        .action(Kind::Command, topic("t").into(), action)
        .unwrap();
    let _host = host(&broker, dispatcher).await;
    publish(&*broker.backend, message("t", "1")).await;
    wait_for(&*broker.backend, "out.done", 1).await;
}

/// A row of the seed: `processing` is set when it is taken, and reset by whoever took it.
#[derive(Debug, Clone, Copy, Default)]
struct Row {
    processing: bool,
    retry: u32,
}

/// Takes what nobody processes and what has attempts left, and counts the attempt at once.
fn seed_takes(rows: &mut [Row]) -> usize {
    const BUDGET: u32 = 2;
    let free = |row: &&mut Row| !row.processing && row.retry < BUDGET;
    let mut taken = 0;
    for row in rows.iter_mut().filter(free) {
        row.processing = true;
        row.retry += 1;
        taken += 1;
    }
    taken
}

/// After kill -9 up to 1,000 rows are marked `processing` for ever. Ours: who is in flight is known in memory only,
/// and the lease of a network broker expires. (`kill.rs` kills real processes.)
#[tokio::test]
async fn rows_stay_marked_processing_after_kill_9() {
    let mut rows = [Row::default(); 1000];
    assert_eq!(seed_takes(&mut rows), 1000);
    // Killed: nobody resets them.
    assert_eq!(seed_takes(&mut rows), 0, "for ever");

    let folder = tempfile::tempdir().unwrap();
    let before = embedded(folder.path()).await;
    let queue = before.queue("q", &["t"]).await.unwrap();
    let all: Vec<String> = (0..1000).map(|number| number.to_string()).collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    before.send("t", &all).await.unwrap();
    let in_flight = before.take(&queue, 1000).await.unwrap();
    drop(before);
    let after = embedded(folder.path()).await;
    assert_eq!(after.take(&queue, 1000).await.unwrap().len(), 1000);
    drop(in_flight);
}

/// Two clean restarts use up the budget of retries. Ours: only an attempt counts as one.
#[tokio::test]
async fn restarts_use_up_the_retry_budget() {
    let mut rows = [Row::default()];
    for _ in 0..2 {
        assert_eq!(seed_takes(&mut rows), 1);
        // A clean stop gives it back.
        rows[0].processing = false;
    }
    assert_eq!(seed_takes(&mut rows), 0, "it was never handled");

    let folder = tempfile::tempdir().unwrap();
    for restart in 0..8 {
        let broker = embedded(folder.path()).await;
        let queue = broker.queue("q", &["t"]).await.unwrap();
        if restart == 0 {
            broker.send("t", &["1"]).await.unwrap();
        }
        let delivery = broker.one(&queue).await.unwrap();
        assert_eq!(delivery.attempt, 1, "restart {restart}");
        drop(delivery);
        broker.backend.close().await;
    }
}

/// Rows come out in the order of their content. Ours: in the order in which they were published.
#[tokio::test]
async fn messages_come_in_the_order_of_their_content() {
    let published = ["9 first", "10 second", "1 third"];
    let mut seed = published;
    seed.sort_unstable();
    assert_ne!(seed, published);

    let folder = tempfile::tempdir().unwrap();
    for broker in [memory(), embedded(folder.path()).await] {
        let queue = broker.queue("q", &["t"]).await.unwrap();
        broker.send("t", &published).await.unwrap();
        assert_eq!(texts(&broker.take(&queue, 3).await.unwrap()), published);
    }
}

/// A second process sees new rows when it polls, once a minute. Ours: it is woken, in whichever process the
/// message was published.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_sees_messages_late() {
    const SEED_POLLS: Duration = Duration::from_secs(60);
    assert!(SOON < SEED_POLLS, "this test ends before the seed polls");
    let folder = tempfile::tempdir().unwrap();
    let owner = embedded(folder.path()).await;
    let server = serve(folder.path(), owner.backend.clone(), owner.store.clone()).unwrap();
    let second = of(LocalBackend::connect(folder.path()).await.unwrap());
    for (from, to) in [(&owner, &second), (&second, &owner)] {
        let queue = to.queue("q", &["t"]).await.unwrap();
        // It waits already when the message is published elsewhere.
        let receiving = to.backend.receive(&queue, 1, SOON);
        let sending = async {
            tokio::task::yield_now().await;
            from.send("t", &["1"]).await.unwrap();
        };
        let (received, ()) = tokio::join!(receiving, sending);
        let received = received.unwrap();
        assert_eq!(texts(&received), ["1"]);
        to.ack(received).await.unwrap();
    }
    server.close().await;
}

/// A row is marked as done by its number, whoever has it by then. Ours: each delivery has a token, and a late one is
/// refused with everything that it caused.
#[tokio::test]
async fn a_late_completion_is_accepted() {
    let broker = memory();
    let lease = Duration::from_millis(50);
    let queue = broker.declare(QueueSpec {
        lease,
        ..spec("q", &["t"]).unwrap()
    });
    let queue = queue.await.unwrap();
    broker.send("t", &["1"]).await.unwrap();
    let slow = broker.one(&queue).await.unwrap();
    // Its lease runs out, and somebody else gets the message.
    let again = broker.one(&queue).await.unwrap();
    let late = slow.settle(Verdict::Ack, Effects::default());
    assert_eq!(broker.settle(late).await, Err(SettleError::Stale));
    drop(again);
    let unfinished = broker.one(&queue).await.unwrap();
    assert_eq!(texts(&[unfinished]), ["1"]);
}

/// A retry, or a check, is waited for in the place of the handler. Ours: the message waits in its queue, and others pass.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_for_a_retry_blocks_everybody() {
    let broker = memory();
    let mut dispatcher = Dispatcher::default();
    let action = |request: sandbar::dispatch::Request| async move {
        match request.content().as_ref() {
            b"later" => Err(ResponseError::retry_after("not now", 10 * SOON)),
            _ => Ok(()),
        }
    };
    dispatcher
        .action(Kind::Command, topic("t").into(), action)
        .unwrap();
    let host = super::host_with(&broker, dispatcher, |options| {
        options.native_limits.concurrency = 1;
    });
    let host = host.await;
    publish(&*broker.backend, message("t", "later")).await;
    let reply = host.client().request(message("t", "now"), SOON).await;
    assert!(reply.unwrap().ok());
    assert!(host.stop(SOON).await, "a retry is not in flight");
}

/// What a stopping consumer had fetched may end in the dead letters, healthy as it is. Ours: what was received and not handled goes back
/// as it came.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_sends_what_was_fetched_to_the_dead_letters() {
    let broker = memory();
    let mut dispatcher = Dispatcher::default();
    let stuck = |_| std::future::pending::<Result<(), ResponseError>>();
    dispatcher
        .action(Kind::Command, topic("t").into(), stuck)
        .unwrap();
    let stuck = host(&broker, dispatcher).await;
    for number in 0..20 {
        publish(&*broker.backend, message("t", &number.to_string())).await;
    }
    let queue = broker
        .backend
        .get_queue(&"sandbar.native".parse().unwrap())
        .await
        .unwrap();
    eventually("all have been fetched", async || {
        let waiting = broker.backend.receive(&queue, 1, Duration::ZERO).await;
        waiting.unwrap().is_empty()
    })
    .await;
    assert!(!stuck.stop(Duration::from_millis(20)).await);
    let back = broker.take(&queue, 20).await.unwrap();
    assert!(back.iter().all(|delivery| delivery.attempt == 1));
    assert!(broker.store.dead_letters(9).await.unwrap().is_empty());
}
