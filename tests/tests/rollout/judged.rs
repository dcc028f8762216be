//! What a version does decides whether it is promoted.

use super::*;

/// Half of the messages, thirty of each side, and no time.
fn soon() -> Policy {
    Policy {
        min_messages: 30,
        lasts_ms: Some(0),
        ..Policy::new("50%".parse().unwrap())
    }
}

fn behaves(how: &str) -> [(&str, &str); 2] {
    [TWO, ("behaves well", how)]
}

/// Why it was withdrawn.
fn withdrawn(verdict: &Verdict) -> &str {
    match verdict {
        Verdict::Withdrawn(reason) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_is_no_worse_is_promoted_and_can_be_rolled_back() {
    let fixture = Fixture::new("").await;
    let first = fixture.host.plugins()[0].clone();
    fixture.tries(&[TWO], soon()).await;
    assert_eq!(fixture.verdict().await, Verdict::Tried);
    assert_eq!(fixture.host.plugins()[0].digest, first.digest);
    let sent = fixture.until_it_ends(20).await;
    let status = fixture.status().await;
    assert_eq!((status.version, status.deployed), (Some(2), true));
    assert_eq!(fixture.verdict().await, Verdict::Served);
    fixture.told(sent as usize).await;
    fixture.send(sent..sent + 100, |_| None).await;
    let told = fixture.told(100).await;
    assert!(told.iter().all(|(_, version)| version == "version two"));

    fixture.rolls_back().await;
    assert_eq!(fixture.host.plugins()[0].digest, first.digest);
    assert_eq!(fixture.history().await.len(), 3);
    assert_eq!(
        (fixture.sum().await, fixture.letters().await),
        (sent + 100, 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_traps_goes_back_and_nothing_is_lost() {
    let fixture = Fixture::new("").await;
    fixture.tries(&behaves("behaves trap"), soon()).await;
    let sent = fixture.until_it_ends(20).await;
    let verdict = fixture.verdict().await;
    assert!(withdrawn(&verdict).contains("crashed"), "{verdict:?}");
    let told = fixture.told(sent as usize).await;
    assert!(told.iter().all(|(_, version)| version == "version one"));
    assert_eq!((fixture.sum().await, fixture.letters().await), (sent, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_fails_or_rejects_more_goes_back() {
    for (how, word, all) in [
        ("behaves fail", "failed", true),
        ("behaves odds", "failed", false),
        ("behaves deny", "rejected", true),
    ] {
        let fixture = Fixture::new("").await;
        fixture.tries(&behaves(how), soon()).await;
        let sent = fixture.until_it_ends(20).await;
        let verdict = fixture.verdict().await;
        assert!(withdrawn(&verdict).contains(word), "{how}: {verdict:?}");
        // What failed in the ordinary way is where such messages go; nothing else is.
        let began = Instant::now();
        while fixture.waiting().await > 0 {
            assert!(began.elapsed() < PATIENCE);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let letters = fixture.letters().await as u32;
        assert!(letters > 0, "{how}");
        let told = fixture.told((sent - letters) as usize).await;
        let two = told.iter().any(|(_, version)| version == "version two");
        assert_eq!(two, !all, "{how}");
        assert_eq!(fixture.sum().await, sent - letters);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_is_slower_goes_back() {
    let fixture = Fixture::new("").await;
    // As long as it takes, on a machine that makes the live version slow now and then.
    let policy = Policy {
        lasts_ms: None,
        ..soon()
    };
    fixture.tries(&behaves("behaves slow"), policy).await;
    let sent = fixture.until_it_ends(10).await;
    let verdict = fixture.verdict().await;
    assert!(withdrawn(&verdict).contains("p99 of"), "{verdict:?}");
    fixture.told(sent as usize).await;
    assert_eq!((fixture.sum().await, fixture.letters().await), (sent, 0));
}

/// What both versions get wrong is not held against the new one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_that_are_wrong_for_both_speak_against_neither() {
    let fixture = Fixture::new("").await;
    fixture.tries(&[TWO], soon()).await;
    let wrong = (0..400).map(|_| Outgoing::new(message("tally.add", "no number")));
    for receipt in fixture.backend.publish(wrong.collect()).await {
        receipt.unwrap();
    }
    fixture.decided().await;
    assert_eq!(fixture.verdict().await, Verdict::Served);
}
