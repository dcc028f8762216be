//! What the host checks before it takes something from a plugin: sizes, names, patterns. Pure functions.

const MAX_CONTENT: usize = 1 << 20;
const MAX_HEADERS: usize = 64;
const MAX_HEADER_BYTES: usize = 16 << 10;
const MAX_TOPIC: usize = 255;

/// Whether a topic fits a pattern: `*` stands for one token, a final `>` for one or more.
pub(super) fn matches(pattern: &str, topic: &str) -> bool {
    let mut tokens = topic.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (_, None) => return false,
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            (_, Some(_)) => return false,
        }
    }
    tokens.next().is_none()
}

/// What is wrong with a topic that is published or requested to.
pub(super) fn topic(topic: &str) -> Result<(), String> {
    let wrong = topic.is_empty()
        || topic.len() > MAX_TOPIC
        || topic
            .chars()
            .any(|char| char.is_whitespace() || char.is_control())
        || topic
            .split('.')
            .any(|token| matches!(token, "" | "*" | ">"));
    if wrong {
        return Err(format!("{topic:?} is not a topic"));
    }
    Ok(())
}

/// What is wrong with content and headers.
pub(super) fn payload(content: &[u8], headers: &[(String, String)]) -> Result<(), String> {
    if content.len() > MAX_CONTENT {
        return Err(format!(
            "content has {} bytes; at most {MAX_CONTENT} are allowed",
            content.len()
        ));
    }
    let bytes: usize = headers
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if headers.len() > MAX_HEADERS || bytes > MAX_HEADER_BYTES {
        return Err(format!(
            "{} headers with {bytes} bytes; at most {MAX_HEADERS} with {MAX_HEADER_BYTES} are allowed",
            headers.len()
        ));
    }
    let named = |name: &str| !name.is_empty() && name.chars().all(|char| char.is_ascii_graphic());
    for (name, value) in headers {
        if !named(name) || value.chars().any(char::is_control) {
            return Err(format!("header {name:?} is malformed"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{matches, topic};

    #[test]
    fn patterns() {
        for (pattern, topic, fits) in [
            ("a.b", "a.b", true),
            ("a.b", "a.c", false),
            ("a.*", "a.b", true),
            ("a.*", "a.b.c", false),
            ("a.*", "a", false),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
            ("*.b", "a.b", true),
        ] {
            assert_eq!(matches(pattern, topic), fits, "{pattern} {topic}");
        }
    }

    #[test]
    fn topics() {
        assert_eq!(topic("order.create"), Ok(()));
        for wrong in ["", "a b", "a..b", "a.*", "a.>", &"x".repeat(256)] {
            assert!(topic(wrong).is_err(), "{wrong}");
        }
    }
}
