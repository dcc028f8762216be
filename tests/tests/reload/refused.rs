//! A version that cannot be served changes nothing, and what is changed without one is a reload as well.

use super::*;

use sandbar::plugin::Limits;
use sandbar_tests::guests::guest;
use sandbar_tests::traffic::{eventually, publish, wait_for};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_is_refused_changes_nothing() {
    let fixture = Fixture::new("memory").await;
    let good = fixture.version("good", &[TWO]);
    std::fs::write(fixture.folder.path().join("none.wasm"), "no component").unwrap();
    let none = served(fixture.folder.path().join("none.wasm"));
    let missing = served(fixture.folder.path().join("missing.wasm"));
    let mut pinned = good.clone();
    pinned.spec.digest = Some("sha256:0".to_owned());
    let mut narrow = good.clone();
    narrow.spec.grants.subscribe = Some(vec!["elsewhere".parse().unwrap()]);
    let mut small = good.clone();
    small.spec.limits.memory = 1;
    // Another plugin has the topic that this version wants.
    let mut echo = ServedPlugin::new(PluginSpec::from_file(&guest("echo")));
    echo.spec.name = "neighbour".to_owned();
    fixture.swaps(echo).await;
    let mut rival = fixture.version("rival", &[("swap.go", "echo.go")]);
    rival.spec.name = "rival".to_owned();
    for (refused, why) in [
        (none, "it is no WebAssembly file"),
        (missing, "No such file"),
        (pinned, "pins another"),
        (narrow, "none of its routes is in `subscribe`"),
        (small, "`limits.memory` is 1"),
        (rival, "handle the same topic"),
    ] {
        let outcome = fixture.host.reload(refused).await;
        let ReloadOutcome::RolledBack(reason) = outcome else {
            panic!("{outcome:?} where it should say {why:?}");
        };
        assert!(reason.contains(why), "{reason}");
        assert_eq!(fixture.ask().await, "version one");
    }
    assert_eq!(fixture.host.plugins().len(), 2);
    fixture.swaps(good.clone()).await;
    assert_eq!(fixture.ask().await, "version two");
    assert_eq!(fixture.host.reload(good).await, ReloadOutcome::Unchanged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn grants_and_limits_change_while_it_runs() {
    let fixture = Fixture::new("memory").await;
    let mut small = fixture.version("one", &[]);
    small.spec.limits = Limits {
        content: 4,
        ..Limits::default()
    };
    let large = fixture.version("one", &[]);
    publish(&*fixture.backend, message("swap.told", "first")).await;
    wait_for(&*fixture.backend, "out.told", 1).await;
    fixture.swaps(small).await;
    publish(&*fixture.backend, message("swap.told", "second")).await;
    eventually("the second is too large", async || {
        fixture.store.dead_letters(10).await.unwrap().len() == 1
    })
    .await;
    fixture.swaps(large).await;
    publish(&*fixture.backend, message("swap.told", "third")).await;
    let third = wait_for(&*fixture.backend, "out.told", 1).await;
    assert_eq!(text(&third[0]), "third version one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_paused_lets_messages_wait_and_who_is_removed_as_well() {
    let fixture = Fixture::new("memory").await;
    let backend = &*fixture.backend;
    assert!(fixture.host.pause("swap", true));
    assert!(!fixture.host.pause("nobody", true));
    publish(backend, message("swap.told", "a")).await;
    // A version that comes meanwhile is paused like the one before.
    fixture.swaps(fixture.version("two", &[TWO])).await;
    assert!(fixture.host.port("swap").unwrap().paused());
    let queue = "sandbar.swap".parse().unwrap();
    let queue = backend.get_queue(&queue).await.unwrap();
    // The receiver that the pause ended may have held it for a moment.
    let waits = backend.receive(&queue, 1, SOON).await.unwrap();
    assert_eq!(waits.len(), 1, "it is still there");
    drop(waits);
    fixture.host.pause("swap", false);
    let told = wait_for(backend, "out.told", 1).await;
    assert_eq!(text(&told[0]), "a version two");

    assert_eq!(fixture.host.remove("swap", SOON).await, Some(true));
    assert_eq!(fixture.host.remove("swap", SOON).await, None);
    publish(backend, message("swap.told", "b")).await;
    let waits = backend.receive(&queue, 1, SOON).await.unwrap();
    assert_eq!(waits.len(), 1, "its queue keeps what comes");
    drop(waits);
    fixture.swaps(fixture.version("one", &[])).await;
    let told = wait_for(backend, "out.told", 1).await;
    assert_eq!(text(&told[0]), "b version one");
    fixture.no_dead_letters().await;
}

/// Calls that don't end in time are broken off, and what waits for its turn doesn't wait for them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_end_is_broken_off_and_nobody_waits_for_it() {
    let fixture = Fixture::new("memory").await;
    let one = |name: &str, words: &[(&str, &str)]| {
        let mut served = fixture.version(name, words);
        served.spec.limits.concurrency = 1;
        served.spec.limits.time = Duration::from_secs(600);
        served
    };
    fixture.swaps(one("one", &[])).await;
    let before = Arc::downgrade(&fixture.host.plugins()[0]);
    publish(&*fixture.backend, message("swap.spin", "")).await;
    eventually("it spins", async || in_flight(&fixture).await == 1).await;
    for number in 0..10 {
        publish(&*fixture.backend, message("swap.told", &number.to_string())).await;
    }
    eventually("the others wait", async || in_flight(&fixture).await == 11).await;
    // The new one has no such handler, so that the message doesn't spin there again.
    fixture
        .swaps(one("two", &[TWO, ("swap.spin", "swap.spun")]))
        .await;
    let told = wait_for(&*fixture.backend, "out.told", 10).await;
    assert!(told.iter().all(|it| text(it).ends_with("version two")));
    assert!(before.upgrade().is_some(), "it still has the other message");
    // One that has all of its routes has it broken off, and gets the message.
    fixture.swaps(one("one", &[])).await;
    eventually("it is gone", async || before.upgrade().is_none()).await;
    eventually("it spins there", async || in_flight(&fixture).await == 1).await;
    fixture.no_dead_letters().await;
}

async fn in_flight(fixture: &Fixture) -> u64 {
    let queues = fixture.backend.overview().await.unwrap().queues;
    let own = queues
        .iter()
        .find(|it| it.spec.name.as_str() == "sandbar.swap");
    own.unwrap().in_flight
}
