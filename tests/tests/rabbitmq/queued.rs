//! Messages that pass through the store of the host: the contract, an outage of the server, kill -9 of host and server, and
//! the way back.

use std::collections::HashMap;
use std::time::Duration;

use sandbar::backend::{
    Backend as _, BrokerKind, BrokerOptions, Effects, EmbeddedBackend, EmbeddedOptions, Mode,
    Outgoing, Queue, QueueSpec, RabbitMqOptions, Verdict,
};
use sandbar::store::{Reason, Store as _};
use sandbar_tests::contract::{self, Broker, Failure, Outcome, texts, writing};
use sandbar_tests::process::Folder;
use sandbar_tests::servers::rabbitmq::RabbitMq;
use tempfile::TempDir;

use super::fixture::{PATIENCE, numbered, options};

async fn opened(folder: &TempDir, rabbitmq: RabbitMqOptions) -> Result<Broker, Failure> {
    let options = BrokerOptions {
        kind: BrokerKind::RabbitMq,
        rabbitmq,
        ..BrokerOptions::default()
    };
    let opened = options.open(folder.path()).await?;
    Ok(Broker {
        backend: opened.backend,
        store: opened.store,
    })
}

fn queued(url: &str) -> RabbitMqOptions {
    RabbitMqOptions {
        receiving: Mode::Queued,
        publishing: Mode::Queued,
        ..options(url)
    }
}

/// What is asked of every broker, on one whose messages pass through inboxes and an outbox.
mod contract_of_the_queued_way {
    use super::*;

    async fn broker() -> Result<Option<(Broker, TempDir)>, Failure> {
        let Some(server) = RabbitMq::shared().await else {
            return Ok(None);
        };
        let folder = tempfile::tempdir()?;
        let broker = opened(&folder, queued(&server.vhost())).await?;
        Ok(Some((broker, folder)))
    }

    macro_rules! cases {
        ($($case:ident)*) => {$(
            #[tokio::test(flavor = "multi_thread")]
            async fn $case() -> Outcome {
                match (broker().await?, stringify!($case)) {
                    (None, _) => Ok(()),
                    // What nobody gets turns out when it leaves the outbox.
                    (Some((broker, _folder)), "a_refused_effect_releases_the_delivery") => {
                        an_effect_that_nobody_gets_is_a_dead_letter(broker).await
                    }
                    (Some((broker, _folder)), _) => contract::$case(broker).await,
                }
            }
        )*};
    }
    sandbar_tests::contract_cases!(cases);
    sandbar_tests::letter_cases!(cases);

    async fn an_effect_that_nobody_gets_is_a_dead_letter(broker: Broker) -> Outcome {
        let requests = broker.queue("requests", &["t"]).await?;
        let replies = broker.queue("replies", &["reply"]).await?;
        broker.send("t", &["1"]).await?;
        let delivery = broker.one(&requests).await?;
        let unroutable = Outgoing {
            mandatory: true,
            ..contract::message("nowhere", "x")?
        };
        let effects = contract::publishing(vec![contract::message("reply", "reply")?, unroutable]);
        broker
            .settle(delivery.settle(Verdict::Ack, effects))
            .await?;
        assert_eq!(texts(&[broker.one(&replies).await?]), ["reply"]);
        let letter = tokio::time::timeout(PATIENCE, async {
            loop {
                match broker.store.dead_letters(1).await?.pop() {
                    Some(letter) => return Ok::<_, Failure>(letter),
                    None => tokio::time::sleep(Duration::from_millis(20)).await,
                }
            }
        });
        let letter = letter.await??;
        assert_eq!(letter.reason, Reason::NoHandler);
        assert!(letter.error.contains("`nowhere`"), "{}", letter.error);
        broker.nothing(&requests).await
    }
}

/// One of its own group, received in a way of its own.
async fn declare(
    broker: &Broker,
    name: &str,
    topic: &str,
    receiving: Mode,
) -> Result<Queue, Failure> {
    let spec = QueueSpec {
        receiving: Some(receiving),
        ..QueueSpec::new(name.parse()?, vec![topic.parse()?])
    };
    broker.declare(spec).await
}

