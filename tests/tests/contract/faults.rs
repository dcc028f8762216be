//! What the embedded broker does with a folder that it cannot have and with a disk that fails.
//!
//! Some of it needs a mount; where that isn't allowed, the test says loudly that it was skipped.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sandbar::backend::{BackendError, OpenError, PublishError, SettleError, Verdict, open};
use sandbar_tests::contract::{Broker, Outcome, SOON, message, texts, writing};

/// A small file system of its own, gone when it is dropped.
struct Mount(tempfile::TempDir);

impl Mount {
    #[expect(
        clippy::print_stdout,
        reason = "who runs the tests must see what was not tested"
    )]
    fn new(options: &str) -> Option<Self> {
        let folder = tempfile::tempdir().ok()?;
        let mut mount = Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", options, "sandbar-test"])
            .arg(folder.path());
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        if !mounted {
            println!("SKIPPED: a tmpfs cannot be mounted here; this needs root and mount(8)");
        }
        mounted.then(|| Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.path()).status());
    }
}

async fn fails(folder: &Path) -> Result<OpenError, String> {
    open("embedded", folder)
        .await
        .err()
        .ok_or_else(|| format!("{} was opened", folder.display()))
}

/// A folder has one owner, and the error names it; it is free as soon as the owner has closed.
#[tokio::test]
async fn a_busy_folder_names_its_owner() -> Outcome {
    let folder = tempfile::tempdir()?;
    let first = open("embedded", folder.path()).await?;
    // As another process would hold it: in this one, opening waits for the end of a backend that was just dropped.
    std::fs::write(folder.path().join("lock"), "4711\n")?;
    let error = fails(folder.path()).await?;
    assert!(matches!(error, OpenError::Busy { .. }), "{error:?}");
    let expected = format!(
        "{} is in use by process 4711; stop that host, or use another --data",
        folder.path().display()
    );
    assert_eq!(error.to_string(), expected);
    first.backend.close().await;
    drop(open("embedded", folder.path()).await?);
    Ok(())
}

/// Whatever else is in the place of the data is left alone, and named.
#[tokio::test]
async fn other_things_in_its_place_are_refused() -> Outcome {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("file");
    std::fs::write(&file, "x")?;
    let error = fails(&file).await?;
    assert!(matches!(error, OpenError::NotAFolder(_)), "{error:?}");
    let error = fails(&file.join("below")).await?;
    assert!(matches!(error, OpenError::NotAFolder(_)), "{error:?}");

    let data = folder.path().join("data");
    std::fs::create_dir(&data)?;
    let database = data.join("sandbar.db");
    let text = "this is certainly no database ".repeat(100);
    std::fs::write(&database, &text)?;
    let error = fails(&data).await?;
    assert!(
        matches!(&error, OpenError::NotADatabase(path) if *path == database),
        "{error:?}"
    );
    assert_eq!(std::fs::read_to_string(&database)?, text);

    let error = open("nonsense", folder.path())
        .await
        .err()
        .ok_or("opened")?;
    let known = sandbar::backend::KINDS.join(", ");
    assert_eq!(
        error.to_string(),
        format!("there is no broker of kind `nonsense`; use one of {known}")
    );
    Ok(())
}

/// Data of a newer release is refused and not touched.
#[tokio::test]
async fn a_newer_schema_is_refused() -> Outcome {
    let folder = tempfile::tempdir()?;
    open("embedded", folder.path()).await?.backend.close().await;
    // `user_version` is a big-endian number at offset 60 of the file: https://www.sqlite.org/fileformat.html
    let database = folder.path().join("sandbar.db");
    let mut bytes = std::fs::read(&database)?;
    bytes
        .get_mut(60..64)
        .ok_or("a header")?
        .copy_from_slice(&99_u32.to_be_bytes());
    std::fs::write(&database, bytes)?;
    let error = fails(folder.path()).await?;
    assert!(
        matches!(
            error,
            OpenError::Newer {
                found: 99,
                known: 3,
                ..
            }
        ),
        "{error:?}"
    );
    Ok(())
}

