//! The values of plugins, each with the version that its writer gave it.
//!
//! What is decided and not written yet is the business of `backend::postgres`.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use sqlx::Row;

use super::{Failure, Tx};

/// Whose key.
pub(crate) type StateKey = (Arc<str>, Arc<str>);

/// A new value with its version, or none.
#[derive(Debug, Clone)]
pub(crate) struct StateRow {
    pub(crate) key: StateKey,
    pub(crate) version: i64,
    pub(crate) value: Option<Bytes>,
}

impl Tx<'_> {
    /// Takes the locks of plugins, always in the same order: nobody else reads or writes their state on the strength of
    /// which something is committed.
    pub(crate) async fn lock_state(&mut self, plugins: &[&str]) -> Result<(), Failure> {
        let sql = "SELECT count(pg_advisory_xact_lock(lock)) FROM (
                SELECT DISTINCT hashtextextended(current_schema() || ':state:' || plugin, 0) AS lock
                FROM unnest($1::text[]) AS p (plugin) ORDER BY 1
            ) locks";
        let query = self.query(sql).bind(plugins);
        self.one::<i64>(query).await.map(drop)
    }

    /// The versions of those of the keys that have a value.
    pub(crate) async fn versions(
        &mut self,
        keys: &[StateKey],
    ) -> Result<HashMap<StateKey, i64>, Failure> {
        let sql = "SELECT k.place, s.version
            FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k (plugin, key, place) CROSS JOIN LATERAL (
                SELECT version FROM state WHERE plugin = k.plugin AND key = k.key LIMIT 1
            ) s";
        let query = self.query(sql).bind(plugins(keys)).bind(names(keys));
        let mut versions = HashMap::with_capacity(keys.len());
        for row in self.rows(query).await? {
            let (place, version) = (self.read(row.try_get(0))?, self.read(row.try_get(1))?);
            if let Some(key) = at(keys, place) {
                versions.insert(key.clone(), version);
            }
        }
        Ok(versions)
    }

    /// The values of those of the keys that have one, with their versions.
    pub(crate) async fn values(
        &mut self,
        keys: &[StateKey],
    ) -> Result<HashMap<StateKey, (Bytes, i64)>, Failure> {
        let sql = "SELECT k.place, s.version, s.value
            FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS k (plugin, key, place) CROSS JOIN LATERAL (
                SELECT version, value FROM state WHERE plugin = k.plugin AND key = k.key LIMIT 1
            ) s";
        let query = self.query(sql).bind(plugins(keys)).bind(names(keys));
        let mut values = HashMap::with_capacity(keys.len());
        for row in self.rows(query).await? {
            let (place, version) = (self.read(row.try_get(0))?, self.read(row.try_get(1))?);
            let value: Vec<u8> = self.read(row.try_get(2))?;
            if let Some(key) = at(keys, place) {
                values.insert(key.clone(), (Bytes::from(value), version));
            }
        }
        Ok(values)
    }

    /// Adds values of keys that have none, as [`Tx::versions`] found in this transaction. It takes the server half as long as
    /// [`Tx::write_state`], which looks each of them up once more.
    pub(crate) async fn add_state(&mut self, rows: &[&StateRow]) -> Result<(), Failure> {
        let sql = "INSERT INTO state (plugin, key, version, value)
            SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[])";
        self.put_state(sql, rows).await
    }

    /// Writes values, at most one for each key.
    pub(crate) async fn write_state(&mut self, rows: &[&StateRow]) -> Result<(), Failure> {
        let (values, gone): (Vec<&StateRow>, Vec<&StateRow>) =
            rows.iter().partition(|row| row.value.is_some());
        if !values.is_empty() {
            let sql = "INSERT INTO state (plugin, key, version, value)
                SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bytea[])
                ON CONFLICT (plugin, key) DO UPDATE SET version = excluded.version, value = excluded.value";
            self.put_state(sql, &values).await?;
        }
        if !gone.is_empty() {
            let sql = "WITH held AS MATERIALIZED (
                    SELECT s.place FROM unnest($1::text[], $2::text[]) AS k (plugin, key) CROSS JOIN LATERAL (
                        SELECT ctid AS place FROM state WHERE plugin = k.plugin AND key = k.key LIMIT 1
                    ) s
                )
                DELETE FROM state s USING held h WHERE s.ctid = h.place";
            let query = self
                .query(sql)
                .bind(plugins(gone.iter().map(|row| &row.key)))
                .bind(names(gone.iter().map(|row| &row.key)));
            self.execute(query).await?;
        }
        Ok(())
    }

    async fn put_state(&mut self, sql: &'static str, rows: &[&StateRow]) -> Result<(), Failure> {
        let values = rows
            .iter()
            .map(|row| row.value.as_deref().unwrap_or_default());
        let query = self
            .query(sql)
            .bind(plugins(rows.iter().map(|row| &row.key)))
            .bind(names(rows.iter().map(|row| &row.key)))
            .bind(rows.iter().map(|row| row.version).collect::<Vec<_>>());
        self.execute(query.bind(values.collect::<Vec<&[u8]>>()))
            .await
            .map(drop)
    }

    /// Bytes of the keys and values of a plugin when these keys, each with its bytes, will have been written.
    pub(crate) async fn state_size(
        &mut self,
        plugin: &str,
        unwritten: Vec<(String, u64)>,
    ) -> Result<u64, Failure> {
        let (keys, sizes): (Vec<String>, Vec<u64>) = unwritten.into_iter().unzip();
        let sql =
            "SELECT coalesce((SELECT sum(bytes)::bigint FROM state_sizes WHERE plugin = $1), 0)
            - coalesce((SELECT sum(octet_length(key) + octet_length(value))::bigint
                FROM state WHERE plugin = $1 AND key = ANY ($2::text[])), 0)";
        let query = self.query(sql).bind(plugin).bind(keys);
        let written = self.one::<i64>(query).await?;
        Ok(u64::try_from(written).unwrap_or(0) + sizes.iter().sum::<u64>())
    }

    /// Sums up what the sizes of plugins have grown by, where that is many rows and no other host is at it.
    pub(crate) async fn sum_state_sizes(&mut self) -> Result<(), Failure> {
        let sql = "WITH many AS (
                SELECT plugin FROM state_sizes GROUP BY plugin HAVING count(*) > 100
                    AND pg_try_advisory_xact_lock(hashtextextended(current_schema() || ':state_sizes', 0))
            ), gone AS (
                DELETE FROM state_sizes WHERE plugin IN (SELECT plugin FROM many) RETURNING plugin, bytes
            )
            INSERT INTO state_sizes (plugin, bytes) SELECT plugin, sum(bytes) FROM gone GROUP BY plugin";
        let query = self.query(sql);
        self.execute(query).await.map(drop)
    }

    /// Keys from `first` on (without `first` itself if it is `excluded`), in byte order.
    pub(crate) async fn state_keys(
        &mut self,
        plugin: &str,
        first: &str,
        excluded: bool,
        limit: usize,
    ) -> Result<Vec<String>, Failure> {
        let sql = "SELECT key FROM state WHERE plugin = $1 AND key >= $2 AND (NOT $3 OR key <> $2) \
                   ORDER BY key LIMIT $4";
        let query = self.query(sql).bind(plugin).bind(first).bind(excluded);
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let rows = self.rows(query.bind(limit)).await?;
        let keys: Result<Vec<String>, _> = rows.iter().map(|row| row.try_get(0)).collect();
        self.read(keys)
    }
}

fn at(keys: &[StateKey], place: i64) -> Option<&StateKey> {
    // Counted from 1.
    keys.get(usize::try_from(place).ok()?.checked_sub(1)?)
}

fn plugins<'a>(keys: impl IntoIterator<Item = &'a StateKey>) -> Vec<&'a str> {
    keys.into_iter().map(|(plugin, _)| &**plugin).collect()
}

fn names<'a>(keys: impl IntoIterator<Item = &'a StateKey>) -> Vec<&'a str> {
    keys.into_iter().map(|(_, key)| &**key).collect()
}
