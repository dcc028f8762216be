//! Plugins by the thousand: `echo` under other topics, each a component of its own.
//!
//! The topic of a route is text in the component's data, so another text of the same length makes another component. The
//! host compiles each of them anew, as it would a thousand plugins of a thousand authors.

use std::path::Path;

use sandbar::plugin::PluginSpec;
use sandbar_tests::guests::guest;

/// The topic of `plugins/echo`.
const TOPIC: &str = "echo";

/// `echo` for another topic of four characters.
pub(crate) fn echo_for(topic: &str) -> Vec<u8> {
    assert_eq!(topic.len(), TOPIC.len(), "{topic:?}");
    let mut bytes = std::fs::read(guest("echo")).unwrap();
    let places: Vec<usize> = bytes
        .windows(TOPIC.len())
        .enumerate()
        .filter(|(_, window)| *window == TOPIC.as_bytes())
        .map(|(place, _)| place)
        .collect();
    // One is the topic; the others are in names of functions, which mean nothing.
    assert!(!places.is_empty(), "`{TOPIC}` is in the component");
    for place in places {
        bytes[place..][..topic.len()].copy_from_slice(topic.as_bytes());
    }
    bytes
}

/// The topic of the plugin of that number: `0000` to `zzzz`.
pub(crate) fn topic(number: usize) -> String {
    let digit = |place: u32| {
        let digit = number / 36_usize.pow(place) % 36;
        char::from_digit(digit as u32, 36).unwrap()
    };
    (0..4).rev().map(digit).collect()
}

/// So many plugins in a folder, each for a topic of its own.
pub(crate) fn many(folder: &Path, count: usize) -> Vec<PluginSpec> {
    (0..count)
        .map(|number| one(folder, &topic(number), &format!("echo-{number}")))
        .collect()
}

/// One plugin in a folder.
pub(crate) fn one(folder: &Path, topic: &str, name: &str) -> PluginSpec {
    let file = folder.join(format!("{name}.wasm"));
    std::fs::write(&file, echo_for(topic)).unwrap();
    PluginSpec::from_file(&file)
}
