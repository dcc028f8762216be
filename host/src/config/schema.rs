//! The JSON Schema (draft 2020-12) of `sandbar.toml`, made from the types that read it.
//!
//! Descriptions are the comments of the fields, defaults those of an empty file. Other parts ask it which keys there
//! are: the environment, the reference. It checks nothing itself.

use schemars::Schema;
use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use serde_json::{Map, Value, json};

use super::file::File;
use super::shown;

/// The schema for editors and programs.
///
/// ```
/// let schema = sandbar::config::schema();
/// assert_eq!(schema["properties"]["defaults"]["properties"]["limits"]["properties"]["time"]["default"], "5s");
/// ```
#[must_use]
pub fn schema() -> Value {
    let mut schema = bare();
    for entry in shown::of_nothing()
        .into_iter()
        .chain(shown::of_plugin("NAME"))
    {
        let keys: Vec<&str> = entry.keys.iter().map(String::as_str).collect();
        if let (Some(node), Some(value)) = (at_mut(&mut schema, &keys), entry.value) {
            node.insert("default".to_owned(), value);
        }
    }
    schema
}

/// The schema without defaults.
pub(super) fn bare() -> Value {
    let settings =
        SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    let mut schema = settings
        .with_transform(RecursiveTransform(without_null))
        .into_generator()
        .into_root_schema_for::<File>();
    schema.insert("title".to_owned(), json!("sandbar.toml"));
    schema.to_value()
}

/// The keys of a table, each with its schema.
pub(super) fn keys(node: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let properties = node.get("properties").and_then(Value::as_object);
    properties
        .into_iter()
        .flatten()
        .map(|(key, node)| (key.as_str(), node))
}

/// The schema of what stands under names that users choose.
pub(super) fn chosen(node: &Value) -> Option<&Value> {
    let patterns = node.get("patternProperties").and_then(Value::as_object);
    let pattern = patterns.and_then(|patterns| patterns.values().next());
    pattern.or_else(|| {
        node.get("additionalProperties")
            .filter(|node| node.is_object())
    })
}

/// Whether it is a table, as opposed to a value.
pub(super) fn is_table(node: &Value) -> bool {
    kind(node) == "object"
}

/// The type of a value; that of the text where text is taken as well.
pub(super) fn kind(node: &Value) -> &str {
    match node.get("type") {
        Some(Value::String(kind)) => kind,
        Some(Value::Array(_)) => "string",
        _ => "string",
    }
}

/// The schema of a key.
pub(super) fn at<'s>(schema: &'s Value, path: &[&str]) -> Option<&'s Value> {
    path.iter().try_fold(schema, |node, key| {
        keys(node)
            .find(|(name, _)| name == key)
            .map(|(_, node)| node)
            .or_else(|| chosen(node))
    })
}

fn at_mut<'s>(schema: &'s mut Value, path: &[&str]) -> Option<&'s mut Map<String, Value>> {
    let node = path.iter().try_fold(schema, |node, key| {
        if node.get("properties").is_some() {
            node.get_mut("properties")?.get_mut(key)
        } else {
            node.get_mut("patternProperties")?
                .as_object_mut()?
                .values_mut()
                .next()
        }
    });
    node?.as_object_mut()
}

/// TOML has no null: what may be left out is left out. Defaults are not those of the types that are read.
fn without_null(schema: &mut Schema) {
    schema.remove("default");
    if let Some(Value::Array(kinds)) = schema.get_mut("type") {
        kinds.retain(|kind| kind != "null");
        if let [only] = kinds.as_slice() {
            let only = only.clone();
            schema.insert("type".to_owned(), only);
        }
    }
    if let Some(Value::Array(values)) = schema.get_mut("enum") {
        values.retain(|value| !value.is_null());
    }
    let Some(Value::Array(choices)) = schema.get_mut("anyOf") else {
        return;
    };
    choices.retain(|choice| choice.get("type") != Some(&json!("null")));
    if let [Value::Object(only)] = choices.as_mut_slice() {
        let only = std::mem::take(only);
        schema.remove("anyOf");
        let own = schema.ensure_object();
        for (key, value) in only {
            // What is said of the field is more than what is said of its type.
            own.entry(key).or_insert(value);
        }
    }
}
