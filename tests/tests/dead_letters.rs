//! Dead letters from their first failed attempt to their end: across restarts, kills, and the limits that are set for
//! them.
//!
//! What every store does with them is in `contract.rs`, what the verbs print in `cli.rs`.

#[path = "dead_letters/kept.rs"]
mod kept;
#[path = "dead_letters/kill.rs"]
mod kill;
#[path = "dead_letters/reports.rs"]
mod reports;
#[path = "dead_letters/served.rs"]
mod served;
