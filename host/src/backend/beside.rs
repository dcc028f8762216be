//! What a host keeps beside a network broker, in its own store: which messages it has settled, and messages that wait until
//! the broker has confirmed them.
//!
//! It knows no broker. Each says in `check` what it will never take, and publishes what it is given.

mod ledger;
mod outbox;

pub(super) use ledger::Ledger;
pub(super) use outbox::{Target, forward};
