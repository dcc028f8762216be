//! Hosts as they are run: several processes of the command line on one database, killed in the middle of their work.
//!
//! What a single one says and does is in `cli.rs`.

use std::time::Duration;

use sandbar_tests::contract::{Outcome, texts};
use sandbar_tests::process::Folder;
use sandbar_tests::servers::postgres::Postgres;
use tokio::time::Instant;

use super::{host, options};

const COUNT: usize = 4_000;
/// Kills before the hosts may finish.
const KILLS: usize = 6;
/// Longer than a lease: what a killed host had in flight comes again after it.
const PATIENCE: Duration = Duration::from_secs(120);

/// Each message is answered exactly once, whichever host is killed when.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_hosts_lose_and_repeat_nothing() -> Outcome {
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    let options = options(server);
    let here = host(&options).await?;
    let replies = here.queue("replies", &["out.reply"]).await?;

    let folder = Folder::new();
    let configuration = format!(
        "[broker]\nkind = \"postgres\"\n[broker.postgres]\nurl = \"{}\"\nschema = \"{}\"\n",
        server.url(),
        options.schema
    );
    for name in ["a", "b"] {
        folder.write(&format!("{name}/sandbar.toml"), &configuration);
        folder.guest("echo", &format!("{name}/plugins/echo.wasm"));
    }
    folder.write("sandbar.toml", &configuration);
    folder.send_numbers("echo", 0..COUNT, "out.reply");

    let mut running = [
        folder.host_in("a", ["--log", "warn"]),
        folder.host_in("b", ["--log", "warn"]),
    ];
    for kill in 0..KILLS {
        tokio::time::sleep(Duration::from_millis(50 + 37 * kill as u64)).await;
        let (index, name) = [(0, "a"), (1, "b")][kill % 2];
        running[index].signal("KILL");
        let next = folder.host_in(name, ["--log", "warn"]);
        let killed = std::mem::replace(&mut running[index], next);
        assert_eq!(killed.ended().code, None, "ended by the signal");
    }
    let until = Instant::now() + PATIENCE;
    let mut seen = vec![false; COUNT];
    let mut left = COUNT;
    while left > 0 {
        assert!(Instant::now() < until, "{left} replies are missing");
        let wait = Duration::from_secs(1);
        let batch = here.backend.receive(&replies, 500, wait).await?;
        for text in texts(&batch) {
            let number: usize = text.parse()?;
            assert!(
                !std::mem::replace(&mut seen[number], true),
                "{number} came twice"
            );
            left -= 1;
        }
        here.ack(batch).await?;
    }
    for host in running {
        host.signal("TERM");
        let ended = host.ended();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    }
    here.nothing(&replies).await?;
    assert_eq!(here.store.dead_letters(1).await?, []);
    let sql = format!("SELECT count(*) FROM {}.messages", options.schema);
    assert_eq!(server.psql(&sql), "0");
    Ok(())
}
