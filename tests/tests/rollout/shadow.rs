//! A version in the shadow of the live one: what it makes of copies is compared, and has no effect.

use super::*;

use sandbar::deploy::ShadowStatus;
use sandbar::message::Message;
use sandbar::rollout::Share;
use sandbar_tests::servers::web::Web;
use sandbar_tests::traffic::{SOON, topic};

impl Fixture {
    async fn shadows(&self, file: PathBuf, share: Option<Share>, messages: Option<u64>) {
        let question = Question::Shadow {
            name: self.plugin.to_owned(),
            digest: sandbar::guest::digest(&std::fs::read(&file).unwrap()),
            file,
            who: "ada".to_owned(),
            share,
            messages,
        };
        let answer = self.deployments.ask(question).await;
        assert!(matches!(answer, Answer::Shadow(_)), "{answer:?}");
    }

    async fn shadow(&self) -> ShadowStatus {
        let name = self.plugin.to_owned();
        match self.deployments.ask(Question::Compared { name }).await {
            Answer::Shadow(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    /// As soon as so many messages have been compared or skipped.
    async fn compared(&self, count: u64) -> ShadowStatus {
        let began = Instant::now();
        loop {
            let status = self.shadow().await;
            let of = &status.compared;
            if of.same + of.different + of.skipped + of.incomparable >= count {
                return status;
            }
            assert!(began.elapsed() < PATIENCE, "{status:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Sends numbers a few at a time, so that there is time for all copies.
    async fn send_slowly(&self, numbers: std::ops::Range<u32>) {
        for number in numbers {
            self.send(number..number + 1, |_| None).await;
            self.told(1).await;
        }
    }

    async fn asks(&self, to: &str) -> Arc<Message> {
        let question = message(to, "");
        self.host.client().request(question, SOON).await.unwrap()
    }
}

/// State that others write meanwhile, time and chance included.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_equal_version_makes_the_same() {
    let fixture = Fixture::new("").await;
    // Another component that does the same.
    let equal = [("it cannot do odd ones", "it cannot do odd wons")];
    fixture.shadows(fixture.version(&equal), None, None).await;
    for part in 0..20 {
        fixture.send(part * 20..(part + 1) * 20, |_| None).await;
        fixture.told(20).await;
    }
    for _ in 0..10 {
        fixture.asks("tally.draw").await;
        fixture.asks("tally.ask").await;
    }
    // Each question of `tally.ask` is a message as well.
    let status = fixture.compared(430).await;
    let compared = &status.compared;
    assert_eq!(
        (compared.different, compared.incomparable),
        (0, 0),
        "{compared:?}"
    );
    assert!(compared.same > 30, "{compared:?}");
    assert_eq!((fixture.sum().await, fixture.letters().await), (400, 0));
}

/// It gets what the live version got, and nobody is asked again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_over_http_are_not_sent_again() {
    let web = Web::start().await;
    let grant = format!("http = [\"{}\"]\n", web.url("/*"));
    let fixture = Fixture::with("fetch", &grant, Arc::new(WallClock)).await;
    let send = async |count: u64| {
        let message = message("fetch.told", &web.url("/ok"));
        sandbar_tests::traffic::publish(&*fixture.backend, message).await;
        fixture.compared(count).await.compared
    };
    fixture.shadows(fixture.version(&[TWO]), None, None).await;
    let compared = send(1).await;
    let differences: Vec<_> = compared
        .first
        .iter()
        .flat_map(|it| &it.differences)
        .collect();
    let [only] = differences.as_slice() else {
        panic!("{compared:?}");
    };
    assert_eq!(only.what, "message 1 to out.told");
    assert_eq!(
        (&*only.live, &*only.shadow),
        ("version one hello", "version two hello")
    );

    // What the live version did not send is not sent either.
    let other = [("?by=first", "?by=other")];
    fixture.shadows(fixture.version(&other), None, None).await;
    assert_eq!(send(1).await.incomparable, 1);
    let lines: Vec<String> = web.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(lines, ["GET /ok?by=first"; 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_differs_is_reported_and_has_no_effect() {
    let fixture = Fixture::new("").await;
    let odds = [TWO, ("behaves well", "behaves odds")];
    fixture.shadows(fixture.version(&odds), None, None).await;
    let mut sent = Vec::new();
    for number in ["1", "2"] {
        let mut message = message("tally.add", number);
        message.reply_topic = Some(topic("replies"));
        sent.push(message.identifier);
        sandbar_tests::traffic::publish(&*fixture.backend, message).await;
        let told = fixture.told(1).await;
        assert_eq!(told[0].1, "version one");
    }
    let status = fixture.compared(2).await;
    let compared = &status.compared;
    assert_eq!(
        (compared.same, compared.different, compared.skipped),
        (0, 2, 0)
    );
    let ids: Vec<_> = compared.first.iter().map(|it| it.identifier).collect();
    assert_eq!(ids, sent);
    assert!(compared.first.iter().all(|it| it.topic == "tally.add"));
    let whats = |at: usize| {
        let differences = compared.first[at].differences.iter();
        differences
            .map(|it| (it.what.as_str(), it.live.as_str(), it.shadow.as_str()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        whats(0)[0],
        (
            "verdict",
            "done",
            "dead letter, failed: it cannot do odd ones"
        )
    );
    assert!(
        whats(0).contains(&("state sum.1", "1", "-")),
        "{:?}",
        whats(0)
    );
    assert_eq!(
        whats(1),
        [
            ("message 1 to out.tally", "2 version one", "2 version two"),
            ("reply", "version one", "version two"),
        ]
    );
    assert!(fixture.more().await.is_empty(), "it tells nobody");
    let replies = sandbar_tests::traffic::wait_for(&*fixture.backend, "replies", 2).await;
    assert!(replies.iter().all(|reply| text(reply) == "version one"));
    assert_eq!((fixture.sum().await, fixture.letters().await), (2, 0));

    // Another live version ends it.
    let answer = fixture.deploy(fixture.version(&[TWO]), None).await;
    assert!(matches!(answer, Answer::Served { .. }), "{answer:?}");
    assert_eq!(fixture.status().await.shadow, None);
}

/// What it would ask others, and the live version did not, cannot be known.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_requests_are_not_sent_and_not_compared() {
    let fixture = Fixture::new("").await;
    fixture.shadows(fixture.version(&[TWO]), None, None).await;
    for _ in 0..5 {
        fixture.asks("tally.ask").await;
    }
    // The five questions to `tally.sum` that were sent, and their answers are the same.
    let status = fixture.compared(10).await;
    let compared = &status.compared;
    assert_eq!(
        (compared.incomparable, compared.same),
        (5, 5),
        "{compared:?}"
    );
    let name = fixture.plugin.to_owned();
    let stopped = fixture.deployments.ask(Question::Unshadow { name }).await;
    assert!(
        matches!(&stopped, Answer::Shadow(status) if status.ended && status.compared == *compared),
        "{stopped:?}"
    );
    fixture.asks("tally.ask").await;
    assert_eq!(fixture.status().await.shadow, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_share_and_a_number_are_kept() {
    let fixture = Fixture::new("").await;
    let two = fixture.version(&[TWO]);
    fixture.shadows(two.clone(), None, Some(7)).await;
    fixture.send_slowly(0..20).await;
    let status = fixture.compared(7).await;
    assert!(status.ended);
    fixture.send_slowly(20..25).await;
    let compared = fixture.shadow().await.compared;
    assert_eq!((compared.different, compared.skipped), (7, 0));
    // Of about half of them.
    fixture
        .shadows(two, Some("50%".parse().unwrap()), None)
        .await;
    fixture.send_slowly(25..125).await;
    let status = fixture.compared(20).await;
    assert!(!status.ended);
    assert!(status.compared.different < 80, "{status:?}");
    assert_eq!((fixture.sum().await, fixture.letters().await), (125, 0));
}

/// One that does not get on leaves out what it has no time for; the live version waits for nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_shadow_that_hangs_holds_up_nobody() {
    let fixture = Fixture::new("limits = { time = \"20s\" }\n").await;
    let hangs = [TWO, ("behaves well", "behaves hang")];
    fixture.shadows(fixture.version(&hangs), None, None).await;
    fixture.send(0..1_000, |_| None).await;
    let told = fixture.told(1_000).await;
    assert!(told.iter().all(|(_, version)| version == "version one"));
    let compared = fixture.shadow().await.compared;
    // One is being handled, and so many copies wait.
    assert!(compared.skipped >= 1_000 - 64 - 10, "{compared:?}");
    assert!(compared.same + compared.different <= 10, "{compared:?}");
    assert_eq!((fixture.sum().await, fixture.letters().await), (1_000, 0));
    let name = fixture.plugin.to_owned();
    fixture.deployments.ask(Question::Unshadow { name }).await;
}
