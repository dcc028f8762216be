//! What is in the place of the tables, and servers that cannot be used.

use std::time::Duration;

use sandbar::backend::{OpenError, PostgresBackend, PostgresOptions};
use sandbar_tests::contract::{Outcome, texts};
use sandbar_tests::servers::postgres::Postgres;

use super::{host, options};

async fn fails(options: PostgresOptions) -> Result<OpenError, String> {
    let opened = PostgresBackend::open(options).await;
    opened.err().ok_or_else(|| "it was opened".to_owned())
}

/// A server that isn't there is named with its address and without its password.
#[tokio::test]
async fn an_unreachable_server_is_an_error() -> Outcome {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let port = listener.local_addr()?.port();
    drop(listener);
    let url = format!("postgres://me:secret@127.0.0.1:{port}/orders");
    let error = fails(PostgresOptions::at(&url)).await?;
    let text = error.to_string();
    let expected =
        format!("PostgreSQL at 127.0.0.1:{port}/orders (schema sandbar) cannot be reached: ");
    assert!(text.starts_with(&expected), "{text}");
    assert!(!text.contains("secret"), "{text}");
    // One that takes connections and says nothing.
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0))?;
    let url = format!(
        "postgres://me@127.0.0.1:{}/orders",
        listener.local_addr()?.port()
    );
    let error = fails(PostgresOptions {
        deadline: Duration::from_millis(200),
        ..PostgresOptions::at(&url)
    })
    .await?;
    assert!(
        error.to_string().ends_with("has not answered within 200ms"),
        "{error}"
    );
    Ok(())
}

/// The tables of the first release are brought up to date, with what is in them.
#[tokio::test]
async fn tables_of_an_older_release_are_brought_up_to_date() -> Outcome {
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    let older = options(server);
    let broker = host(&older).await?;
    let queue = broker.queue("q", &["t"]).await?;
    broker.send("t", &["1"]).await?;
    broker.backend.close().await;
    let schema = &older.schema;
    server.psql(&format!(
        "INSERT INTO {schema}.state (plugin, key, version, value) VALUES ('p', 'k', 1, '12345'); \
         DROP TABLE {schema}.writers, {schema}.commits, {schema}.state_sizes; \
         DROP SEQUENCE {schema}.writer_ids; DROP FUNCTION {schema}.state_added, \
         {schema}.state_changed, {schema}.state_removed CASCADE; \
         UPDATE {schema}.meta SET schema_version = 1"
    ));
    let broker = host(&older).await?;
    broker.send("t", &["2"]).await?;
    assert_eq!(texts(&broker.take(&queue, 2).await?), ["1", "2"]);
    assert_eq!(
        server.psql(&format!("SELECT schema_version FROM {schema}.meta")),
        "4"
    );
    assert_eq!(broker.store.state_size("p").await?, Some(6));
    broker.backend.close().await;
    Ok(())
}

/// Tables of a newer release are refused and not touched; so are those of another program.
#[tokio::test]
async fn other_tables_are_refused() -> Outcome {
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    let newer = options(server);
    host(&newer).await?.backend.close().await;
    server.psql(&format!(
        "UPDATE {}.meta SET schema_version = 99",
        newer.schema
    ));
    let error = fails(newer.clone()).await?;
    assert_eq!(
        error.to_string(),
        format!(
            "PostgreSQL at 127.0.0.1:{}/postgres (schema {}) has schema version 99 and this release knows 4; \
             use a newer release, or another schema",
            server.port(),
            newer.schema
        )
    );
    let sql = format!("SELECT schema_version FROM {}.meta", newer.schema);
    assert_eq!(server.psql(&sql), "99");

    let other = options(server);
    server.psql(&format!(
        "CREATE SCHEMA {0}; CREATE TABLE {0}.orders (id int)",
        other.schema
    ));
    let text = fails(other).await?.to_string();
    assert!(
        text.ends_with("holds tables of another program; name a schema of its own for Sandbar"),
        "{text}"
    );
    let missing = PostgresOptions {
        schema: server.schema(),
        ..PostgresOptions::at(&server.url().replace("/postgres", "/nowhere"))
    };
    let text = fails(missing).await?.to_string();
    assert!(text.contains("nowhere"), "{text}");
    Ok(())
}

/// Hosts that start at once on an empty database make the tables once.
#[tokio::test]
async fn hosts_may_start_at_once() -> Outcome {
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    let options = options(server);
    let opened = tokio::join!(
        host(&options),
        host(&options),
        host(&options),
        host(&options)
    );
    let (first, last) = (opened.0?, opened.3?);
    let _others = (opened.1?, opened.2?);
    let queue = first.queue("q", &["t"]).await?;
    last.send("t", &["1"]).await?;
    assert_eq!(texts(&first.take(&queue, 1).await?), ["1"]);
    Ok(())
}

/// A schema may have any name, and a user without the right to make one may use one that is there.
#[tokio::test]
async fn a_schema_may_be_prepared_for_a_user() -> Outcome {
    let Some(server) = Postgres::shared() else {
        return Ok(());
    };
    let schema = format!("Größe {} ';--", server.schema());
    server.psql(&format!(
        "CREATE ROLE plain LOGIN; CREATE SCHEMA \"{schema}\" AUTHORIZATION plain"
    ));
    let url = server.url().replace("sandbar@", "plain@");
    let broker = host(&PostgresOptions {
        schema,
        ..PostgresOptions::at(&url)
    })
    .await?;
    let queue = broker.queue("q", &["t"]).await?;
    broker.send("t", &["1"]).await?;
    assert_eq!(texts(&broker.take(&queue, 1).await?), ["1"]);
    let health = broker.backend.health().await?;
    assert!(
        health.detail.contains("survives a crash of the server"),
        "{health:?}"
    );
    let error = fails(PostgresOptions {
        schema: "not_prepared".to_owned(),
        ..PostgresOptions::at(&url)
    })
    .await?;
    assert!(error.to_string().contains("permission denied"), "{error}");
    Ok(())
}
