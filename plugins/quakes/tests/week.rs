//! The whole week of real quakes, with totals that are computed from the data in another way.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should stop")]

use std::collections::BTreeMap;

use quakes::PLUGIN;
use sandbar_guest::testing::Host;
use sandbar_guest::{Json, Response};
use serde_json::{Value, json};

/// The week, straight from the file.
fn week() -> Vec<(&'static str, Value)> {
    include_str!("../data/quakes.jsonl")
        .lines()
        .map(|line| (line, serde_json::from_str(line).unwrap()))
        .collect()
}

/// A decimal number as thousandths, read digit by digit: no floating point is involved.
fn thousandths(number: &str) -> i64 {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = format!("{whole}{fraction:0<3}");
    assert!(fraction.len() <= 3, "{number}");
    digits.parse().unwrap()
}

#[test]
fn totals() {
    let week = week();
    assert_eq!(week.len(), 1_707);
    let mut host = Host::new(PLUGIN).grant_state().grant_publish("quake.alert");
    let mut rejected = 0;
    for (line, _) in &week {
        let outcome = host.send("quake.recorded", Response::new(*line));
        rejected += usize::from(!outcome.is_ok());
    }
    assert_eq!(rejected, 0);

    let mut regions = BTreeMap::<&str, i64>::new();
    let mut sum = 0;
    let mut alerts = Vec::new();
    for (_, quake) in &week {
        let properties = &quake["properties"];
        let place = properties["place"].as_str().unwrap();
        let region = place.rsplit_once(',').map_or(place, |(_, region)| region);
        *regions.entry(region.trim()).or_default() += 1;
        sum += thousandths(&properties["mag"].to_string());
        if properties["mag"].as_f64().unwrap() >= 4.5 {
            alerts.push(quake["id"].as_str().unwrap());
        }
    }
    let strongest = week
        .iter()
        .map(|(_, quake)| &quake["properties"])
        .max_by(|a, b| {
            a["mag"]
                .as_f64()
                .unwrap()
                .total_cmp(&b["mag"].as_f64().unwrap())
        })
        .unwrap();
    let mut top: Vec<_> = regions
        .iter()
        .map(|(region, count)| (*count, *region))
        .collect();
    top.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(b.1)));

    let stats: Value = host
        .send("quake.stats", Json(json!({"top": 1_000})))
        .json()
        .unwrap();
    assert_eq!(stats["count"], 1_707);
    assert_eq!(stats["alerts"], alerts.len());
    let named: Vec<_> = top
        .iter()
        .map(|(count, region)| json!({"region": region, "count": count}))
        .collect();
    assert_eq!(stats["regions"], json!(named));
    assert_eq!(
        stats["strongest"],
        json!({
            "magnitude": strongest["mag"],
            "place": strongest["place"],
            "time": strongest["time"],
        })
    );
    assert_eq!(host.state()["total/magnitude"], sum.to_string().as_bytes());
    let published: Vec<_> = host
        .published()
        .iter()
        .map(|alert| alert.json::<Value>().unwrap()["id"].clone())
        .collect();
    assert_eq!(published, alerts);

    // The same once more in plain figures, so that a mistake that both sides share would be seen.
    assert_eq!((regions.len(), alerts.len(), sum), (74, 85, 2_616_390));
    assert_eq!(stats["strongest"]["magnitude"], 6.4);
    let short: Value = host.send("quake.stats", ()).json().unwrap();
    assert_eq!(short["regions"].as_array().map(Vec::len), Some(10));
    assert_eq!(short["regions"][0], json!({"region": "CA", "count": 747}));
}

#[test]
fn the_order_does_not_matter() {
    let totals = |lines: &mut dyn Iterator<Item = &str>| {
        let mut host = Host::new(PLUGIN).grant_state().grant_publish("quake.alert");
        for line in lines {
            assert!(host.send("quake.recorded", Response::new(line)).is_ok());
        }
        host.state().clone()
    };
    let data = include_str!("../data/quakes.jsonl");
    assert_eq!(totals(&mut data.lines()), totals(&mut data.lines().rev()));
}
