//! Versions with other routes: what waits for a route finds its handler, wherever that is by then.

use super::*;

use sandbar::backend::QueueSpec;
use sandbar_tests::traffic::{SetClock, eventually, publish, take, wait_for};

/// New Year 2030 and 2031, 0:00 UTC, in milliseconds.
const NEW_YEAR_2030: i64 = 1_893_456_000_000;
const NEW_YEAR_2031: i64 = 1_924_992_000_000;
/// What the plugin says of its two handlers of one topic.
const FIRST: &str = "The one handler, which waits.";
const OTHER: &str = "The other handler, which acts";

async fn spec(fixture: &Fixture) -> QueueSpec {
    let queues = fixture.backend.overview().await.unwrap().queues;
    let mut queues = queues.into_iter();
    queues
        .find(|it| it.spec.name.as_str() == "sandbar.swap")
        .unwrap()
        .spec
}

async fn is_bound(fixture: &Fixture, topic: &str) -> bool {
    let spec = spec(fixture).await;
    spec.topics.iter().any(|it| it.as_str() == topic)
}

async fn what_waits_for_a_dropped_route_is_not_dropped(kind: &str) {
    let fixture = Fixture::new(kind).await;
    let backend = &*fixture.backend;
    // Its two handlers get a copy each; the first one is tried until the key is set.
    publish(backend, message("swap.going", "a")).await;
    wait_for(backend, "out.second", 1).await;
    fixture.host.pause("swap", true);
    publish(backend, message("swap.going", "b")).await;
    let renamed = fixture.version("renamed", &[TWO, ("swap.going", "swap.comin")]);
    let old = Arc::downgrade(&fixture.host.plugins()[0]);
    fixture.swaps(renamed).await;
    assert!(!is_bound(&fixture, "swap.going").await);
    assert!(is_bound(&fixture, "swap.comin").await);
    fixture.host.pause("swap", false);
    // What had not even been split yet is handled by the version that knows it.
    let second = wait_for(backend, "out.second", 1).await;
    assert_eq!(text(&second[0]), "b version one");
    assert_eq!(fixture.ask().await, "version two");
    publish(backend, message("swap.go", "")).await;
    let mut first: Vec<String> = wait_for(backend, "out.first", 2)
        .await
        .iter()
        .map(|it| text(it))
        .collect();
    first.sort();
    assert_eq!(first, ["a version one", "b version one"]);
    eventually("the version before is gone", async || {
        old.upgrade().is_none()
    })
    .await;
    publish(backend, message("swap.comin", "c")).await;
    let first = wait_for(backend, "out.first", 1).await;
    assert_eq!(text(&first[0]), "c version two");
    fixture.no_dead_letters().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_dropped_route_is_not_dropped_in_memory() {
    what_waits_for_a_dropped_route_is_not_dropped("memory").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_dropped_route_is_not_dropped_on_disk() {
    what_waits_for_a_dropped_route_is_not_dropped("embedded").await;
}

/// The handlers change places: a copy that waits gets to its own all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_finds_its_handler_wherever_it_stands() {
    let fixture = Fixture::new("memory").await;
    let backend = &*fixture.backend;
    publish(backend, message("swap.going", "a")).await;
    wait_for(backend, "out.second", 1).await;
    // In this version the second function is the handler that waited as the first one before.
    let moved = [
        TWO,
        (FIRST, "Has another name in this one."),
        (OTHER, FIRST),
    ];
    fixture.swaps(fixture.version("moved", &moved)).await;
    let second = wait_for(backend, "out.second", 1).await;
    assert_eq!(text(&second[0]), "a version two");
    fixture.no_dead_letters().await;
}

/// A handler that the new version doesn't have, of a topic that it does have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_for_a_handler_that_is_gone_stays_with_its_version() {
    let fixture = Fixture::new("memory").await;
    let backend = &*fixture.backend;
    publish(backend, message("swap.going", "a")).await;
    wait_for(backend, "out.second", 1).await;
    let moved = [TWO, (FIRST, "Has another name in this one.")];
    fixture.swaps(fixture.version("moved", &moved)).await;
    assert_eq!(fixture.ask().await, "version two");
    publish(backend, message("swap.go", "")).await;
    let first = wait_for(backend, "out.first", 1).await;
    assert_eq!(text(&first[0]), "a version one");
    fixture.no_dead_letters().await;
}

/// New topics and old ones under load: whoever handles one of them, each message is handled once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_for_a_new_topic_wait_for_its_handler() {
    let fixture = Fixture::new("memory").await;
    let backend = &*fixture.backend;
    let renamed = fixture.version("renamed", &[TWO, ("swap.told", "swap.bold")]);
    let back = fixture.version("one", &[]);
    const EACH: usize = 50;
    let mut told = take(backend, "out.told").await.len();
    for round in 0..4 {
        for number in 0..EACH {
            publish(backend, message("swap.told", &format!("{round}/{number}"))).await;
            publish(backend, message("swap.bold", &format!("{round}/{number}"))).await;
            if number == EACH / 2 {
                let next = if round % 2 == 0 { &renamed } else { &back };
                fixture.swaps(next.clone()).await;
            }
        }
    }
    // What was sent to a topic to which nothing is bound at the end waits in it; everything else is told.
    for last in [back, renamed] {
        eventually("all are told", async || {
            told += take(backend, "out.told").await.len();
            let kept = backend.overview().await.unwrap().kept;
            told + usize::try_from(kept).unwrap() == 8 * EACH
        })
        .await;
        fixture.host.reload(last).await;
    }
    eventually("those that waited too", async || {
        told += take(backend, "out.told").await.len();
        told == 8 * EACH
    })
    .await;
    fixture.no_dead_letters().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_periodic_changes_over() {
    let clock = SetClock::at(NEW_YEAR_2030 - 1000);
    let fixture = Fixture::with_clock("memory", clock.clone()).await;
    let backend = &*fixture.backend;
    clock.awaits(NEW_YEAR_2030).await;
    clock.set(NEW_YEAR_2030);
    let tick = wait_for(backend, "out.tick", 1).await;
    assert_eq!(text(&tick[0]), "tick version one");
    fixture.swaps(fixture.version("two", &[TWO])).await;
    clock.awaits(NEW_YEAR_2031).await;
    clock.set(NEW_YEAR_2031);
    let tick = wait_for(backend, "out.tick", 1).await;
    assert_eq!(text(&tick[0]), "tick version two");
    // A version without it, and one with another time.
    fixture
        .swaps(fixture.version("never", &[TWO, ("0 0 1 1 *", "0 0 1 2 *")]))
        .await;
    clock.awaits(NEW_YEAR_2031 + 31 * 86_400_000).await;
    fixture.no_dead_letters().await;
}
