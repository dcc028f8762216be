//! Which messages a version gets that is tried.

use super::*;

use std::collections::HashMap;

use sandbar_tests::traffic::SetClock;

const KEYS: u32 = 400;

fn key(number: u32) -> Option<String> {
    Some(format!("key {}", number % KEYS))
}

/// The versions of each key.
fn by_key(told: &[Told]) -> HashMap<u32, Vec<&str>> {
    let mut keys: HashMap<u32, Vec<&str>> = HashMap::new();
    for (number, version) in told {
        let versions = keys.entry(number % KEYS).or_default();
        if !versions.contains(&version.as_str()) {
            versions.push(version);
        }
    }
    keys
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_stays_on_one_version_and_the_share_is_kept() {
    let fixture = Fixture::new("").await;
    fixture.tries(&[TWO], by_hand("20%")).await;
    fixture.send(0..2_000, key).await;
    let told = fixture.told(2_000).await;
    let first = by_key(&told);
    assert!(
        first.values().all(|versions| versions.len() == 1),
        "{first:?}"
    );
    let of_two = |keys: &HashMap<u32, Vec<&str>>| {
        let mut keys: Vec<u32> = keys
            .iter()
            .filter(|(_, versions)| **versions == ["version two"])
            .map(|(key, _)| *key)
            .collect();
        keys.sort_unstable();
        keys
    };
    // 80 of 400, and five times what is usual away from that.
    let tried = of_two(&first);
    assert!(
        (40..120).contains(&tried.len()),
        "{} of {KEYS}",
        tried.len()
    );
    let canary = fixture.canary().await.unwrap();
    // Who wanted the same counter as another one was called again.
    let by_two = 5 * tried.len() as u64;
    let called = (by_two..2 * by_two, 2_000 - by_two..2 * (2_000 - by_two));
    assert!(called.0.contains(&canary.canary.messages), "{canary:?}");
    assert!(called.1.contains(&canary.live.messages), "{canary:?}");
    assert_eq!((canary.live.failed, canary.canary.failed), (0, 0));
    assert!(canary.verdict.contains("no worse than the live version"));

    // Without a key each message is drawn by itself.
    fixture.send(2_000..4_000, |_| None).await;
    let told = fixture.told(2_000).await;
    let two = told.iter().filter(|(_, version)| version == "version two");
    let two = two.count();
    assert!((300..500).contains(&two), "{two} of 2000");

    // The same version gets the same keys again, and more when its share is larger.
    fixture.rolls_back().await;
    fixture.send(4_000..4_400, key).await;
    assert!(of_two(&by_key(&fixture.told(400).await)).is_empty());
    fixture.tries(&[TWO], by_hand("20%")).await;
    fixture.send(4_400..4_800, key).await;
    assert_eq!(of_two(&by_key(&fixture.told(400).await)), tried);
    fixture.tries(&[TWO], by_hand("60%")).await;
    fixture.send(4_800..5_200, key).await;
    let told = fixture.told(400).await;
    let more = of_two(&by_key(&told));
    assert!(more.len() > tried.len() && tried.iter().all(|key| more.contains(key)));
    assert_eq!((fixture.sum().await, fixture.letters().await), (5_200, 0));
}

/// Twice a year is enough to tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_periodic_stays_with_the_live_version() {
    // 2026-01-01 and the years after it.
    const YEARS: [i64; 4] = [
        1_767_225_600_000,
        1_798_761_600_000,
        1_830_297_600_000,
        1_861_920_000_000,
    ];
    let clock = SetClock::at(YEARS[0] - 1_000);
    let fixture = Fixture::with("swap", "", clock.clone()).await;
    assert!(take(&*fixture.backend, "out.tick").await.is_empty());
    // Its periodic route may be another one.
    let other = [TWO, ("0 0 1 1 *", "0 0 2 1 *")];
    fixture.tries(&other, by_hand("99%")).await;
    for year in YEARS {
        clock.awaits(year).await;
        clock.set(year);
        let told = sandbar_tests::traffic::wait_for(&*fixture.backend, "out.tick", 1).await;
        assert_eq!(text(&told[0]), "tick version one");
    }
    let canary = fixture.canary().await.unwrap();
    assert_eq!((canary.live.messages, canary.canary.messages), (0, 0));
}

/// An event with two handlers is split, and each copy finds its handler in either version.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn copies_of_an_event_go_to_the_version_of_their_message() {
    let fixture = Fixture::with("swap", "", Arc::new(WallClock)).await;
    for topic in ["out.first", "out.second"] {
        assert!(take(&*fixture.backend, topic).await.is_empty());
    }
    fixture.tries(&[TWO], by_hand("50%")).await;
    let go = message("swap.go", "");
    sandbar_tests::traffic::publish(&*fixture.backend, go).await;
    let going = (0..60).map(|number| Outgoing::new(message("swap.going", &number.to_string())));
    for receipt in fixture.backend.publish(going.collect()).await {
        receipt.unwrap();
    }
    let mut versions = HashMap::new();
    for topic in ["out.first", "out.second"] {
        for told in sandbar_tests::traffic::wait_for(&*fixture.backend, topic, 60).await {
            let said = text(&told);
            let (number, version) = said.split_once(' ').unwrap();
            let first = versions
                .entry(number.to_owned())
                .or_insert(version.to_owned());
            assert_eq!(first, version, "{number} is handled by one version");
        }
    }
    let two = versions
        .values()
        .filter(|version| *version == "version two");
    assert!((1..60).contains(&two.count()));
}
