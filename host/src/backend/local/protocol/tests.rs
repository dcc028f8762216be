//! The bytes of the protocol, which stay the same as long as its version does.

use super::*;

/// Whoever has to change these bytes has changed the protocol and counts up `VERSION`.
#[test]
fn this_version_is_written_like_this() {
    let message = Note {
        topic: "t",
        identifier: Uuid::from_u128(1),
        reply_topic: Some("r"),
        strategy: Strategy::Multicast,
        status: 200,
        headers: vec![("a", "b")],
        content: Blob(b"xyz"),
    };
    let letter = Letter {
        packet: Parcel::Message(message),
        reason: Reason::Forbidden,
        error: "e",
        plugin: None,
        digest: Some("d"),
        queue: "q",
        attempts: 3,
        at_ms: -1,
        report: None,
    };
    let ending = Ending {
        token: Mark { id: 7, fence: 300 },
        verdict: Sentence::DeadLetter(Box::new(letter)),
        publishes: Vec::new(),
        state: Some(Changes {
            plugin: "p",
            reads: vec![("k", 1)],
            writes: vec![("k", None)],
        }),
    };
    let request = Request {
        id: 5,
        call: Call::Settle(vec![ending]),
    };
    let bytes = postcard::to_extend(&request, Vec::new()).unwrap();
    let expected = [
        &[5, 8, 1, 7, 0xac, 2, 2, 0][..],
        b"\x01t\x10",
        &Uuid::from_u128(1).into_bytes(),
        b"\x01\x01r\x01\xc8\x01\x01\x01a\x01b\x03xyz",
        b"\x09\x01e\x00\x01\x01d\x01q\x03\x01\x00",
        b"\x00\x01\x01p\x01\x01k\x01\x01\x01k\x00",
    ];
    assert_eq!(bytes, expected.concat());
    let cancel = Request {
        id: 1,
        call: Call::Cancel(2),
    };
    assert_eq!(
        postcard::to_extend(&cancel, Vec::new()).unwrap(),
        [1, 14, 2]
    );
    let size = Request {
        id: 1,
        call: Call::StateSize("p"),
    };
    assert_eq!(
        postcard::to_extend(&size, Vec::new()).unwrap(),
        [1, 16, 1, b'p']
    );
    let failed = Reply::StoreFailed(StoreFault::Corrupt("c"));
    let response = Response {
        id: 1,
        more: false,
        reply: failed,
    };
    assert_eq!(
        postcard::to_extend(&response, Vec::new()).unwrap(),
        [1, 0, 11, 1, 1, b'c']
    );
}
