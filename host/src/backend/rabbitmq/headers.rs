//! The names of AMQP headers that mean something, and how values of headers become text and back.
//!
//! Which property of a message goes where is in `outgoing` and `arrived`.

use lapin::types::{AMQPValue, FieldTable};

use super::delay;
use super::topology::{KEEP, TO};
use crate::message::Headers;

/// The key whose order a message keeps.
pub(super) const KEY: &str = "sandbar-key";
/// The one route of its plugin that a message is for.
pub(super) const ROUTE: &str = "sandbar-route";
/// How often a message was tried before.
pub(super) const ATTEMPTS: &str = "sandbar-attempts";
/// The attempts that failed, as JSON.
pub(super) const HISTORY: &str = "sandbar-history";
/// Which act of publishing a message comes from, however often it is delivered.
pub(super) const NONCE: &str = "sandbar-nonce";
/// The topic of a message whose routing key is the name of a queue.
pub(super) const TOPIC: &str = "sandbar-topic";
/// Headers that AMQP or the server has no place for, as a JSON list of pairs.
pub(super) const MORE: &str = "sandbar-headers";
/// That a message was written by us: its reply topic is a topic and no queue.
pub(super) const VERSION: &str = "sandbar-version";

/// The longest name of a header.
const LONGEST_NAME: usize = 255;

/// Headers of ours that are about one way of a message through the server.
pub(super) fn is_way(name: &str) -> bool {
    matches!(name, KEEP | TO) || delay::is_header(name)
}

/// Headers that the server adds on its way.
pub(super) fn is_servers(name: &str) -> bool {
    const PREFIXES: [&str; 4] = ["x-first-death-", "x-last-death-", "x-opt-", "x-stream-"];
    matches!(name, "x-death" | "x-delivery-count" | "x-received-from")
        || PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

/// Headers of ours that are not part of the message.
pub(super) fn is_ours(name: &str) -> bool {
    let of_delivery = matches!(
        name,
        KEY | ROUTE | ATTEMPTS | HISTORY | NONCE | TOPIC | MORE
    );
    of_delivery || is_way(name)
}

/// Whether a header of a message can be a header of AMQP of the same name.
pub(super) fn fits(name: &str) -> bool {
    name.len() <= LONGEST_NAME && !is_servers(name) && !is_ours(name)
}

/// A header as text, if it is one.
pub(super) fn text<'a>(headers: &'a FieldTable, name: &str) -> Option<&'a str> {
    match headers.inner().get(name)? {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok(),
        AMQPValue::ShortString(text) => Some(text.as_str()),
        _ => None,
    }
}

/// A header as a number, whichever of AMQP's numbers it is.
pub(super) fn number(headers: &FieldTable, name: &str) -> Option<u32> {
    readable(headers.inner().get(name)?)?.parse().ok()
}

/// A value of another program as text. Lists, tables and bytes have none.
fn readable(value: &AMQPValue) -> Option<String> {
    Some(match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok()?.to_owned(),
        AMQPValue::ShortString(text) => text.to_string(),
        AMQPValue::Boolean(value) => value.to_string(),
        AMQPValue::ShortShortInt(value) => value.to_string(),
        AMQPValue::ShortShortUInt(value) => value.to_string(),
        AMQPValue::ShortInt(value) => value.to_string(),
        AMQPValue::ShortUInt(value) => value.to_string(),
        AMQPValue::LongInt(value) => value.to_string(),
        AMQPValue::LongUInt(value) => value.to_string(),
        AMQPValue::LongLongInt(value) => value.to_string(),
        AMQPValue::Timestamp(value) => value.to_string(),
        AMQPValue::Float(value) => value.to_string(),
        AMQPValue::Double(value) => value.to_string(),
        _ => return None,
    })
}

/// Whether a message can have this header.
pub(super) fn is_legal(name: &str, value: &str) -> bool {
    Headers::default().insert(name, value).is_ok()
}

/// The headers of a message out of those of AMQP. What cannot be a header of a message is left out, since a message of
/// another program is welcome all the same.
pub(super) fn of_message(headers: &FieldTable) -> Vec<(String, String)> {
    let mut properties = Vec::new();
    for (name, value) in headers.inner() {
        let name = name.as_str();
        if is_servers(name) || is_ours(name) {
            continue;
        }
        match readable(value) {
            Some(value) if is_legal(name, &value) => {
                properties.push((name.to_owned(), value));
            }
            _ => tracing::debug!(name, "a header that is no text is left out"),
        }
    }
    let more = text(headers, MORE).map(serde_json::from_str::<Vec<(String, String)>>);
    properties.extend(more.and_then(Result::ok).unwrap_or_default());
    properties
}

#[cfg(test)]
mod tests {
    use lapin::types::{FieldArray, LongString};

    use super::*;
    use crate::backend::rabbitmq::topology::{arguments, text as value};

    #[test]
    fn what_other_programs_send_is_read_as_far_as_it_is_text() {
        let headers = arguments([
            ("number", AMQPValue::LongLongInt(-7)),
            ("truth", AMQPValue::Boolean(true)),
            ("Text", value("x")),
            ("with space", value("x")),
            ("line", value("a\nb")),
            ("list", AMQPValue::FieldArray(FieldArray::default())),
            ("bytes", AMQPValue::LongString(LongString::from(vec![0xff]))),
            ("x-death", AMQPValue::FieldArray(FieldArray::default())),
            ("x-first-death-queue", value("q")),
            ("x-request-id", value("r")),
            (ATTEMPTS, AMQPValue::ShortShortInt(3)),
            ("sandbar-delay-3", value("1")),
            (MORE, value(r#"[["x-death","mine"]]"#)),
        ]);
        let pairs = of_message(&headers);
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (&**n, &**v)).collect();
        assert_eq!(
            pairs,
            [
                ("Text", "x"),
                ("number", "-7"),
                ("truth", "true"),
                ("x-request-id", "r"),
                ("x-death", "mine"),
            ]
        );
        assert_eq!(number(&headers, ATTEMPTS), Some(3));
        assert_eq!(number(&headers, "Text"), None);
    }
}
