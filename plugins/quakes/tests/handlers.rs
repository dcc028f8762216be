//! What the two handlers do with single messages: good ones, wrong ones, and wrong settings.

#![expect(clippy::unwrap_used, reason = "a test that can't go on should stop")]

use quakes::PLUGIN;
use sandbar_guest::testing::Host;
use sandbar_guest::{Json, Status, Strategy};
use serde_json::{Value, json};

/// The first line of the real data.
fn quake() -> Value {
    let line = include_str!("../data/quakes.jsonl").lines().next();
    serde_json::from_str(line.unwrap()).unwrap()
}

fn host() -> Host {
    Host::new(PLUGIN).grant_state().grant_publish("quake.alert")
}

#[test]
fn a_quake_is_counted() {
    let mut host = host();
    assert!(host.send("quake.recorded", Json(quake())).is_ok());
    let stored: Vec<_> = host
        .state()
        .iter()
        .map(|(key, value)| (key.as_str(), String::from_utf8_lossy(value).into_owned()))
        .collect();
    let strongest = r#"{"magnitude":2.0,"place":"4km W of Castaic, CA","time":1517966773840}"#;
    assert_eq!(
        stored,
        [
            ("region/CA", "1".to_owned()),
            ("total/magnitude", "2000".to_owned()),
            ("total/strongest", strongest.to_owned()),
        ]
    );
    assert_eq!(host.published(), []);
}

#[test]
fn a_strong_quake_raises_an_alert() {
    let mut host = host();
    let mut quake = quake();
    quake["properties"]["mag"] = json!(6.0);
    assert!(host.send("quake.recorded", Json(&quake)).is_ok());
    let [alert] = host.published() else {
        panic!("one alert expected: {:?}", host.published())
    };
    assert_eq!(alert.topic, "quake.alert");
    assert_eq!(alert.strategy, Strategy::Multicast);
    assert_eq!(
        alert.json::<Value>(),
        Ok(json!({
            "id": "ci37868143",
            "magnitude": 6.0,
            "place": "4km W of Castaic, CA",
            "time": 1_517_966_773_840_i64,
            "level": "strong",
        }))
    );
}

#[test]
fn the_threshold_is_configured() {
    for (setting, alerts) in [("1.5", 1), ("2", 1), ("2.1", 0)] {
        let mut host = host().config("alert_magnitude", setting);
        assert!(host.send("quake.recorded", Json(quake())).is_ok());
        assert_eq!(host.published().len(), alerts, "{setting}");
    }
    let mut host = host().config("alert_magnitude", "high");
    let outcome = host.send("quake.recorded", Json(quake()));
    assert_eq!(outcome.status(), Status::SystemError);
    assert!(host.state().is_empty());
}

#[test]
fn a_wrong_quake_is_rejected_with_the_path() {
    for (pointer, value, path) in [
        (
            "/properties/mag",
            json!(null),
            "properties.mag: invalid type: null",
        ),
        (
            "/properties/mag",
            json!("2"),
            "properties.mag: invalid type: string",
        ),
        (
            "/properties/mag",
            json!(10.1),
            "properties.mag: 10.1 is not between -2 and 10",
        ),
        (
            "/properties/time",
            json!(1.5),
            "properties.time: invalid type: floating point",
        ),
        (
            "/geometry/coordinates/0",
            json!(-180.5),
            "geometry.coordinates[0]: -180.5",
        ),
        (
            "/geometry/coordinates/1",
            json!(91),
            "geometry.coordinates[1]: 91",
        ),
        (
            "/geometry/coordinates/2",
            json!(6371),
            "geometry.coordinates[2]: 6371",
        ),
        (
            "/geometry/coordinates",
            json!([1, 2]),
            "geometry.coordinates: invalid length 2",
        ),
        ("/geometry", json!(null), "geometry: invalid type: null"),
        ("/id", json!(""), "id: 0 bytes"),
        (
            "/properties/place",
            json!("x".repeat(201)),
            "properties.place: 201 bytes",
        ),
    ] {
        let mut host = host();
        let mut quake = quake();
        *quake.pointer_mut(pointer).unwrap() = value;
        let outcome = host.send("quake.recorded", Json(&quake));
        assert_eq!(outcome.status(), Status::Error, "{pointer}");
        let text = outcome.error().unwrap().text();
        assert!(text.starts_with(path), "{pointer}: {text}");
        assert!(host.state().is_empty(), "{pointer}");
    }
}

#[test]
fn a_quake_without_a_place_is_somewhere() {
    for place in [json!(null), json!(""), json!("somewhere, ")] {
        let mut host = host();
        let mut quake = quake();
        quake["properties"]["place"] = place;
        assert!(host.send("quake.recorded", Json(&quake)).is_ok());
        assert!(host.state().contains_key("region/unknown"));
    }
}

#[test]
fn nothing_recorded_is_an_answer_too() {
    let answer = host().send("quake.stats", ()).json::<Value>();
    let nothing =
        json!({"count": 0, "regions": [], "strongest": null, "mean_magnitude": null, "alerts": 0});
    assert_eq!(answer, Ok(nothing));
}

#[test]
fn a_wrong_question_is_rejected() {
    let outcome = host().send("quake.stats", Json(json!({"first": 3})));
    assert_eq!(outcome.status(), Status::Error);
    let outcome = host().send("quake.stats", Json(json!({"top": -1})));
    assert!(outcome.error().unwrap().text().starts_with("top: "));
}
