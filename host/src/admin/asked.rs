//! What the broker is asked for those who ask the host: with a time limit, and once a second however many they are.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::backend::{Health, Opened, Overview};
use crate::store::{LetterCounts, LetterFilter};

/// An answer, or why there is none.
pub(super) type Told<T> = Arc<Result<T, String>>;

/// What was asked last.
#[derive(Debug, Default)]
pub(super) struct Asked {
    health: Last<Health>,
    overview: Last<Overview>,
    letters: Last<LetterCounts>,
}

/// How long the broker may take for an answer.
const PATIENCE: Duration = Duration::from_secs(2);
/// How old an answer may be.
const FRESH: Duration = Duration::from_secs(1);

impl Asked {
    /// Whether the broker takes messages.
    pub(super) async fn health(&self, broker: &Opened) -> Told<Health> {
        self.health.ask(broker.backend.health()).await
    }

    /// What waits in its queues.
    pub(super) async fn overview(&self, broker: &Opened) -> Told<Overview> {
        self.overview.ask(broker.backend.overview()).await
    }

    /// How many dead letters wait.
    pub(super) async fn letters(&self, broker: &Opened) -> Told<LetterCounts> {
        let all = LetterFilter::default();
        self.letters.ask(broker.store.count_letters(&all)).await
    }
}

#[derive(Debug)]
struct Last<T>(Mutex<Option<(Instant, Told<T>)>>);

impl<T> Default for Last<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T> Last<T> {
    /// Whoever comes while it is asked waits for the same answer.
    async fn ask<E: Display>(
        &self,
        question: impl Future<Output = Result<T, E>> + Send,
    ) -> Told<T> {
        let mut last = self.0.lock().await;
        if let Some((when, told)) = &*last
            && when.elapsed() < FRESH
        {
            return told.clone();
        }
        let told = match timeout(PATIENCE, question).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("it did not answer within {PATIENCE:?}")),
        };
        let told = Arc::new(told);
        *last = Some((Instant::now(), told.clone()));
        told
    }
}
