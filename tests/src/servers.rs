//! Real servers of other makers, private to the tests: started on a free loopback port with data of their own, gone with
//! the process that started them.
//!
//! Nothing is installed here. A server that is missing is said loudly, and is an error where `CI` is set.

use std::path::Path;

use sandbar::backend::{BrokerKind, BrokerOptions, Opened, PostgresOptions};

use postgres::Postgres;

pub mod pgbouncer;
pub mod postgres;
pub mod proxy;
pub mod rabbitmq;
pub mod web;

/// Opens a broker of some kind, durable ones in this folder or in a schema of their own; `None` where its server is
/// missing, which has been said then.
///
/// # Panics
/// When it cannot be opened.
pub async fn open(kind: &str, folder: &Path) -> Option<Opened> {
    let opened = match kind {
        "postgres" => {
            let server = Postgres::shared()?;
            let options = BrokerOptions {
                kind: BrokerKind::Postgres,
                postgres: PostgresOptions {
                    schema: server.schema(),
                    ..PostgresOptions::at(&server.url())
                },
                ..BrokerOptions::default()
            };
            options.open(folder).await
        }
        kind => sandbar::backend::open(kind, folder).await,
    };
    Some(opened.expect("it can be opened"))
}

/// Says that tests are skipped because a server is missing.
///
/// # Panics
/// In CI, where nothing may be missing.
fn missing(what: &str, package: &str) {
    skipped(&format!(
        "{what} is not installed; install the package {package}"
    ));
}

/// Says that tests are skipped, and why.
///
/// # Panics
/// In CI, where nothing may be missing.
pub fn skipped(text: &str) {
    assert!(std::env::var_os("CI").is_none(), "{text}");
    // Past the capture of the test harness.
    let loud = format!("\nSKIPPED: {text}\n");
    std::io::Write::write_all(&mut std::io::stderr(), loud.as_bytes()).ok();
}
