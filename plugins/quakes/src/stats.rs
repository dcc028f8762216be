//! The query `quake.stats`. It reads every region's counter, which is fine for a question asked now and then and would
//! not be for one asked with every quake.

use std::cmp::Reverse;

use sandbar_guest::{Context, Json, Result, State, query};
use serde::{Deserialize, Serialize};

use crate::record::{ALERTS, REGION, STRONGEST, SUM, Strongest};

/// What can be asked.
#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Question {
    /// How many regions to name.
    top: usize,
}

impl Default for Question {
    fn default() -> Self {
        Self { top: 10 }
    }
}

/// The totals of all quakes that were counted.
#[derive(Debug, Serialize)]
pub(crate) struct Stats {
    count: i64,
    regions: Vec<Region>,
    strongest: Option<Strongest>,
    mean_magnitude: Option<f64>,
    alerts: i64,
}

/// A region with its quakes.
#[derive(Debug, Serialize)]
pub(crate) struct Region {
    region: String,
    count: i64,
}

/// Says how many quakes there were, where most of them, and which was the strongest.
#[query("quake.stats")]
pub(crate) fn stats(question: Option<Json<Question>>, ctx: &Context) -> Result<Json<Stats>> {
    let Json(question) = question.unwrap_or_default();
    let state = ctx.state();
    let mut regions = regions(&state)?;
    // Not a counter of its own: it would be one more write with every quake, and could never say anything else.
    let count = regions.iter().map(|region| region.count).sum();
    regions
        .sort_unstable_by(|a, b| (Reverse(a.count), &a.region).cmp(&(Reverse(b.count), &b.region)));
    regions.truncate(question.top);
    Ok(Json(Stats {
        count,
        regions,
        strongest: state.get_json(STRONGEST)?,
        mean_magnitude: mean(number(&state, SUM)?, count),
        alerts: number(&state, ALERTS)?,
    }))
}

fn regions(state: &State) -> Result<Vec<Region>> {
    let keys = state.keys(REGION)?;
    keys.iter()
        .filter_map(|key| Some((key, key.strip_prefix(REGION)?)))
        .map(|(key, region)| {
            Ok(Region {
                region: region.to_owned(),
                count: number(state, key)?,
            })
        })
        .collect()
}

fn number(state: &State, key: &str) -> Result<i64> {
    Ok(state.get_json(key)?.unwrap_or(0))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "exact below 2^53 thousandths, which the Earth will not reach"
)]
fn mean(thousandths: i64, count: i64) -> Option<f64> {
    (count > 0).then(|| thousandths as f64 / 1000.0 / count as f64)
}