/// Waits until so many messages wait in a queue of the store.
async fn waits(broker: &Broker, queue: &str, messages: u64) -> Outcome {
    let there = async {
        loop {
            let overview = broker.backend.overview().await?;
            assert!(overview.beyond.is_some(), "more waits in RabbitMQ");
            let found = overview
                .queues
                .iter()
                .find(|it| it.spec.name.as_str() == queue);
            if found.is_some_and(|it| it.depth() == messages) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, there).await?
}

/// While the server is dead, what is in the inbox is handled, and what is published waits; a host that starts meanwhile
/// does the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_server_leaves_work_to_do() -> Outcome {
    let Some(server) = RabbitMq::start().await else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let broker = opened(&folder, queued(&server.url())).await?;
    let work = declare(&broker, "work", "work", Mode::Queued).await?;
    let done = declare(&broker, "done", "done", Mode::Direct).await?;
    for number in 0..4 {
        broker.publish(numbered("work", number)?).await?;
    }
    waits(&broker, "inbox:work", 4).await?;
    server.kill();

    let first = broker.one(&work).await?;
    let mut effects = writing(&[], &[("first", Some("0"))]);
    effects.publishes.push(numbered("done", 0)?);
    broker.settle(first.settle(Verdict::Ack, effects)).await?;
    broker.publish(numbered("work", 4)?).await?;
    broker.backend.close().await;

    let broker = opened(&folder, queued(&server.url())).await?;
    let work = declare(&broker, "work", "work", Mode::Queued).await?;
    let second = broker.one(&work).await?;
    assert_eq!(texts(std::slice::from_ref(&second)), ["1"]);
    let effects = contract::publishing(vec![numbered("done", 1)?]);
    broker.settle(second.settle(Verdict::Ack, effects)).await?;
    waits(&broker, "(rabbitmq-outbox)", 3).await?;

    server.boot().await;
    declare(&broker, "done", "done", Mode::Direct).await?;
    let mut published = Vec::new();
    while published.len() < 2 {
        let one = broker.one(&done).await?;
        published.extend(texts(std::slice::from_ref(&one)));
        broker.ack(vec![one]).await?;
    }
    assert_eq!(published, ["0", "1"]);
    let mut handled = Vec::new();
    while handled.len() < 3 {
        let one = broker.one(&work).await?;
        handled.extend(texts(std::slice::from_ref(&one)));
        broker.ack(vec![one]).await?;
    }
    assert_eq!(handled, ["2", "3", "4"]);
    broker.backend.close().await;
    Ok(())
}

/// A full inbox leaves the rest on the server.
#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_is_bounded() -> Outcome {
    let Some(server) = RabbitMq::shared().await else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let small = RabbitMqOptions {
        inbox: 10,
        ..queued(&server.vhost())
    };
    let broker = opened(&folder, small).await?;
    let work = declare(&broker, "work", "work", Mode::Queued).await?;
    for number in 0..100 {
        broker.publish(numbered("work", number)?).await?;
    }
    waits(&broker, "inbox:work", 10).await?;
    let mut handled = Vec::new();
    while handled.len() < 100 {
        let status = broker.backend.overview().await?;
        let inbox = status
            .queues
            .iter()
            .find(|it| it.spec.name.as_str() == "inbox:work");
        assert!(inbox.is_some_and(|it| it.depth() <= 10), "{inbox:?}");
        let one = broker.one(&work).await?;
        handled.extend(texts(std::slice::from_ref(&one)));
        broker.ack(vec![one]).await?;
    }
    let expected: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    assert_eq!(handled, expected);
    Ok(())
}

