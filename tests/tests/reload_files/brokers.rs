//! A host is asked about its plugins whatever its broker is.

use super::*;

use sandbar_tests::servers::postgres::Postgres;

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
    // A second host on the same folder does its work, and says what it cannot do.
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
    let first = folder.host::<&str>([]);
    let second = folder.host::<&str>([]);
    assert!(second.log().contains("no versions of plugins are kept"));
    done(&folder, &["plugins", "pause", "swap"]);
    drop(first);
    comes(&folder, &second, "version six");
}
