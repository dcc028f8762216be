//! A JSON Schema validator for the keywords that our schema uses.
//!
//! It refuses every keyword that it does not know, so that nothing of a schema is passed over. A complete one would come
//! with features of crates that the product is built without, and then the tests would test something else.

use regex::Regex;
use serde_json::{Map, Value};

/// What only describes.
const ANNOTATIONS: [&str; 6] = [
    "$schema",
    "title",
    "description",
    "default",
    "examples",
    "format",
];

/// Everything about a value that its schema forbids, each with the way to it.
///
/// # Panics
/// When the schema has a keyword that is not known here, or a pattern that is none.
#[must_use]
pub fn violations(schema: &Value, value: &Value) -> Vec<String> {
    let mut found = Vec::new();
    validate(schema, value, "", &mut found);
    found
}

fn validate(schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    let schema = match schema {
        Value::Object(schema) => schema,
        Value::Bool(true) => return,
        _ => return found.push(format!("{at}: is not allowed")),
    };
    for (keyword, says) in schema {
        if ANNOTATIONS.contains(&keyword.as_str()) || keyword.starts_with("x-") {
            continue;
        }
        if !holds(schema, keyword, says, value, at, found) {
            found.push(format!("{at}: {value} breaks `{keyword}`: {says}"));
        }
    }
}

/// Whether a value does what one keyword says. Of values inside it, each says so itself.
fn holds(
    schema: &Map<String, Value>,
    keyword: &str,
    says: &Value,
    value: &Value,
    at: &str,
    found: &mut Vec<String>,
) -> bool {
    let number = |value: &Value| value.as_f64().expect("a number");
    let size = |value: &Value| usize::try_from(value.as_u64().expect("a size")).expect("a size");
    match keyword {
        "type" => match says {
            Value::Array(types) => types.iter().any(|of| is(value, of)),
            one => is(value, one),
        },
        "const" => value == says,
        "enum" => says.as_array().expect("a list").contains(value),
        "oneOf" => {
            let schemas = says.as_array().expect("a list").iter();
            schemas
                .filter(|schema| violations(schema, value).is_empty())
                .count()
                == 1
        }
        "minimum" => value.as_f64().is_none_or(|value| value >= number(says)),
        "exclusiveMinimum" => value.as_f64().is_none_or(|value| value > number(says)),
        "maximum" => value.as_f64().is_none_or(|value| value <= number(says)),
        "minItems" => value.as_array().is_none_or(|list| list.len() >= size(says)),
        "maxLength" => value
            .as_str()
            .is_none_or(|text| text.chars().count() <= size(says)),
        "pattern" => value
            .as_str()
            .is_none_or(|text| matches(says.as_str(), text)),
        "items" => {
            for (index, item) in value.as_array().into_iter().flatten().enumerate() {
                validate(says, item, &format!("{at}[{index}]"), found);
            }
            true
        }
        "properties" => {
            for (key, schema) in says.as_object().expect("schemas") {
                if let Some(inner) = value.get(key) {
                    validate(schema, inner, &format!("{at}.{key}"), found);
                }
            }
            true
        }
        "patternProperties" => {
            for (pattern, schema) in says.as_object().expect("schemas") {
                let keys = value.as_object().into_iter().flatten();
                for (key, inner) in keys.filter(|(key, _)| matches(Some(pattern), key)) {
                    validate(schema, inner, &format!("{at}.{key}"), found);
                }
            }
            true
        }
        "additionalProperties" => {
            let known = |key: &str| {
                let named = schema
                    .get("properties")
                    .and_then(|it| it.get(key))
                    .is_some();
                let patterns = schema.get("patternProperties").and_then(Value::as_object);
                named || patterns.is_some_and(|it| it.keys().any(|of| matches(Some(of), key)))
            };
            let keys = value.as_object().into_iter().flatten();
            for (key, inner) in keys.filter(|(key, _)| !known(key)) {
                validate(says, inner, &format!("{at}.{key}"), found);
            }
            true
        }
        unknown => panic!("the keyword `{unknown}` is not known here; teach it"),
    }
}

fn is(value: &Value, of: &Value) -> bool {
    match of.as_str().expect("the name of a type") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        unknown => panic!("the type `{unknown}` is not known here"),
    }
}

fn matches(pattern: Option<&str>, text: &str) -> bool {
    Regex::new(pattern.expect("a pattern"))
        .expect("a pattern")
        .is_match(text)
}
