//! Whether a topic or pattern is one, found out while it has a place in the source.
//!
//! The host checks topics again at load, because not every plugin is written with this SDK.

/// The longest topic that brokers and host agree on, in bytes.
const MAX_BYTES: usize = 255;

/// What is wrong with a topic, if anything.
pub(crate) fn complaint(topic: &str) -> Option<String> {
    if topic.is_empty() {
        return Some("a topic cannot be empty".to_owned());
    }
    if topic.len() > MAX_BYTES {
        return Some(format!(
            "a topic has at most {MAX_BYTES} bytes; this one has {}",
            topic.len()
        ));
    }
    if topic
        .chars()
        .any(|char| char.is_whitespace() || char.is_control())
    {
        return Some(format!(
            "topic {topic:?} contains whitespace or a control character"
        ));
    }
    let mut tokens = topic.split('.').peekable();
    while let Some(token) = tokens.next() {
        let last = tokens.peek().is_none();
        let complaint = match token {
            "" => "has an empty token; tokens are separated by single dots",
            "#" => "uses `#`; write a final `>` for one or more tokens",
            ">" if !last => "has a `>` before its end; `>` stands for all remaining tokens",
            "*" | ">" => continue,
            _ if token.contains(['*', '>']) => {
                "mixes a wildcard with other characters; `*` and `>` stand for whole tokens"
            }
            _ => continue,
        };
        return Some(format!("topic `{topic}` {complaint}"));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::{MAX_BYTES, complaint};

    #[test]
    fn topics_and_patterns() {
        for topic in [
            "a",
            "order.create",
            "order.*",
            "order.*.done",
            "order.>",
            ">",
            "*",
            "größe.1",
        ] {
            assert_eq!(complaint(topic), None, "{topic}");
        }
        assert_eq!(complaint(&"x".repeat(MAX_BYTES)), None);
    }

    #[test]
    fn mistakes() {
        for (topic, part) in [
            ("", "empty"),
            ("a b", "whitespace"),
            ("a\n", "whitespace"),
            ("a..b", "empty token"),
            (".a", "empty token"),
            ("a.", "empty token"),
            ("a.>.b", "before its end"),
            ("a.b*", "whole tokens"),
            ("a.>>", "whole tokens"),
            ("a.#", "write a final `>`"),
        ] {
            let text = complaint(topic).unwrap_or_default();
            assert!(text.contains(part), "{topic:?}: {text}");
        }
        assert!(complaint(&"x".repeat(MAX_BYTES + 1)).is_some());
    }
}
