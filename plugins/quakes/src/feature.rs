//! One earthquake as the USGS publishes it (a GeoJSON feature), and what has to be true of it. Fields that nobody
//! here needs are not read.

use std::ops::RangeInclusive;

use sandbar_guest::{Error, Result};
use serde::Deserialize;

/// The region of a quake without a place.
const UNKNOWN: &str = "unknown";

/// A feature; only [`Feature::check`] says whether its numbers make sense.
#[derive(Debug, Deserialize)]
pub(crate) struct Feature {
    pub(crate) id: String,
    pub(crate) properties: Properties,
    pub(crate) geometry: Geometry,
}

/// What was measured.
#[derive(Debug, Deserialize)]
pub(crate) struct Properties {
    /// Moment magnitude or one of its older relatives.
    pub(crate) mag: f64,
    /// As in `4km W of Castaic, CA`.
    pub(crate) place: Option<String>,
    /// Milliseconds since 1970-01-01 UTC.
    pub(crate) time: i64,
}

/// Where it was.
#[derive(Debug, Deserialize)]
pub(crate) struct Geometry {
    /// Longitude and latitude in degrees, depth in kilometres.
    pub(crate) coordinates: [f64; 3],
}

impl Feature {
    /// Rejects what cannot be an earthquake, with the path of the field.
    pub(crate) fn check(&self) -> Result<()> {
        let [longitude, latitude, depth] = self.geometry.coordinates;
        within("properties.mag", self.properties.mag, -2.0..=10.0)?;
        within("geometry.coordinates[0]", longitude, -180.0..=180.0)?;
        within("geometry.coordinates[1]", latitude, -90.0..=90.0)?;
        // Above sea level is negative; the deepest quakes are at 700 km.
        within("geometry.coordinates[2]", depth, -10.0..=1000.0)?;
        length("id", &self.id, 1..=64)?;
        length("properties.place", self.place(), 0..=200)
    }

    /// The place, empty if it isn't known.
    pub(crate) fn place(&self) -> &str {
        self.properties.place.as_deref().unwrap_or_default()
    }

    /// What follows the last comma of the place, or all of it.
    pub(crate) fn region(&self) -> &str {
        let place = self.place();
        let region = place.rsplit(',').next().unwrap_or(place).trim();
        if region.is_empty() { UNKNOWN } else { region }
    }

    /// The magnitude in thousandths, so that sums are exact.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "`check` has seen that it is within -2 and 10"
    )]
    pub(crate) fn thousandths(&self) -> i64 {
        (self.properties.mag * 1000.0).round() as i64
    }
}

fn within(path: &str, value: f64, range: RangeInclusive<f64>) -> Result<()> {
    if range.contains(&value) {
        return Ok(());
    }
    let (start, end) = range.into_inner();
    Err(Error::rejected(format!(
        "{path}: {value} is not between {start} and {end}"
    )))
}

fn length(path: &str, text: &str, range: RangeInclusive<usize>) -> Result<()> {
    if range.contains(&text.len()) {
        return Ok(());
    }
    let (start, end) = range.into_inner();
    Err(Error::rejected(format!(
        "{path}: {} bytes; must be {start} to {end}",
        text.len()
    )))
}
