//! What hosts tell each other: that something changed, and where. A hint only; whoever misses it finds out by looking.
//!
//! Sent outside of the transactions that change anything, for a notification makes commits wait for each other.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Postgres;
use sqlx::pool::PoolOptions;
use sqlx::postgres::PgListener;

use super::{Failure, First, Place, Tx};

/// Bytes of one notification; the server takes a little less than 8,000.
const LONGEST: usize = 7_500;

/// What changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// The queues themselves.
    pub(crate) topology: bool,
    /// Messages became ready.
    pub(crate) ready: Vec<First>,
}

impl News {
    pub(crate) fn is_empty(&self) -> bool {
        !self.topology && self.ready.is_empty()
    }

    /// As texts that fit into a notification each, with the sender in front.
    fn write(&self, host: &str) -> Vec<String> {
        let mut texts = Vec::new();
        let mut text = format!("{host}{}", if self.topology { ";queues" } else { "" });
        for First { queue, id } in &self.ready {
            if text.len() > LONGEST {
                texts.push(std::mem::replace(&mut text, host.to_owned()));
            }
            text.push_str(&format!(";{queue}:{id}"));
        }
        texts.push(text);
        texts
    }

    /// The sender and what it says; what cannot be understood is left out.
    fn read(text: &str) -> (&str, Self) {
        let mut parts = text.split(';');
        let host = parts.next().unwrap_or_default();
        let mut news = Self::default();
        for part in parts {
            if let Some((queue, id)) = part.split_once(':') {
                if let (Ok(queue), Ok(id)) = (queue.parse(), id.parse()) {
                    news.ready.push(First { queue, id });
                }
            } else {
                news.topology |= part == "queues";
            }
        }
        (host, news)
    }
}

impl Tx<'_> {
    /// Tells the other hosts.
    pub(crate) async fn tell(&mut self, host: &str, news: &News) -> Result<(), Failure> {
        let sql = "SELECT count(pg_notify($1, text)) FROM unnest($2::text[]) AS t (text)";
        let query = self.query(sql).bind(self.place().channel());
        let query = query.bind(news.write(host));
        self.one::<i64>(query).await.map(drop)
    }
}

/// A connection that hears the other hosts.
pub(crate) struct Wire {
    listener: PgListener,
    place: Arc<Place>,
    host: Arc<str>,
}

impl Wire {
    /// Connects and listens.
    pub(crate) async fn open(place: Arc<Place>, host: Arc<str>) -> Result<Self, Failure> {
        let lost = |error: sqlx::Error| Failure::new(&place, &error);
        let pool = PoolOptions::<Postgres>::new()
            .max_connections(1)
            .max_lifetime(None)
            .idle_timeout(None)
            .acquire_timeout(place.deadline().min(Duration::from_secs(10)));
        let pool = pool
            .connect_with(place.options().clone())
            .await
            .map_err(lost)?;
        let mut listener = PgListener::connect_with(&pool).await.map_err(lost)?;
        listener.ignore_pool_close_event(true);
        listener.eager_reconnect(false);
        listener.listen(&place.channel()).await.map_err(lost)?;
        Ok(Self {
            listener,
            place,
            host,
        })
    }

    /// What another host says; `None`: the connection was lost, and with it perhaps something that was said.
    pub(crate) async fn hear(&mut self) -> Result<Option<News>, Failure> {
        loop {
            let heard = self.listener.try_recv().await;
            let heard = heard.map_err(|error| Failure::new(&self.place, &error))?;
            let Some(heard) = heard else { return Ok(None) };
            let (host, news) = News::read(heard.payload());
            if host != &*self.host {
                return Ok(Some(news));
            }
        }
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire")
            .field("place", &self.place)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_come_out_as_they_went_in() {
        let ready = (0..2_000).map(|n| First {
            queue: n,
            id: n * 1_000_003,
        });
        let news = News {
            topology: true,
            ready: ready.collect(),
        };
        let texts = news.write("host");
        assert!(texts.len() > 1 && texts.iter().all(|text| text.len() < 8_000));
        let mut read = News::default();
        for text in &texts {
            let (host, part) = News::read(text);
            assert_eq!(host, "host");
            read.topology |= part.topology;
            read.ready.extend(part.ready);
        }
        assert_eq!(read, news);
        assert_eq!(
            News::read("h;what;1:x;;2:3").1.ready,
            [First { queue: 2, id: 3 }]
        );
    }
}
