//! The socket itself: where it is, who may use it, and what it makes of others who speak to it.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};

use super::*;

#[tokio::test]
async fn a_long_path_is_reached_and_the_file_is_private() -> Outcome {
    let mut host = Host::start_in(&format!("{}/{}", "a".repeat(120), "b".repeat(120)))?;
    assert!(host.socket().as_os_str().len() > 240);
    assert_eq!(
        std::fs::metadata(host.socket())?.permissions().mode() & 0o777,
        0o600
    );
    let client = host.client().await?;
    client.send("t", &["a"]).await?;
    host.stop().await?;
    assert!(!host.socket().exists());
    Ok(())
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_dead_one_is_explained() -> Outcome {
    let root = tempfile::tempdir()?;
    let none = LocalBackend::connect(root.path()).await;
    assert!(
        matches!(&none, Err(BackendError::Unavailable(text)) if text.contains("no host answers")),
        "{none:?}"
    );
    drop(UnixListener::bind(root.path().join("sandbar.sock"))?);
    let dead = LocalBackend::connect(root.path()).await;
    assert!(
        matches!(&dead, Err(BackendError::Unavailable(text)) if text.contains("no host answers")),
        "{dead:?}"
    );
    let memory = Arc::new(MemoryBackend::new());
    let first = serve(root.path(), memory.clone(), memory.clone())?;
    let second = serve(root.path(), memory.clone(), memory)?;
    drop(first);
    // Its guard doesn't take away the socket of the next owner.
    connect(root.path()).await?.backend.health().await?;
    second.close().await;
    Ok(())
}

#[tokio::test]
async fn nonsense_ends_only_its_own_connection() -> Outcome {
    let host = Host::start()?;
    let client = host.client().await?;
    let greeting = b"\0\0\0\x0cSANDBAR\0\0\0\0\x01";
    for nonsense in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\0\0\0\x05hello",
        // An oversized frame, and a frame that is no request, after a good beginning.
        &[greeting, &b"\x7f\xff\xff\xff"[..]].concat(),
        &[greeting, &b"\0\0\0\x03\xff\xff\xff"[..]].concat(),
        &[greeting, &b"\0\0\0\x04\x01\x03\x01 "[..]].concat(),
    ] {
        let mut stream = UnixStream::connect(host.socket())?;
        stream.set_read_timeout(Some(SOON))?;
        stream.write_all(nonsense)?;
        let ended =
            tokio::task::spawn_blocking(move || stream.read_to_end(&mut Vec::new())).await?;
        assert!(
            !ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock),
            "{nonsense:?}"
        );
    }
    client.backend.health().await?;
    Ok(())
}

#[tokio::test]
async fn another_version_is_told_on_both_sides() -> Outcome {
    let host = Host::start()?;
    let mut newer = UnixStream::connect(host.socket())?;
    newer.write_all(b"\0\0\0\x10SANDBAR\0\0\0\0\x63more")?;
    let answer = tokio::task::spawn_blocking(move || {
        let mut answer = Vec::new();
        newer.read_to_end(&mut answer).map(|_| answer)
    })
    .await??;
    assert_eq!(
        answer.get(4..16),
        Some(&b"SANDBAR\0\0\0\0\x08"[..]),
        "it says which version it is"
    );

    let root = tempfile::tempdir()?;
    let listener = UnixListener::bind(root.path().join("sandbar.sock"))?;
    let owner = tokio::task::spawn_blocking(move || {
        for answer in [&b"\0\0\0\x0cSANDBAR\0\0\0\0\x63"[..], b"\0\0\0\x05hello"] {
            let (mut stream, _) = listener.accept()?;
            stream.read_exact(&mut [0; 16])?;
            stream.write_all(answer)?;
        }
        Ok::<_, std::io::Error>(())
    });
    for expected in [
        "speaks version 99 of the local protocol",
        "not the socket of a sandbar host",
    ] {
        let refused = LocalBackend::connect(root.path()).await;
        assert!(
            matches!(&refused, Err(BackendError::Invalid(text)) if text.contains(expected)),
            "{refused:?}"
        );
    }
    owner.await??;
    Ok(())
}
