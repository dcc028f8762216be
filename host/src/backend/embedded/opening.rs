//! Opening a data folder: what must be known before the first message moves, and no more.
//!
//! Messages stay where they are; however many there are, opening looks at each queue once.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use super::group::Group;
use super::shared::{Inner, Shared};
use super::spill::Spill;
use super::state::States;
use super::writer::Writer;
use super::{EmbeddedBackend, EmbeddedOptions};
use crate::backend::OpenError;
use crate::backend::table::Table;
use crate::store::sqlite::{Database, Failure, Folder};

pub(super) async fn open(
    folder: &Path,
    options: EmbeddedOptions,
) -> Result<EmbeddedBackend, OpenError> {
    let (mut database, flusher) = Database::open_apart(Folder::take(folder).await?).await?;
    let explain = |error: Failure| OpenError::Other {
        path: folder.to_owned(),
        reason: error.0,
    };
    let inner = load(&mut database, options).await.map_err(explain)?;
    let reader = database.reader().await.map_err(explain)?;
    let about = database.describe().await.map_err(explain)?;
    let shared = Arc::new(Shared::new(inner, reader, folder.to_owned()));
    shared.forget_kept(&mut database).await.map_err(explain)?;
    let writer = tokio::spawn(Writer::new(shared.clone(), database, flusher).run());
    Ok(EmbeddedBackend {
        shared,
        writer: Mutex::new(Some(writer)),
        about,
    })
}

async fn load(database: &mut Database, options: EmbeddedOptions) -> Result<Inner, Failure> {
    let mut table = Table::new();
    let (mut hungry, mut slots) = (Vec::new(), HashMap::new());
    for row in database.queues().await? {
        if row.spec.ephemeral {
            // Left over from a process that did not close.
            database.delete_queue(row.id).await?;
            continue;
        }
        let slot = table.add(row.spec, Spill::on_disk(row.id));
        slots.insert(row.id, slot);
        hungry.push(slot);
    }
    for (queue, key, id) in database.held_keys().await? {
        if let Some(entry) = slots.get(&queue).and_then(|slot| table.entry(*slot)) {
            entry.fifo.hold(key.into(), id);
        }
    }
    let (kept, last) = database.counts().await?;
    let last_letter = database.last_letter().await?;
    Ok(Inner {
        table,
        states: States::default(),
        group: Group::default(),
        admin: Vec::new(),
        options,
        next_id: last + 1,
        last_letter,
        kept,
        next_due: i64::MAX,
        hungry,
        trouble: None,
        broken: None,
        closed: false,
    })
}
