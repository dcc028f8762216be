//! PostgreSQL: getting there, the schema, and what is read and written in it.
//!
//! All SQL of the postgres broker is here and below, in short transactions ([`Tx`]) that need nothing of the session
//! around them, so that a pooler may hand out another one for each. It decides nothing about messages: which rows are
//! written when is the business of `backend::postgres`.

pub mod bare;
mod claim;
mod commits;
mod dead;
mod failure;
mod hosts;
mod kept;
mod keyed;
mod later;
mod letters;
mod look;
mod migrate;
mod news;
mod place;
mod queues;
mod session;
mod state;
mod write;

pub(crate) use super::row::Columns;
pub(crate) use claim::{CLAIM_BYTES, Claimed, Hold, Wanted};
pub(crate) use commits::{Doubt, Fate};
pub(crate) use failure::Failure;
pub(crate) use keyed::Keys;
pub(crate) use news::{News, Wire};
pub(crate) use place::Place;
pub(crate) use queues::Topology;
pub(crate) use session::{CommitError, Kind, Session, Tx};
pub(crate) use state::{StateKey, StateRow};
pub(crate) use write::{First, NewRow, RetryRow};
