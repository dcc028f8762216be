//! The broker of a data folder is found, whoever owns it.

use std::fs::File;

use sandbar::backend::{EmbeddedBackend, EmbeddedOptions, OpenDataError, open_data};

use super::*;

/// The lock of a folder, as another process would hold it.
fn owned_by(pid: &str, folder: &Path) -> Result<File, Failure> {
    let lock = folder.join("lock");
    std::fs::write(&lock, pid)?;
    let lock = File::options().write(true).open(lock)?;
    lock.try_lock()?;
    Ok(lock)
}

#[tokio::test]
async fn a_folder_without_an_owner_is_opened_and_one_with_an_owner_is_shared() -> Outcome {
    let root = tempfile::tempdir()?;
    let folder = root.path().join("data");
    let alone = open_data(&folder).await?;
    assert!(alone.owner);
    let broker = Broker {
        backend: alone.backend,
        store: alone.store,
    };
    let queue = broker.queue("q", &["t"]).await?;
    broker.send("t", &["a"]).await?;
    broker.backend.close().await;
    drop(broker);

    let owner = Arc::new(EmbeddedBackend::open(&folder, EmbeddedOptions::default()).await?);
    let server = serve(&folder, owner.clone(), owner.clone())?;
    let shared = open_data(&folder).await?;
    assert!(!shared.owner);
    let client = Broker {
        backend: shared.backend,
        store: shared.store,
    };
    client.ack(client.take(&queue, 1).await?).await?;
    client.backend.close().await;
    server.close().await;
    Ok(())
}

#[tokio::test]
async fn an_owner_that_is_starting_is_waited_for() -> Outcome {
    let root = tempfile::tempdir()?;
    let lock = owned_by("4242", root.path())?;
    let folder = root.path().to_owned();
    let starting = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let memory = Arc::new(MemoryBackend::new());
        serve(&folder, memory.clone(), memory)
    });
    assert!(!open_data(root.path()).await?.owner);
    drop((starting.await??, lock));
    Ok(())
}

#[tokio::test]
async fn an_owner_that_is_ending_is_waited_for() -> Outcome {
    let root = tempfile::tempdir()?;
    let lock = owned_by("4242", root.path())?;
    let ending = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(lock);
    });
    assert!(open_data(root.path()).await?.owner);
    ending.await?;
    Ok(())
}

#[tokio::test]
async fn an_owner_without_a_socket_is_named() -> Outcome {
    let root = tempfile::tempdir()?;
    let lock = owned_by("4242", root.path())?;
    let error = open_data(root.path()).await.expect_err("it is owned");
    assert!(matches!(&error, OpenDataError::Silent { .. }), "{error}");
    assert!(
        error.to_string().contains("in use by process 4242"),
        "{error}"
    );
    drop(lock);
    Ok(())
}
