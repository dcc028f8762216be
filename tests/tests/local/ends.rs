//! Whatever ends (a delivery, a call, a client, the owner), what it held is free and who waited for it learns of it.

use super::*;

const CHILD: &str = "SANDBAR_TEST_LOCAL_FOLDER";

#[tokio::test]
async fn a_dropped_delivery_comes_again_with_the_same_attempt() -> Outcome {
    let host = Host::start()?;
    let client = host.client().await?;
    let queue = client.queue("q", &["t"]).await?;
    client.send("t", &["a"]).await?;
    for _ in 0..3 {
        assert_eq!(client.one(&queue).await?.attempt, 1);
    }
    client
        .retry(client.one(&queue).await?, Duration::ZERO)
        .await?;
    assert_eq!(client.one(&queue).await?.attempt, 2);
    Ok(())
}

#[tokio::test]
async fn a_wait_is_over_at_once_and_one_that_was_given_up_takes_nothing() -> Outcome {
    let host = Host::start()?;
    let client = host.client().await?;
    let queue = client.queue("q", &["t"]).await?;
    for _ in 0..20 {
        drop(
            tokio::time::timeout(
                Duration::from_millis(2),
                client.backend.receive(&queue, 9, SOON),
            )
            .await,
        );
    }
    let (backend, of) = (client.backend.clone(), queue.clone());
    let waiting = tokio::spawn(async move { backend.receive(&of, 9, 3 * SOON).await });
    tokio::time::sleep(Duration::from_millis(20)).await;
    client.send("t", &["a"]).await?;
    let received = tokio::time::timeout(SOON, waiting).await???;
    assert_eq!(contract::texts(&received), ["a"]);
    Ok(())
}

#[tokio::test]
async fn more_waits_than_allowed_hold_up_nothing_else() -> Outcome {
    let host = Host::start()?;
    let client = host.client().await?;
    let queue = client.queue("q", &["t"]).await?;
    let wait = || {
        let (backend, queue) = (client.backend.clone(), queue.clone());
        tokio::spawn(async move { backend.receive(&queue, 1, SOON).await })
    };
    let waits: Vec<_> = (0..400).map(|_| wait()).collect();
    tokio::time::sleep(Duration::from_millis(50)).await;
    tokio::time::timeout(SOON, client.backend.health()).await??;
    let sent: Vec<String> = (0..400).map(|n| n.to_string()).collect();
    let texts: Vec<&str> = sent.iter().map(String::as_str).collect();
    client.send("t", &texts).await?;
    let mut seen = Vec::new();
    for wait in waits {
        let taken = tokio::time::timeout(SOON, wait).await???;
        seen.extend(
            contract::texts(&taken)
                .iter()
                .map(|text| text.parse::<usize>())
                .collect::<Result<Vec<_>, _>>()?,
        );
        client.ack(taken).await?;
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..400).collect::<Vec<_>>());
    Ok(())
}

#[tokio::test]
async fn what_a_client_leaves_behind_is_free_when_its_connection_ends() -> Outcome {
    for closes in [true, false] {
        let host = Host::start()?;
        let client = host.client().await?;
        let queue = client.queue("q", &["t"]).await?;
        let mut ephemeral = contract::spec("mine", &["u"])?;
        ephemeral.ephemeral = true;
        let mine = client.declare(ephemeral).await?;
        client.send("t", &["a", "b"]).await?;
        client
            .take(&queue, 2)
            .await?
            .into_iter()
            .for_each(std::mem::forget);
        if closes {
            client.backend.close().await;
            host.broker
                .backend
                .get_queue(&mine.name)
                .await
                .expect_err("close waits for the end");
        }
        drop(client);
        let again = host.broker.take(&queue, 2).await?;
        assert_eq!(contract::texts(&again), ["a", "b"]);
        assert!(again.iter().all(|delivery| delivery.attempt == 1));
        gone(&host, &mine).await?;
    }
    Ok(())
}

