//! Dead letters of a host that serves a plugin: what they tell of each attempt, where they go as well, and what another
//! version of the plugin would make of them.

use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::{Opened, Outgoing, Queue, open};
use sandbar::control::{Host, HostOptions, ServedPlugin};
use sandbar::guest::Engine;
use sandbar::message::{Message, Payload};
use sandbar::plugin::{Loader, Plugin, PluginSpec};
use sandbar::retry::RetryPolicy;
use sandbar::store::{DeadLetter, History, KeptLetter, LetterFilter, LetterPart, Reason, ReplayTo};
use sandbar::trial::{Ended, Run, trial};
use sandbar::wire::{Form, Packet};
use sandbar_tests::contract::{Failure, Outcome};
use sandbar_tests::guests::guest;

fn spec() -> PluginSpec {
    let mut spec = PluginSpec::from_file(&guest("misbehave"));
    spec.limits.time = Duration::from_millis(300);
    spec.grants.state = true;
    spec.grants.publish.extend("out.>".parse());
    spec
}

async fn host(opened: &Opened) -> Result<Host, Failure> {
    let mut plugin = ServedPlugin::new(spec());
    plugin.retry = RetryPolicy {
        max_attempts: 3,
        initial: Duration::from_millis(2),
        ..RetryPolicy::default()
    };
    plugin.dead_letter_queue = Some("misbehave.dead".parse()?);
    let options = HostOptions {
        plugins: vec![plugin],
        ..HostOptions::default()
    };
    Ok(Host::start(opened.backend.clone(), opened.store.clone(), options).await?)
}

fn message(topic: &str, content: &str) -> Result<Message, Failure> {
    Ok(Message::new(topic.parse()?, Payload::text(content)))
}

pub(crate) async fn send(opened: &Opened, topic: &str, content: &str) -> Result<Message, Failure> {
    let message = message(topic, content)?;
    for sent in opened
        .backend
        .publish(vec![Outgoing::new(message.clone())])
        .await
    {
        sent?;
    }
    Ok(message)
}

