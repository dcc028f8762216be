//! Counts earthquakes by region and raises alerts: a plugin over real data, with state, configuration and publishing.
//!
//! It keeps totals, not the quakes themselves: it is no archive.

mod feature;
mod record;
mod stats;

sandbar_guest::plugin!(record::record, stats::stats);
