//! Versions that cannot be tried.

use super::*;

async fn refused(fixture: &Fixture, file: PathBuf, why: &[&str]) {
    match fixture.deploy(file, Some(by_hand("10%"))).await {
        Answer::Refused(reason) => {
            for why in why {
                assert!(reason.contains(why), "{why}: {reason}");
            }
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(fixture.canary().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_with_other_routes_is_refused_with_the_difference() {
    let fixture = Fixture::with("swap", "", Arc::new(WallClock)).await;
    let differs = "it has other routes than the live version";
    for (words, why) in [
        (
            ("swap.told", "swap.bold"),
            "event `swap.told` is missing, and event `swap.bold` is new",
        ),
        // Copies of an event are for one handler, and that one would not be there.
        (
            (
                "The one handler, which waits",
                "The one handler, which walks",
            ),
            "event `swap.going` (The one handler, which waits.) is missing",
        ),
    ] {
        let file = fixture.version(&[TWO, words]);
        refused(&fixture, file, &[differs, why]).await;
        let verdict = fixture.verdict().await;
        assert!(
            matches!(&verdict, Verdict::Failed(reason) if reason.contains(why)),
            "{verdict:?}"
        );
    }
    // A description alone is no difference.
    let worded = ("Replies with the version", "Responds w/ the version.");
    fixture.tries(&[TWO, worded], by_hand("10%")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_live_broken_or_unknown_is_refused() {
    let fixture = Fixture::new("").await;
    refused(
        &fixture,
        fixture.version(&[]),
        &["it is what is live already"],
    )
    .await;
    let broken = fixture.folder.path().join("broken.wasm");
    std::fs::write(&broken, &version_of("tally", &[])[..3_000]).unwrap();
    refused(&fixture, broken, &["damaged"]).await;
    assert_eq!(fixture.history().await.len(), 3, "both are remembered");

    let who = || "ada".to_owned();
    let question = Question::Promote {
        name: "tally".to_owned(),
        who: who(),
    };
    let answer = fixture.deployments.ask(question).await;
    let nothing = |answer: &Answer| matches!(answer, Answer::Refused(reason) if reason.contains("no version of `tally` is tried"));
    assert!(nothing(&answer), "{answer:?}");
    let file = fixture.version(&[TWO]);
    let question = Question::Deploy {
        name: "other".to_owned(),
        digest: sandbar::guest::digest(&std::fs::read(&file).unwrap()),
        file,
        who: who(),
        canary: Some(by_hand("10%")),
    };
    let answer = fixture.deployments.ask(question).await;
    assert!(
        matches!(&answer, Answer::Refused(reason) if reason.contains("there is no plugin `other`")),
        "{answer:?}"
    );
}
