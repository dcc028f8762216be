//! Content that nobody knows as people can look at it: JSON with line breaks, text, or bytes.
//!
//! What is printed is the content to the letter; numbers and the order of keys stay as they were sent.

use super::super::terminal::printable;

/// The most bytes that are shown.
const TEXT: usize = 4 << 10;
const BYTES: usize = 256;

/// What kind of content it is, and how it looks.
pub(super) fn preview(content: &[u8]) -> (&'static str, String) {
    let Ok(text) = std::str::from_utf8(content) else {
        let shown = content.get(..BYTES).unwrap_or(content);
        return ("bytes", more(hex(shown), shown.len(), content.len()));
    };
    let is_json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
    let (kind, text) = match is_json {
        true => ("JSON", indented(text)),
        false => ("text", text.to_owned()),
    };
    let end = text.floor_char_boundary(TEXT);
    let shown = text.get(..end).unwrap_or(&text);
    (kind, more(printable(shown), end, text.len()))
}

fn more(mut text: String, shown: usize, all: usize) -> String {
    if shown < all {
        let left = all - shown;
        text.push_str(&format!(
            "\n… and {left} more bytes; `--content FILE` writes all of them"
        ));
    }
    text
}

/// JSON that is known to be JSON, with line breaks and without other changes.
fn indented(json: &str) -> String {
    let mut text = String::with_capacity(json.len() * 2);
    let (mut depth, mut quoted, mut escaped) = (0_usize, false, false);
    let mut empty = false;
    let line = |text: &mut String, depth: usize| {
        text.push('\n');
        text.extend(std::iter::repeat_n("  ", depth));
    };
    for c in json.chars() {
        if quoted {
            text.push(c);
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        if c.is_ascii_whitespace() {
            continue;
        }
        let closes = matches!(c, '}' | ']');
        if closes {
            depth = depth.saturating_sub(1);
        }
        if closes != empty && (closes || empty) {
            line(&mut text, depth);
        }
        empty = matches!(c, '{' | '[');
        depth += usize::from(empty);
        quoted = c == '"';
        text.push(c);
        match c {
            ',' => line(&mut text, depth),
            ':' => text.push(' '),
            _ => {}
        }
    }
    text
}

/// Sixteen bytes in a line, as numbers and as characters.
fn hex(bytes: &[u8]) -> String {
    let mut lines = Vec::new();
    for (number, line) in bytes.chunks(16).enumerate() {
        let numbers: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let character = |byte: &u8| {
            if byte.is_ascii_graphic() || *byte == b' ' {
                char::from(*byte)
            } else {
                '.'
            }
        };
        let characters: String = line.iter().map(character).collect();
        lines.push(format!(
            "{:08x}  {:<47}  {characters}",
            number * 16,
            numbers.join(" ")
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_gets_line_breaks_and_nothing_else() {
        for (json, expected) in [
            ("1e400", "1e400"),
            ("{}", "{}"),
            ("[ ]", "[]"),
            (
                r#"{"b":1.50,"a":[1,{"x":"{,\"}\\"}],"e":{}}"#,
                "{\n  \"b\": 1.50,\n  \"a\": [\n    1,\n    {\n      \"x\": \"{,\\\"}\\\\\"\n    }\n  ],\n  \"e\": {}\n}",
            ),
        ] {
            assert_eq!(preview(json.as_bytes()), ("JSON", expected.to_owned()));
        }
    }

    #[test]
    fn other_content_is_shown_as_what_it_is() {
        let (kind, text) = preview("plain \u{1b}[31m".as_bytes());
        assert_eq!((kind, text.as_str()), ("text", "plain \u{fffd}[31m"));
        let (kind, text) = preview(&[0xff, 0x00, b'a', b'b']);
        let expected = format!("00000000  {:<47}  ..ab", "ff 00 61 62");
        assert_eq!((kind, text), ("bytes", expected));
        let (_, text) = preview(&vec![b'x'; 5_000]);
        assert!(text.ends_with("… and 904 more bytes; `--content FILE` writes all of them"));
        let (_, text) = preview(&vec![0xff; 1_000]);
        assert!(text.contains("… and 744 more bytes"), "{text}");
    }
}
