//! What a broker delivers: bytes with properties, in both forms.

use super::*;

use bytes::Bytes;
use sandbar::message::{Message, Payload, Status};
use sandbar::wire::{Form, Packet, RawPacket, decode, encode};
use sandbar_tests::contract::sorted;

fn real() -> Vec<Message> {
    let mut plain = Message::new("t".parse().unwrap(), Payload::default());
    let mut full = Message::new(
        "order.created".parse().unwrap(),
        Payload::new(&b"{\"price\": 9.99, \"name\": \"\\u00e4\", \"deep\": [[[[null]]]]}"[..]),
    )
    .multicast();
    full.reply_topic = Some("reply.here".parse().unwrap());
    full.payload.status = Status::SystemError;
    for (name, value) in [
        ("user", "018f3a5e-0000-7000-8000-000000000000"),
        ("traceparent", "00-1-2-3"),
    ] {
        full.payload.headers.insert(name, value).unwrap();
    }
    // The same ones for a seed.
    plain.identifier = uuid::Uuid::from_u128(1);
    full.identifier = uuid::Uuid::from_u128(u128::MAX);
    let mut binary = full.clone();
    binary.payload.content = Bytes::from_static(b"\x00\xff\xfe binary");
    vec![plain, full, binary]
}

#[test]
fn an_envelope_is_refused_or_is_a_message() {
    let mut envelopes: Vec<Vec<u8>> = real()
        .iter()
        .map(|message| encode(Form::Json, message).unwrap().body.to_vec())
        .collect();
    envelopes.push([b"[".repeat(20_000), b"]".repeat(20_000)].concat());
    let nested = [&b"{\"topic\":\"t\",\"content\":"[..], &b"[".repeat(20_000)].concat();
    envelopes.push([nested, b"]".repeat(20_000), b"}".to_vec()].concat());
    check("envelopes", 3000, &changed(envelopes), |bytes| {
        let raw = RawPacket {
            topic: "t".to_owned(),
            body: bytes.into(),
            ..RawPacket::default()
        };
        again(Form::Json, raw)
    });
}

#[test]
fn a_native_message_is_refused_or_is_a_message() {
    let mut names: Vec<String> = Vec::new();
    let mut values: Vec<String> = Vec::new();
    for message in real() {
        let raw = encode(Form::Native, &message).unwrap();
        names.extend(raw.properties.iter().map(|(name, _)| name.clone()));
        values.extend(raw.properties.iter().map(|(_, value)| value.clone()));
    }
    let [names, values] = [names, values].map(|texts| {
        let texts: Vec<Vec<u8>> = texts.into_iter().map(String::into_bytes).collect();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        let real = prop::sample::select(texts.clone()).prop_map(text);
        prop_oneof![real, changed(texts).prop_map(text)].boxed()
    });
    let packets = (
        changed_text(&["order.created", "t"]),
        prop::option::of(changed_text(&["17", "amq.ctag-1"])),
        prop::collection::vec((names, values), 0..12),
        prop::collection::vec(any::<u8>(), 0..64),
    );
    check("native messages", 3000, &packets, |packet| {
        let (topic, broker_id, properties, body) = packet;
        let raw = RawPacket {
            topic,
            broker_id,
            properties,
            body: body.into(),
        };
        again(Form::Native, raw)
    });
}

/// What is read is written, in both forms, and read as the same.
fn again(form: Form, raw: RawPacket) -> TestCaseResult {
    let Ok(message) = decode(form, &Packet::Raw(raw)) else {
        return Ok(());
    };
    for form in [Form::Native, Form::Json] {
        let written = encode(form, &message).map_err(|it| TestCaseError::fail(it.to_string()))?;
        let read = decode(form, &Packet::Raw(written))
            .map_err(|it| TestCaseError::fail(it.to_string()))?;
        // An object has no order.
        prop_assert_eq!(sorted(&read), sorted(&message), "{:?}", form);
    }
    Ok(())
}
