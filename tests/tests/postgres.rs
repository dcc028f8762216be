//! What the postgres broker alone promises: several hosts on one database, and a server that fails.
//!
//! Each test starts from what the contract suite has shown of one host on a healthy server. Without PostgreSQL they are
//! skipped, loudly.

use std::sync::Arc;
use std::time::Duration;

use sandbar::backend::{PostgresBackend, PostgresOptions};
use sandbar_tests::contract::{Broker, Failure};
use sandbar_tests::servers::postgres::Postgres;

#[path = "postgres/command.rs"]
mod command;
#[path = "postgres/disk.rs"]
mod disk;
#[path = "postgres/doubt.rs"]
mod doubt;
#[path = "postgres/faults.rs"]
mod faults;
#[path = "postgres/hosts.rs"]
mod hosts;
#[path = "postgres/keys.rs"]
mod keys;
#[path = "postgres/kill.rs"]
mod kill;
#[path = "postgres/letters.rs"]
mod letters;
#[path = "postgres/open.rs"]
mod open;
#[path = "postgres/planner.rs"]
mod planner;
#[path = "postgres/pooler.rs"]
mod pooler;
#[path = "postgres/stored.rs"]
mod stored;

/// The defaults for a schema of its own.
fn options(server: &Postgres) -> PostgresOptions {
    PostgresOptions {
        schema: server.schema(),
        ..PostgresOptions::at(&server.url())
    }
}

async fn host(options: &PostgresOptions) -> Result<Broker, Failure> {
    let backend = Arc::new(PostgresBackend::open(options.clone()).await?);
    Ok(Broker {
        backend: backend.clone(),
        store: backend,
    })
}

/// Two hosts of one schema.
async fn hosts(options: &PostgresOptions) -> Result<(Broker, Broker), Failure> {
    Ok((host(options).await?, host(options).await?))
}

/// So long that nothing in a test happens because of it.
const NEVER_BY_ITSELF: Duration = Duration::from_secs(3600);