/// The letter of a topic, when it is there.
pub(crate) async fn letter_of(opened: &Opened, topic: &str) -> Result<KeptLetter, Failure> {
    let filter = LetterFilter {
        topic: Some(topic.parse()?),
        ..LetterFilter::default()
    };
    for _ in 0..4_000 {
        let page = opened.store.letters(&filter, None, 1).await?;
        if let Some(letter) = page.letters.first() {
            let kept = opened.store.letter(letter.id).await?;
            return kept.ok_or_else(|| "it is gone".into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Err(format!("no dead letter of {topic}").into())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_letter_tells_of_every_attempt() -> Outcome {
    let folder = tempfile::tempdir()?;
    let opened = open("embedded", folder.path()).await?;
    let host = host(&opened).await?;
    for (topic, content, reason, error) in [
        ("bad.retry-forever", "", Reason::Attempts, "never"),
        ("bad.trap", "secret", Reason::Trap, "unreachable"),
        ("bad.loop", "", Reason::Timeout, "took longer than"),
        ("bad.memory", "", Reason::Memory, "bytes of memory"),
    ] {
        let sent = send(&opened, topic, content).await?;
        let kept = letter_of(&opened, topic).await?;
        let letter = &kept.letter;
        assert_eq!(letter.packet, Packet::Message(Arc::new(sent)), "{topic}");
        assert_eq!((letter.reason, letter.attempts), (reason, 3), "{topic}");
        assert_eq!(letter.queue, "sandbar.misbehave");
        assert_eq!(letter.plugin.as_deref(), Some("misbehave"));
        let digest = letter.digest.as_deref().ok_or("digest")?;
        assert!(digest.starts_with("sha256:"), "{digest}");
        let History { first_ms, last, .. } = &kept.history;
        let attempts: Vec<u32> = last.iter().map(|failed| failed.attempt).collect();
        assert_eq!(attempts, [1, 2, 3], "{topic}");
        assert!(
            last.iter().all(|failed| failed.error.contains(error)),
            "{topic}: {last:?}"
        );
        assert!(last.is_sorted_by_key(|failed| failed.at_ms), "{last:?}");
        assert!(kept.published_ms <= *first_ms && *first_ms <= letter.at_ms);
        let earlier = match reason {
            Reason::Attempts => Reason::Retry,
            other => other,
        };
        assert_eq!(last.first().map(|failed| failed.reason), Some(earlier));
    }
    // What was never handled has its one attempt as well, and all of them are in the queue beside the store.
    let mut bad_user = message("bad.fail", "x")?;
    bad_user.payload.headers.insert("user", "zzz")?;
    opened.backend.publish(vec![Outgoing::new(bad_user)]).await;
    let kept = letter_of(&opened, "bad.fail").await?;
    assert_eq!(kept.letter.reason, Reason::Malformed);
    assert_eq!(kept.history.last.len(), 1);
    let queue = Queue {
        name: "misbehave.dead".parse()?,
    };
    let copies = opened
        .backend
        .receive(&queue, 10, Duration::from_secs(20))
        .await?;
    assert_eq!(copies.len(), 5);
    assert!(host.stop(Duration::from_secs(5)).await);
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_letter_is_handled_again() -> Outcome {
    let folder = tempfile::tempdir()?;
    let opened = open("embedded", folder.path()).await?;
    let host = host(&opened).await?;
    let client = host.client();
    let set = message("bad.event-fails", "1")?;
    client.request(set, Duration::from_secs(20)).await?;
    send(&opened, "bad.event", "e").await?;
    let kept = letter_of(&opened, "bad.event").await?;
    assert!(kept.route.is_some(), "of the handler that failed, alone");

    let unset = message("bad.event-fails", "")?;
    client.request(unset, Duration::from_secs(20)).await?;
    let part = LetterPart {
        until: u64::MAX,
        limit: 10,
        ..LetterPart::default()
    };
    let done = opened
        .store
        .replay_letters(&part, &ReplayTo::Origin)
        .await?;
    assert_eq!(done.done, 1);
    let spec = sandbar_tests::contract::spec("taken", &["out.a", "out.b"])?;
    let queue = opened.backend.declare_queue(spec).await?.queue;
    let mut topics = Vec::new();
    while topics.len() < 2 {
        for delivery in opened
            .backend
            .receive(&queue, 10, Duration::from_secs(20))
            .await?
        {
            topics.push(
                sandbar_tests::contract::content(&delivery)?
                    .topic
                    .to_string(),
            );
            let done = delivery.settle(sandbar::backend::Verdict::Ack, Default::default());
            opened.backend.settle(vec![done]).await;
        }
    }
    topics.sort();
    assert_eq!(topics, ["out.a", "out.b"], "each handler has done it once");
    assert!(host.stop(Duration::from_secs(5)).await);
    Ok(())
}

async fn loaded() -> Result<Arc<Plugin>, Failure> {
    Ok(Loader::new(Engine::new()?).load(spec()).await?)
}

fn kept(message: Message) -> KeptLetter {
    KeptLetter {
        id: 1,
        letter: DeadLetter {
            packet: Packet::Message(Arc::new(message)),
            reason: Reason::Trap,
            error: String::new(),
            plugin: Some("misbehave".to_owned()),
            digest: None,
            queue: "sandbar.misbehave".to_owned(),
            attempts: 5,
            at_ms: 0,
            report: None,
        },
        key: None,
        route: None,
        published_ms: 0,
        history: History::default(),
    }
}

/// A trial shows everything that a handler would do and does nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trial_changes_nothing() -> Outcome {
    let folder = tempfile::tempdir()?;
    let opened = open("embedded", folder.path()).await?;
    let plugin = loaded().await?;
    let try_it = async |message: Message| {
        let store = opened.store.clone();
        trial(&plugin, Form::Native, &kept(message), store, Run::Now).await
    };

    let mut ledger = message("bad.ledger", "7")?;
    ledger.reply_topic = Some("r".parse()?);
    let trials = try_it(ledger).await.map_err(|(_, error)| error)?;
    let [done] = trials.as_slice() else {
        return Err("one handler".into());
    };
    assert_eq!(done.route, "bad.ledger");
    let Ended::Done(Some(reply)) = &done.ended else {
        return Err(format!("{:?}", done.ended).into());
    };
    assert_eq!(&reply.content[..], b"7");
    let topics: Vec<&str> = done
        .effects
        .publishes
        .iter()
        .map(|outgoing| outgoing.message.topic.as_str())
        .collect();
    assert_eq!(topics, ["out.ledger"], "without the reply");
    let state = done.effects.state.as_ref().ok_or("state")?;
    assert_eq!(state.writes, [("ledger".into(), Some("1".into()))]);
    let ledger = opened.store.state_get("misbehave", "ledger").await?;
    assert_eq!(ledger.value, None, "nothing was stored");
    assert_eq!(opened.backend.overview().await?.kept, 0, "nothing was sent");

    for (topic, content, expected) in [
        (
            "bad.fail",
            "no",
            Ended::Failed(Reason::Failed, "no".to_owned()),
        ),
        (
            "bad.reject",
            "no",
            Ended::Failed(Reason::Rejected, "no".to_owned()),
        ),
        ("bad.retry-forever", "", Ended::Retry("never".to_owned())),
    ] {
        let mut message = message(topic, content)?;
        message.reply_topic = Some("r".parse()?);
        let trials = try_it(message).await.map_err(|(_, error)| error)?;
        let found: Vec<&Ended> = trials.iter().map(|trial| &trial.ended).collect();
        assert_eq!(found, [&expected], "{topic}");
        assert!(trials.iter().all(|it| it.effects == Default::default()));
    }
    let trials = try_it(message("bad.trap", "x")?).await;
    let trials = trials.map_err(|(_, error)| error)?;
    assert!(
        matches!(&trials[0].ended, Ended::Failed(Reason::Trap, _)),
        "{trials:?}"
    );
    let flood = try_it(message("bad.log-flood", "3")?).await;
    let flood = flood.map_err(|(_, error)| error)?;
    assert!(flood[0].log.iter().any(|line| line.text.contains("flood")));
    assert!(
        flood[0]
            .log
            .iter()
            .all(|line| !line.text.contains('\u{1b}'))
    );

    let nobody = try_it(message("nobody.here", "x")?).await.err();
    let expected = (
        Reason::NoHandler,
        "no handler for topic `nobody.here`".to_owned(),
    );
    assert_eq!(nobody, Some(expected));
    let large = try_it(message("bad.fail", &"x".repeat((1 << 20) + 1))?).await;
    assert!(matches!(large, Err((Reason::TooLarge, _))), "{large:?}");
    Ok(())
}