/// A subscription that is direct again gives back what its inbox holds, also what waits for another attempt.
#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_that_is_given_up_goes_back_to_the_server() -> Outcome {
    let Some(server) = RabbitMq::shared().await else {
        return Ok(());
    };
    let url = server.vhost();
    let folder = tempfile::tempdir()?;
    let broker = opened(&folder, queued(&url)).await?;
    let work = declare(&broker, "work", "work", Mode::Queued).await?;
    for number in 0..5 {
        broker
            .publish(contract::keyed("work", "key", &number.to_string())?)
            .await?;
    }
    waits(&broker, "inbox:work", 5).await?;
    let failing = broker.one(&work).await?;
    broker.retry(failing, Duration::from_millis(1_500)).await?;
    broker.backend.close().await;

    let broker = opened(&folder, options(&url)).await?;
    let work = declare(&broker, "work", "work", Mode::Direct).await?;
    let mut handled = Vec::new();
    while handled.len() < 5 {
        let one = broker.one(&work).await?;
        assert_eq!(one.key.as_deref(), Some("key"));
        handled.extend(texts(std::slice::from_ref(&one)));
        broker
            .settle(one.settle(Verdict::Ack, Effects::default()))
            .await?;
    }
    assert_eq!(
        handled,
        ["0", "1", "2", "3", "4"],
        "in the order of their key"
    );
    broker.nothing(&work).await
}

/// The copy of a dead letter is in the line of its key, as the message was.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_dead_letter_keeps_its_key() -> Outcome {
    let Some(server) = RabbitMq::shared().await else {
        return Ok(());
    };
    for mode in [Mode::Direct, Mode::Queued] {
        let folder = tempfile::tempdir()?;
        let broker = opened(&folder, options(&server.vhost())).await?;
        let spec = QueueSpec {
            receiving: Some(mode),
            dead_letter: Some("buried".parse()?),
            ..contract::spec("q", &["work"])?
        };
        let work = broker.declare(spec).await?;
        broker.publish(contract::keyed("work", "key", "1")?).await?;
        let one = broker.one(&work).await?;
        let verdict = Verdict::DeadLetter(Box::new(contract::letter(&one, "no")));
        let settlement = one.settle(verdict, Effects::default());
        broker.settle(settlement).await?;
        let buried = broker.backend.get_queue(&"buried".parse()?).await?;
        let copy = broker.one(&buried).await?;
        assert_eq!(copy.key.as_deref(), Some("key"), "{mode:?}");
        broker.ack(vec![copy]).await?;
        broker.backend.close().await;
    }
    Ok(())
}

/// Also where nothing ever passed through the store.
#[tokio::test(flavor = "multi_thread")]
async fn what_waits_here_is_told_and_where_the_rest_is_seen() -> Outcome {
    let Some(server) = RabbitMq::shared().await else {
        return Ok(());
    };
    let folder = tempfile::tempdir()?;
    let broker = opened(&folder, options(&server.vhost())).await?;
    let work = declare(&broker, "work", "work", Mode::Direct).await?;
    let idle = declare(&broker, "idle", "idle", Mode::Direct).await?;
    for number in 0..3 {
        broker.publish(numbered("work", number)?).await?;
        broker.publish(numbered("idle", number)?).await?;
    }
    let held = broker.one(&work).await?;
    let overview = broker.backend.overview().await?;
    let beyond = overview.beyond.unwrap_or_default();
    assert!(beyond.contains("rabbitmqctl list_queues"), "{beyond}");
    let found: Vec<(&str, u64, u64)> = overview
        .queues
        .iter()
        .map(|it| (it.spec.name.as_str(), it.ready, it.in_flight))
        .filter(|it| !it.0.starts_with('('))
        .collect();
    assert_eq!(found, [("idle", 3, 0), ("work", 2, 1)]);
    let purged = broker.backend.purge_queue(&idle.name).await;
    let purged = purged.map_err(|error| error.to_string()).unwrap_err();
    assert!(purged.contains("rabbitmqctl purge_queue"), "{purged}");
    broker.ack(vec![held]).await?;
    broker.backend.close().await;
    Ok(())
}

const MESSAGES: usize = 5_000;