/// Waits until a queue is deleted.
async fn gone(host: &Host, queue: &Queue) -> Outcome {
    let deleted = async {
        while host.broker.backend.get_queue(&queue.name).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    Ok(tokio::time::timeout(SOON, deleted).await?)
}

#[tokio::test]
async fn a_killed_client_leaves_nothing_leased() -> Outcome {
    let host = Host::start()?;
    let queue = host.broker.queue("q", &["t"]).await?;
    host.broker.send("t", &["a", "b", "c"]).await?;
    let mut child = std::process::Command::new(std::env::current_exe()?)
        .args(["--exact", "ends::the_client_that_is_killed", "--ignored"])
        .env(CHILD, &host.folder)
        .stdout(std::process::Stdio::null())
        .spawn()?;
    let mine = Queue {
        name: contract::name("of-the-child")?,
    };
    let held = async {
        while host.broker.backend.get_queue(&mine.name).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, held).await?;
    host.broker.nothing(&queue).await?;
    child.kill()?;
    child.wait()?;
    assert_eq!(
        contract::texts(&host.broker.take(&queue, 3).await?),
        ["a", "b", "c"]
    );
    gone(&host, &mine).await
}

#[tokio::test]
#[ignore = "it is the other process of the test above"]
async fn the_client_that_is_killed() -> Outcome {
    let Some(folder) = std::env::var_os(CHILD) else {
        return Ok(());
    };
    let client = connect(Path::new(&folder)).await?;
    let held = client
        .take(
            &Queue {
                name: contract::name("q")?,
            },
            3,
        )
        .await?;
    let mut ephemeral = contract::spec("of-the-child", &[])?;
    ephemeral.ephemeral = true;
    client.declare(ephemeral).await?;
    tokio::time::sleep(3 * SOON).await;
    drop(held);
    Ok(())
}

#[tokio::test]
async fn without_the_owner_everything_fails_and_nothing_hangs() -> Outcome {
    let mut host = Host::start()?;
    let client = host.client().await?;
    let queue = client.queue("q", &["t"]).await?;
    client.send("t", &["a", "b"]).await?;
    let mut held = client.take(&queue, 2).await?;
    let mut source = client.backend.clone().subscribe(&queue).await?;
    let subscription = tokio::spawn(async move { source.next(1).await });
    let (backend, of) = (client.backend.clone(), queue.clone());
    let waiting = tokio::spawn(async move { backend.receive(&of, 1, SOON).await });
    tokio::time::sleep(Duration::from_millis(30)).await;
    host.stop().await?;
    let gone = |error: &BackendError| matches!(error, BackendError::Unavailable(text) if text.contains("has gone; "));
    let ended = tokio::time::timeout(SOON, waiting)
        .await??
        .expect_err("there is no owner");
    assert!(gone(&ended), "{ended:?}");
    let ended = tokio::time::timeout(SOON, subscription).await??;
    assert!(
        matches!(&ended, SourceEvent::Fatal(error) if gone(error)),
        "{ended:?}"
    );
    let refused = client
        .backend
        .receive(&queue, 1, SOON)
        .await
        .expect_err("there is no owner");
    assert!(gone(&refused), "{refused:?}");
    assert!(matches!(
        client.publish(contract::message("t", "x")?).await,
        Err(PublishError::Unavailable(_))
    ));
    let settled = client.ack(held.pop().into_iter().collect()).await;
    assert!(
        matches!(settled, Err(SettleError::Unavailable(_))),
        "{settled:?}"
    );
    assert!(client.store.dead_letters(1).await.is_err());
    drop(held);
    tokio::time::timeout(NEVER, client.backend.close()).await?;
    // In the owner's broker, both wait for the next one.
    assert_eq!(
        contract::texts(&host.broker.take(&queue, 2).await?),
        ["a", "b"]
    );
    Ok(())
}

#[tokio::test]
async fn an_owner_that_hangs_is_told_apart() -> Outcome {
    let root = tempfile::tempdir()?;
    let _listener = std::os::unix::net::UnixListener::bind(root.path().join("sandbar.sock"))?;
    let refused = tokio::time::timeout(SOON, LocalBackend::connect(root.path())).await?;
    assert!(
        matches!(&refused, Err(BackendError::Unavailable(text)) if text.contains("doesn't answer")),
        "{refused:?}"
    );
    Ok(())
}

#[tokio::test]
async fn more_connections_than_allowed_wait() -> Outcome {
    let host = Host::start()?;
    let mut clients = Vec::new();
    for _ in 0..64 {
        clients.push(host.client().await?);
    }
    let folder = host.folder.clone();
    let next = tokio::spawn(async move { connect(&folder).await });
    tokio::time::sleep(NEVER).await;
    assert!(!next.is_finished());
    clients.pop();
    tokio::time::timeout(SOON, next)
        .await???
        .backend
        .health()
        .await?;
    Ok(())
}
