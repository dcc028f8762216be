//! The task that hears the other hosts. Without it nothing is missed, only found later.
//!
//! It has a connection of its own, which a pooler cannot give it.

use std::sync::Arc;

use super::shared::{Backoff, Shared, Trouble};
use crate::store::postgres::{Failure, Wire};

/// Listens until the broker is closed.
pub(super) async fn listen(shared: Arc<Shared>) {
    let mut trouble = Trouble::new("hear of messages of other hosts");
    let mut backoff = Backoff::new();
    loop {
        let heard = shared
            .ended
            .run_until_cancelled(hear(&shared, &mut trouble, &mut backoff))
            .await;
        let Some(Err(failure)) = heard else { return };
        trouble.begins(&failure);
        if shared
            .ended
            .run_until_cancelled(backoff.wait())
            .await
            .is_none()
        {
            return;
        }
    }
}

async fn hear(
    shared: &Shared,
    trouble: &mut Trouble,
    backoff: &mut Backoff,
) -> Result<std::convert::Infallible, Failure> {
    let mut wire = Wire::open(shared.place.clone(), shared.host.clone()).await?;
    trouble.ends();
    *backoff = Backoff::new();
    shared.lock().missed = true;
    shared.keeping.notify_one();
    loop {
        let Some(news) = wire.hear().await? else {
            return Err(Failure::Lost(
                "the connection that listens was lost".to_owned(),
            ));
        };
        if news.topology {
            // Before the messages of the queues that it doesn't know yet.
            shared.refresh().await?;
        }
        shared.found(&news.ready, None);
    }
}
