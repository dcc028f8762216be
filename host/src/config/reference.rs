//! The reference of `sandbar.toml` for people: a table for each table, made from the schema.
//!
//! It is the generated part of `docs/configuration.md`; what cannot be generated is written there.

use std::fmt::Write as _;

use serde_json::Value;

use super::environment::variable;
use super::schema::{at, is_table, schema};
use super::shown::{Shown, of_nothing, of_plugin};

/// Every key with type, unit, default, variable and meaning, as Markdown.
#[must_use]
pub fn reference() -> String {
    let schema = schema();
    let mut text = String::new();
    let mut table: Option<Vec<String>> = None;
    for entry in of_nothing().into_iter().chain(of_plugin("NAME")) {
        let Some((_, tables)) = entry.keys.split_last() else {
            continue;
        };
        if table.as_deref() != Some(tables) {
            heading(&mut text, &schema, tables);
            table = Some(tables.to_owned());
        }
        row(&mut text, &schema, &entry);
    }
    text
}

fn heading(text: &mut String, schema: &Value, tables: &[String]) {
    let title = match tables {
        [] => "The top level".to_owned(),
        tables => format!("`[{}]`", tables.join(".")),
    };
    let tables: Vec<&str> = tables.iter().map(String::as_str).collect();
    let about = at(schema, &tables).map(description).unwrap_or_default();
    let inherited = match tables.as_slice() {
        ["plugins", _, table @ ("limits" | "retry" | "breaker")] => {
            format!(" What is left out is as in `[defaults.{table}]`.")
        }
        _ => String::new(),
    };
    // Writing into a string does not fail.
    writeln!(
        text,
        "\n## {title}\n\n{about}{inherited}\n\n| key | type | unit | default | variable | meaning |\n|---|---|---|---|---|---|"
    )
    .ok();
}

fn row(text: &mut String, schema: &Value, entry: &Shown) {
    let keys: Vec<&str> = entry.keys.iter().map(String::as_str).collect();
    let (Some(node), Some(key)) = (at(schema, &keys), keys.last()) else {
        return;
    };
    if is_table(node) {
        return;
    }
    let unit = node
        .get("x-unit")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let default = entry
        .value
        .as_ref()
        .map(|value| format!("`{value}`"))
        .unwrap_or_default();
    writeln!(
        text,
        "| `{key}` | {} | {unit} | {default} | `{}` | {} |",
        type_of(node),
        variable(keys.iter().copied()),
        description(node)
    )
    .ok();
}

fn description(node: &Value) -> String {
    let text = node
        .get("description")
        .and_then(Value::as_str)
        .unwrap_or_default();
    text.replace('\n', " ").replace('|', "\\|")
}

/// The type in a word or two.
fn type_of(node: &Value) -> String {
    if let Some(choices) = choices(node) {
        return choices.join(" or ");
    }
    if let Some(items) = node.get("items") {
        return format!("list of {}s", type_of(items));
    }
    if let Some(Value::String(own)) = node.get("x-type") {
        return own.clone();
    }
    match node.get("type").and_then(Value::as_str) {
        Some("boolean") => "`true` or `false`".to_owned(),
        Some("integer") => "whole number".to_owned(),
        Some("number") => "number".to_owned(),
        _ => "text".to_owned(),
    }
}

/// What there is to choose from; a variant with a comment is an alternative of its own.
fn choices(node: &Value) -> Option<Vec<String>> {
    let list = |values: &Vec<Value>| values.iter().map(|value| format!("`{value}`")).collect();
    if let Some(Value::Array(values)) = node.get("enum") {
        return Some(list(values));
    }
    let Some(Value::Array(variants)) = node.get("oneOf") else {
        return None;
    };
    let values: Option<Vec<Value>> = variants.iter().map(|it| it.get("const").cloned()).collect();
    values.as_ref().map(list)
}
