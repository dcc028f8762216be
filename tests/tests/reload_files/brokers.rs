//! A host is asked about its plugins whatever its broker is.

use super::*;

use sandbar_tests::servers::postgres::Postgres;
use sandbar_tests::servers::rabbitmq::RabbitMq;

fn is_asked(folder: &Folder, broker: &str) {
    folder.write("sandbar.toml", format!("{CONFIG}{broker}"));
    let host = folder.host::<&str>([]);
    comes(folder, &host, "version one");
    done(folder, &["plugins", "deploy", "swap", "two.wasm"]);
    assert_eq!(asks(folder), "version two");
    folder.write("plugins/swap.wasm", version(&[SIX]));
    comes(folder, &host, "version six");
    done(folder, &["plugins", "rollback", "swap"]);
    assert_eq!(asks(folder), "version two");
    host.signal("TERM");
    let ended = host.ended();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

#[test]
fn in_memory() {
    is_asked(&folder(), "[broker]\nkind = \"memory\"\n");
}

#[test]
fn on_postgres() {
    let Some(server) = Postgres::shared() else {
        return;
    };
    let broker = format!(
        "[broker]\nkind = \"postgres\"\n[broker.postgres]\nurl = \"{}\"\nschema = \"{}\"\n",
        server.url(),
        server.schema()
    );
    let folder = folder();
    is_asked(&folder, &broker);
    // A second host on the same folder does its work, and says what it cannot do.
    let first = folder.host::<&str>([]);
    let second = folder.host::<&str>([]);
    assert!(second.log().contains("no versions of plugins are kept"));
    done(&folder, &["plugins", "pause", "swap"]);
    drop(first);
    comes(&folder, &second, "version six");
}

/// Its dead letters are in the folder of the host, which answers for them.
#[test]
fn on_rabbitmq() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Some(server) = runtime.block_on(RabbitMq::shared()) else {
        return;
    };
    let broker = format!(
        "[broker]\nkind = \"rabbitmq\"\n[broker.rabbitmq]\nurl = \"{}\"\n",
        server.url()
    );
    let folder = folder();
    folder.write(
        "sandbar.toml",
        format!("group = \"reload\"\n{CONFIG}{broker}"),
    );
    let host = folder.host::<&str>([]);
    comes(&folder, &host, "version one");
    done(&folder, &["plugins", "deploy", "swap", "two.wasm"]);
    assert_eq!(asks(&folder), "version two");
    folder.write("bad", b"\xff");
    done(&folder, &["send", "swap.told", "@bad"]);
    host.wait_for("kept as a dead letter");
    let began = Instant::now();
    while json(&folder, &["dead-letters", "list"])["total"] != 1 {
        assert!(began.elapsed() < PATIENCE, "{}", host.log());
    }
    let purged = json(&folder, &["dead-letters", "purge", "--all"]);
    assert_eq!(purged["done"], 1);
    // What it has no routes for any more is handled by the version before; here nobody tells when that is over.
    folder.write(
        "plugins/swap.wasm",
        version(&[SIX, ("swap.told", "swap.bold")]),
    );
    comes(&folder, &host, "version six");
    assert_eq!(json(&folder, &["plugins", "show", "swap"])["before"], 1);
    folder.write("plugins/swap.wasm", version(&[TWO]));
    comes(&folder, &host, "version two");
}
