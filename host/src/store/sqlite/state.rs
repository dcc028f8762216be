//! The values of plugins, as far as they are on disk.
//!
//! Versions and what is not written yet are the business of `backend::embedded::state`.

use std::collections::HashMap;

use bytes::Bytes;
use sqlx::{Row, SqliteConnection};

use super::bulk::Bulks;
use super::write::StateRow;
use super::{Failure, Reader};

impl Bulks {
    pub(super) async fn write_state(
        &self,
        connection: &mut SqliteConnection,
        rows: &[StateRow],
    ) -> Result<(), sqlx::Error> {
        let last: HashMap<_, _> = rows
            .iter()
            .map(|row| ((&*row.plugin, &*row.key), row))
            .collect();
        let (values, gone): (Vec<&StateRow>, Vec<&StateRow>) =
            last.into_values().partition(|row| row.value.is_some());
        let value = |row: &StateRow| row.value.as_deref().unwrap_or_default().to_vec();
        self.state
            .write(connection, &values, |query, row| {
                query
                    .bind(row.plugin.to_string())
                    .bind(row.key.to_string())
                    .bind(value(row))
            })
            .await?;
        self.forget
            .write(connection, &gone, |query, row| {
                query.bind(row.plugin.to_string()).bind(row.key.to_string())
            })
            .await
    }
}

impl Reader {
    /// The value of a key.
    pub(crate) async fn state(
        &mut self,
        plugin: &str,
        key: &str,
    ) -> Result<Option<Bytes>, Failure> {
        let row = sqlx::query("SELECT value FROM state WHERE plugin = ? AND key = ?")
            .bind(plugin.to_owned())
            .bind(key.to_owned())
            .fetch_optional(&mut self.connection)
            .await;
        let value = row.and_then(|row| row.map(|row| row.try_get::<Vec<u8>, _>(0)).transpose());
        value
            .map(|value| value.map(Bytes::from))
            .map_err(|error| Failure::new(&self.folder, &error))
    }

    /// Bytes of the keys and values of a plugin when these keys, each with its bytes, will have been written.
    pub(crate) async fn state_size(
        &mut self,
        plugin: &str,
        unwritten: Vec<(String, u64)>,
    ) -> Result<u64, Failure> {
        let (keys, sizes): (Vec<String>, Vec<u64>) = unwritten.into_iter().unzip();
        let sql = "SELECT coalesce((SELECT bytes FROM state_sizes WHERE plugin = ?1), 0) \
                   - coalesce((SELECT sum(length(CAST(s.key AS BLOB)) + length(s.value)) \
                   FROM json_each(?2) AS k JOIN state AS s ON s.plugin = ?1 AND s.key = k.value), 0)";
        let keys = serde_json::to_string(&keys).unwrap_or_else(|_| "[]".to_owned());
        let written: Result<i64, _> = sqlx::query_scalar(sql)
            .bind(plugin.to_owned())
            .bind(keys)
            .fetch_one(&mut self.connection)
            .await;
        let written = written.map_err(|error| Failure::new(&self.folder, &error))?;
        Ok(u64::try_from(written).unwrap_or(0) + sizes.iter().sum::<u64>())
    }

    /// Keys from `first` on (without `first` itself if it is `excluded`), in byte order.
    pub(crate) async fn state_keys(
        &mut self,
        plugin: &str,
        first: &str,
        excluded: bool,
        limit: usize,
    ) -> Result<Vec<String>, Failure> {
        let sql = "SELECT key FROM state WHERE plugin = ? AND key >= ? AND (? = 0 OR key <> ?) \
                   ORDER BY key LIMIT ?";
        let keys = sqlx::query_scalar(sql)
            .bind(plugin.to_owned())
            .bind(first.to_owned())
            .bind(i64::from(excluded))
            .bind(first.to_owned())
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(&mut self.connection)
            .await;
        keys.map_err(|error| Failure::new(&self.folder, &error))
    }
}
