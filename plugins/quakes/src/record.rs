//! The event `quake.recorded`: totals and alerts. It is the hot path: at most five operations on state per message,
//! and those that every message writes are increments, which the host can add up when messages run side by side.

use sandbar_guest::{Context, Error, Json, Result, State, event};
use serde::{Deserialize, Serialize};

use crate::feature::Feature;

/// Keys of the counters by region begin with this.
pub(crate) const REGION: &str = "region/";
/// The sum of all magnitudes, in thousandths.
pub(crate) const SUM: &str = "total/magnitude";
/// How many alerts there were.
pub(crate) const ALERTS: &str = "total/alerts";
/// The [`Strongest`] quake.
pub(crate) const STRONGEST: &str = "total/strongest";

const ALERT_TOPIC: &str = "quake.alert";
const DEFAULT_ALERT_MAGNITUDE: f64 = 4.5;

/// The strongest quake so far; of equals, the earliest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Strongest {
    magnitude: f64,
    place: String,
    time: i64,
}

#[derive(Debug, Serialize)]
struct Alert<'a> {
    id: &'a str,
    magnitude: f64,
    place: &'a str,
    time: i64,
    level: &'static str,
}

/// Counts a quake, and raises an alert if it is a strong one.
#[event("quake.recorded")]
pub(crate) fn record(Json(quake): Json<Feature>, ctx: &Context) -> Result<()> {
    quake.check()?;
    let state = ctx.state();
    state.increment(&format!("{REGION}{}", quake.region()), 1)?;
    state.increment(SUM, quake.thousandths())?;
    keep_strongest(&quake, &state)?;
    if quake.properties.mag >= alert_magnitude(ctx)? {
        state.increment(ALERTS, 1)?;
        alert(&quake, ctx)?;
    }
    Ok(())
}

fn keep_strongest(quake: &Feature, state: &State) -> Result<()> {
    let (magnitude, time) = (quake.properties.mag, quake.properties.time);
    let held = state.get_json::<Strongest>(STRONGEST)?;
    let stronger = held.is_none_or(|held| {
        magnitude > held.magnitude || (magnitude == held.magnitude && time < held.time)
    });
    if stronger {
        let strongest = Strongest {
            magnitude,
            place: quake.place().to_owned(),
            time,
        };
        state.set_json(STRONGEST, &strongest)?;
    }
    Ok(())
}

fn alert_magnitude(ctx: &Context) -> Result<f64> {
    let Some(text) = ctx.config().get("alert_magnitude") else {
        return Ok(DEFAULT_ALERT_MAGNITUDE);
    };
    text.parse().map_err(|_| {
        Error::failed(format!(
            "configuration `alert_magnitude` is not a number: {text:?}"
        ))
    })
}

fn alert(quake: &Feature, ctx: &Context) -> Result<()> {
    let alert = Alert {
        id: &quake.id,
        magnitude: quake.properties.mag,
        place: quake.place(),
        time: quake.properties.time,
        level: level(quake.properties.mag),
    };
    Ok(ctx
        .message(ALERT_TOPIC, Json(alert))
        .multicast()
        .publish()?)
}

/// The class that seismologists give to a magnitude.
fn level(magnitude: f64) -> &'static str {
    match magnitude {
        8.0.. => "great",
        7.0.. => "major",
        6.0.. => "strong",
        5.0.. => "moderate",
        4.0.. => "light",
        _ => "minor",
    }
}
