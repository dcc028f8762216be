//! A process that works on a ledger in a PostgreSQL schema until it is killed: `ledger URL SCHEMA`.
//!
//! For the tests that kill it. It ends by itself only when nothing has happened for long.

use std::sync::Arc;

use sandbar::backend::{PostgresBackend, PostgresOptions};
use sandbar_tests::contract::{Broker, Failure};
use sandbar_tests::ledger;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (Some(url), Some(schema)) = (arguments.next(), arguments.next()) else {
        return Err("usage: ledger URL SCHEMA".into());
    };
    let backend = PostgresBackend::open(PostgresOptions {
        schema,
        ..PostgresOptions::at(&url)
    });
    let backend = Arc::new(backend.await?);
    let broker = Broker {
        backend: backend.clone(),
        store: backend,
    };
    ledger::work(&broker, usize::MAX).await
}