/// kill -9 of hosts that receive and publish through their store, and of the server once: state counts each message once,
/// and nothing that was published is missing.
#[test]
fn state_changes_once_across_kills_of_hosts_and_server() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Some(server) = runtime.block_on(RabbitMq::start()) else {
        return;
    };
    let folder = Folder::new();
    folder.guest("misbehave", "plugins/misbehave.wasm");
    let config = format!(
        "[broker]\nkind = \"rabbitmq\"\n[broker.rabbitmq]\nurl = \"{}\"\nheartbeat = \"2s\"\npublishing = \"queued\"\n\
         [plugins.misbehave]\nreceiving = \"queued\"\nstate = true\npublish = [\"out.>\"]\n",
        server.url()
    );
    folder.write("sandbar.toml", config);
    // Somebody else's queues, bound before anything is published.
    let other = tempfile::tempdir().unwrap();
    let bind = async {
        let broker = opened(&other, options(&server.url())).await?;
        for topic in ["out.ledger", "out.reply"] {
            declare(&broker, topic, topic, Mode::Direct).await?;
        }
        broker.backend.close().await;
        Ok::<_, Failure>(())
    };
    runtime.block_on(bind).unwrap();
    folder.send_numbers("bad.ledger", 0..MESSAGES, "out.reply");

    let seed = u64::from(std::process::id());
    println!("seed {seed}");
    let mut random = seed;
    let mut done = 0;
    for round in 0..60 {
        if done == MESSAGES {
            break;
        }
        let host = folder.host(["--log", "warn"]);
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        let time = match round < 6 {
            true => Duration::from_millis(500 + (random >> 33) % 1500),
            false => Duration::from_secs(5),
        };
        runtime.block_on(async { tokio::time::sleep(time).await });
        if round == 3 {
            server.kill();
            runtime.block_on(server.boot());
        }
        host.signal(if round < 6 { "KILL" } else { "TERM" });
        drop(host.ended());
        done = runtime.block_on(counted(&folder));
        println!("round {round}: {done} handled");
    }
    assert_eq!(done, MESSAGES, "the counter in the state");

    // The last host empties the outbox.
    let host = folder.host(["--log", "warn"]);
    let (ledger, replies) = runtime
        .block_on(async {
            let broker = opened(&other, options(&server.url())).await?;
            let ledger = distinct(&broker, "out.ledger").await?;
            let replies = distinct(&broker, "out.reply").await?;
            broker.backend.close().await;
            Ok::<_, Failure>((ledger, replies))
        })
        .unwrap();
    host.signal("TERM");
    drop(host.ended());
    println!("published more than once: {ledger} messages, {replies} replies");
}

/// The counter in the state of the plugin, which is read while no host has the folder.
async fn counted(folder: &Folder) -> usize {
    let data = folder.path().join("sandbar-data");
    let store = EmbeddedBackend::open(&data, EmbeddedOptions::default());
    let store = store.await.unwrap();
    let count = store.state_get("misbehave", "ledger").await.unwrap().value;
    assert!(store.dead_letters(10).await.unwrap().is_empty());
    store.close().await;
    count.map_or(0, |count| {
        std::str::from_utf8(&count).unwrap().parse().unwrap()
    })
}

/// Receives until all numbers have come; how many came more than once.
async fn distinct(broker: &Broker, topic: &str) -> Result<usize, Failure> {
    let queue = declare(broker, topic, topic, Mode::Direct).await?;
    let mut times: HashMap<String, usize> = HashMap::new();
    while times.len() < MESSAGES {
        let batch = tokio::time::timeout(PATIENCE, async {
            loop {
                let batch = broker
                    .backend
                    .receive(&queue, 500, Duration::from_secs(1))
                    .await?;
                if !batch.is_empty() {
                    return Ok::<_, Failure>(batch);
                }
            }
        });
        let Ok(batch) = batch.await else {
            panic!("{} of {MESSAGES} came on {topic}", times.len());
        };
        let batch = batch?;
        for text in texts(&batch) {
            *times.entry(text).or_default() += 1;
        }
        broker.ack(batch).await?;
    }
    Ok(times.values().filter(|times| **times > 1).count())
}