/// A folder that cannot be written is refused at once, not at the first message.
#[tokio::test]
async fn a_read_only_folder_is_refused() -> Outcome {
    let Some(mount) = Mount::new("size=1m") else {
        return Ok(());
    };
    open("embedded", mount.path()).await?.backend.close().await;
    let remount = Command::new("mount")
        .args(["-o", "remount,ro"])
        .arg(mount.path())
        .status()?;
    assert!(remount.success());
    let error = fails(mount.path()).await?;
    assert!(matches!(error, OpenError::ReadOnly(_)), "{error:?}");
    let error = fails(&mount.path().join("below")).await?;
    assert!(matches!(error, OpenError::ReadOnly(_)), "{error:?}");
    Ok(())
}

/// A full disk refuses what needs it and takes back what it had decided; when there is space again, all goes on.
#[tokio::test]
async fn a_full_disk_refuses_and_recovers() -> Outcome {
    let Some(mount) = Mount::new("size=6m") else {
        return Ok(());
    };
    let ballast = mount.path().join("ballast");
    std::fs::write(&ballast, vec![0; 3 << 20])?;
    let opened = open("embedded", mount.path()).await?;
    let broker = Broker {
        backend: opened.backend,
        store: opened.store,
    };
    let queue = broker.queue("q", &["t"]).await?;
    let mut confirmed = 0;
    let large = "x".repeat(100_000);
    let refused = loop {
        match broker
            .publish(message("t", &format!("{confirmed:03}{large}"))?)
            .await
        {
            Ok(_) => confirmed += 1,
            Err(refused) => break refused,
        }
        assert!(confirmed < 100, "the disk never fills");
    };
    let reason = format!("the disk of {} is full", mount.path().display());
    assert_eq!(refused, PublishError::Unavailable(reason.clone()));

    let sick = broker.backend.health().await;
    assert_eq!(sick, Err(BackendError::Unavailable(reason.clone())));

    let read = broker.store.state_get("p", "k").await?;
    let delivery = broker.one(&queue).await?;
    let mut effects = writing(&[("k", read.version)], &[("k", Some("lost"))]);
    effects.publishes.push(message("t", &large)?);
    let mut batch = vec![delivery.settle(Verdict::Ack, effects)];
    let failing = broker.backend.settle(std::mem::take(&mut batch));
    // What follows on the strength of it: the same call of the writer or a later one, it fails in any case.
    let decided = broker.store.state_get("p", "k").await?;
    let next = broker.one(&queue).await?;
    let effects = writing(&[("k", decided.version)], &[("k", Some("lost too"))]);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let following = broker
        .backend
        .settle(vec![next.settle(Verdict::Ack, effects)]);
    assert_eq!(
        failing.await,
        [Err(SettleError::Unavailable(reason.clone()))]
    );
    let following = following.await;
    let expected = [
        Err(SettleError::Unavailable(reason)),
        Err(SettleError::Conflict),
    ];
    assert!(
        following.iter().all(|end| expected.contains(end)),
        "{following:?}"
    );
    assert_eq!(
        broker.store.state_get("p", "k").await?.value,
        None,
        "nothing that was decided is left"
    );

    std::fs::remove_file(&ballast)?;
    let mut last = Err(PublishError::Closed);
    for _ in 0..50 {
        last = broker.publish(message("t", "after")?).await;
        if last.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    last?;
    assert!(broker.backend.health().await.is_ok());
    let mut got = Vec::new();
    while got.len() < confirmed + 1 {
        let batch = broker.backend.receive(&queue, 100, SOON).await?;
        assert!(!batch.is_empty(), "{} of {}", got.len(), confirmed + 1);
        assert!(batch.iter().all(|delivery| delivery.attempt == 1));
        got.extend(
            texts(&batch)
                .into_iter()
                .map(|text| text.chars().take(3).collect::<String>()),
        );
        broker.ack(batch).await?;
    }
    let mut expected: Vec<String> = (0..confirmed).map(|n| format!("{n:03}")).collect();
    expected.push("aft".to_owned());
    assert_eq!(got, expected);
    broker.nothing(&queue).await?;
    broker.backend.close().await;
    Ok(())
}
