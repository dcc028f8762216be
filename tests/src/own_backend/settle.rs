//! The end of a delivery: everything that it caused becomes durable with it in one line, or nothing does.
//!
//! What a verdict means to a queue is here and nowhere else.

use sandbar::backend::{
    BackendError, Destination, Outgoing, SettleError, Settlement, Token, Verdict,
};
use sandbar::store::StateEffects;

use super::Inner;
use super::change::Change;
use super::table::{Table, later};

impl Inner {
    /// Settles one delivery. When that fails, it is ready again at once.
    pub(super) fn settle(&mut self, settlement: Settlement) -> Result<(), SettleError> {
        let token = settlement.token;
        if self.journal.is_none() {
            return Err(SettleError::Closed);
        }
        let settled = changes(&mut self.table, settlement).and_then(|changes| {
            self.commit(changes).map_err(|error| match error {
                BackendError::Closed => SettleError::Closed,
                error => SettleError::Unavailable(error.to_string()),
            })
        });
        if settled.is_err() {
            self.table.release(token);
        }
        settled
    }
}

fn changes(table: &mut Table, settlement: Settlement) -> Result<Vec<Change>, SettleError> {
    let Settlement {
        token,
        verdict,
        effects,
    } = settlement;
    table.in_flight(token)?;
    let mut changes = Vec::new();
    if let Some(state) = effects.state {
        write(table, *state, &mut changes)?;
    }
    let copy = match &verdict {
        Verdict::DeadLetter(_) => copy(table, token)?,
        _ => None,
    };
    for outgoing in effects.publishes.into_iter().chain(copy) {
        table
            .publish(outgoing, &mut changes)
            .map_err(SettleError::Refused)?;
    }
    match verdict {
        Verdict::Ack => changes.push(Change::Done(token.id)),
        Verdict::Retry { after, .. } => {
            let (entry, _) = table.in_flight(token)?;
            changes.push(Change::Again {
                id: token.id,
                due_ms: later(after),
                attempts: entry.attempts.saturating_add(1),
            });
        }
        Verdict::DeadLetter(letter) => {
            changes.push(Change::Done(token.id));
            changes.push(Change::Dead((*letter).into()));
        }
    }
    Ok(changes)
}

/// What a handler did to its state is valid only while everything that it read is still the same.
fn write(table: &Table, state: StateEffects, changes: &mut Vec<Change>) -> Result<(), SettleError> {
    let current = |key: &str| table.value(&state.plugin, key).version;
    if state
        .reads
        .iter()
        .any(|(key, version)| current(key) != *version)
    {
        return Err(SettleError::Conflict);
    }
    changes.extend(state.writes.iter().map(|(key, value)| Change::Value {
        plugin: state.plugin.to_string(),
        key: key.to_string(),
        value: value.as_ref().map(|value| value.to_vec()),
    }));
    Ok(())
}

/// What goes to the dead-letter queue, if there is one.
fn copy(table: &Table, token: Token) -> Result<Option<Outgoing>, SettleError> {
    let (entry, dead_letter) = table.in_flight(token)?;
    let name = dead_letter.filter(|name| table.queue(name).is_ok());
    Ok(name.map(|name| Outgoing {
        to: Destination::Queue(name.clone()),
        key: entry.key.clone(),
        ..Outgoing::new((*entry.message).clone())
    }))
}
