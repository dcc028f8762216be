//! A trial that ends before it is judged: by hand, or because the live version changes.

use super::*;

/// Messages that the version is handling, and those that wait for it, come to the live one; with a single attempt each, so
/// that one that counted would be a dead letter.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn what_it_was_handling_is_handled_by_the_live_version() {
    let fixture =
        Fixture::new("limits = { time = \"8s\", concurrency = 2 }\nretry = { max_attempts = 1 }\n")
            .await;
    let hangs = [TWO, ("behaves well", "behaves hang")];
    fixture.tries(&hangs, by_hand("90%")).await;
    fixture.send(0..40, |_| None).await;
    let began = Instant::now();
    // What the live version gets is done soon; the others hang.
    let mut told = Vec::new();
    loop {
        told.extend(fixture.more().await);
        let canary = fixture.canary().await.unwrap();
        if told.len() as u64 == canary.live.messages
            && fixture.waiting().await > 0
            && !told.is_empty()
        {
            break;
        }
        assert!(began.elapsed() < PATIENCE);
    }
    let answer = fixture.rolls_back().await;
    assert!(matches!(answer, Answer::Withdrawn(_)), "{answer:?}");
    assert_eq!(
        fixture.verdict().await,
        Verdict::Withdrawn("rolled back by bob".to_owned())
    );
    told.extend(fixture.told(40 - told.len()).await);
    assert!(told.iter().all(|(_, version)| version == "version one"));
    assert_eq!((fixture.sum().await, fixture.letters().await), (40, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_live_version_ends_a_trial() {
    let fixture = Fixture::new("").await;
    let six = [("version one", "version six")];
    fixture.tries(&[TWO], by_hand("50%")).await;
    fixture.tries(&six, by_hand("50%")).await;
    let (history, first) = (fixture.history().await, "another version is tried instead");
    assert_eq!(history[0].verdict, Verdict::Tried);
    assert_eq!(history[1].verdict, Verdict::Withdrawn(first.to_owned()));

    let answer = fixture.deploy(fixture.version(&[TWO]), None).await;
    assert!(matches!(answer, Answer::Served { .. }), "{answer:?}");
    assert_eq!(fixture.canary().await, None);
    let history = fixture.history().await;
    assert_eq!(
        (history[0].number, &history[0].verdict),
        (4, &Verdict::Served)
    );
    let second = "another version was served";
    assert_eq!(history[1].verdict, Verdict::Withdrawn(second.to_owned()));
    fixture.send(0..50, |_| None).await;
    let told = fixture.told(50).await;
    assert!(told.iter().all(|(_, version)| version == "version two"));

    // By hand, before there was a message.
    fixture.tries(&six, by_hand("50%")).await;
    let name = fixture.plugin.to_owned();
    let who = "eve".to_owned();
    let answer = fixture
        .deployments
        .ask(Question::Promote { name, who })
        .await;
    assert!(matches!(answer, Answer::Served { .. }), "{answer:?}");
    let live = fixture.status().await;
    assert_eq!((live.version, live.who.as_deref()), (Some(5), Some("eve")));
    fixture.tries(&[TWO], by_hand("50%")).await;
    let name = fixture.plugin.to_owned();
    let who = "eve".to_owned();
    fixture
        .deployments
        .ask(Question::Remove { name, who })
        .await;
    let history = fixture.history().await;
    assert_eq!(history[0].verdict, Verdict::Removed);
    let third = "the plugin was removed";
    assert_eq!(history[1].verdict, Verdict::Withdrawn(third.to_owned()));
    assert_eq!(fixture.letters().await, 0);
}
