//! The environment: which variable stands for which key, and its text as a value.
//!
//! `SANDBAR_` and the way to the key in capitals, `__` between a table and what is in it:
//! `SANDBAR_PLUGINS__ORDERS__LIMITS__TIME=2s`. Which keys there are is asked of the schema, so that there is no second
//! list of them. Names that users choose are compared without case, and `-` is written `_`.

use std::collections::BTreeMap;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::problem::{Place, Problem, nearest};
use super::schema;

/// What every variable begins with.
const PREFIX: &str = "SANDBAR_";

/// A value of the environment for a key.
#[derive(Debug)]
pub(super) struct Override<'e> {
    pub(super) variable: String,
    pub(super) keys: Vec<String>,
    pub(super) value: DeValue<'e>,
}

/// The name of the environment variable for a key.
pub fn variable<'a>(keys: impl IntoIterator<Item = &'a str>) -> String {
    let parts: Vec<String> = keys.into_iter().map(in_capitals).collect();
    format!("{PREFIX}{}", parts.join("__"))
}

fn in_capitals(key: &str) -> String {
    key.replace('-', "_").to_ascii_uppercase()
}

/// Whether two names are one in the environment.
pub(super) fn same_name(a: &str, b: &str) -> bool {
    in_capitals(a) == in_capitals(b)
}

/// What the environment says. `others` are variables that mean something else; a variable without `__` that is near to
/// nothing known may be anybody's and is left alone.
pub(super) fn overrides<'e>(
    environment: &'e [(String, String)],
    others: &[String],
    file: &DeTable<'_>,
    problems: &mut Vec<Problem>,
) -> Vec<Override<'e>> {
    let mut references = Vec::new();
    referred(file, &mut references);
    let ours = environment
        .iter()
        .filter(|(name, _)| name.starts_with(PREFIX));
    let mut ours: Vec<_> = ours
        .filter(|(name, _)| !others.contains(name) && !references.contains(&name.as_str()))
        .collect();
    ours.sort();
    let mut found: BTreeMap<Vec<String>, Override<'e>> = BTreeMap::new();
    // The schema is made when somebody asks for it, which nearly nobody does.
    let schema = (!ours.is_empty()).then(schema::bare);
    for (name, text) in ours {
        let Some(schema) = &schema else { break };
        let mut refuse = |message: String| {
            problems.push(Problem {
                place: Some(Place::Variable(name.clone())),
                message,
            });
        };
        let (keys, node) = match resolve(schema, file, name, others) {
            Ok(Some(found)) => found,
            Ok(None) => continue,
            Err(message) => {
                refuse(message);
                continue;
            }
        };
        let value = match value(node, text) {
            Ok(value) => value,
            Err(message) => {
                refuse(message);
                continue;
            }
        };
        if let Some(other) = found.get(&keys) {
            refuse(format!(
                "it stands for the same key as {}; unset one of them",
                other.variable
            ));
            continue;
        }
        let variable = name.clone();
        found.insert(
            keys.clone(),
            Override {
                variable,
                keys,
                value,
            },
        );
    }
    found.into_values().collect()
}

/// The key that a variable stands for, with its schema; `None` for one that is somebody else's.
fn resolve<'s>(
    schema: &'s Value,
    file: &DeTable<'_>,
    name: &str,
    others: &[String],
) -> Result<Option<(Vec<String>, &'s Value)>, String> {
    let rest = name.strip_prefix(PREFIX).unwrap_or(name);
    let parts: Vec<&str> = rest.split("__").collect();
    let (mut node, mut table) = (schema, Some(file));
    let mut keys: Vec<String> = Vec::new();
    for part in &parts {
        let Some((key, inner)) = step(node, table, part) else {
            return unknown(node, &keys, &parts, others);
        };
        table = table.and_then(
            |table| match table.get(key.as_str()).map(Spanned::get_ref) {
                Some(DeValue::Table(inner)) => Some(inner),
                _ => None,
            },
        );
        keys.push(key);
        node = inner;
    }
    if schema::is_table(node) {
        let keys = keys.join(".");
        return Err(format!(
            "`{keys}` is a table; name one of its keys, such as {}",
            example(name, node)
        ));
    }
    Ok(Some((keys, node)))
}

/// One part of a name: a key that there is, or one that users choose.
fn step<'s>(
    node: &'s Value,
    table: Option<&DeTable<'_>>,
    part: &str,
) -> Option<(String, &'s Value)> {
    if let Some((key, inner)) = schema::keys(node).find(|(key, _)| same_name(key, part)) {
        return Some((key.to_owned(), inner));
    }
    let inner = schema::chosen(node).filter(|_| !part.is_empty())?;
    let written = table.into_iter().flat_map(|table| table.keys());
    let mut written = written.map(|key| key.get_ref().as_ref());
    let known = written.find(|key| same_name(key, part)).map(str::to_owned);
    Some((known.unwrap_or_else(|| part.to_ascii_lowercase()), inner))
}

/// What to say of a name whose last known part is a table without such a key.
fn unknown<T>(
    node: &Value,
    keys: &[String],
    parts: &[&str],
    others: &[String],
) -> Result<Option<T>, String> {
    let Some((part, rest)) = parts.get(keys.len()..).and_then(<[&str]>::split_first) else {
        return Ok(None);
    };
    let known = schema::keys(node)
        .map(|(key, _)| in_capitals(key))
        .collect::<Vec<_>>();
    let near = if parts.len() == 1 {
        // It may be anybody's: an orchestrator sets SANDBAR_PORT for a service of that name.
        let others = others.iter().filter_map(|name| name.strip_prefix(PREFIX));
        let mut known = known.iter().map(String::as_str).chain(others);
        match known.find(|known| strsim::damerau_levenshtein(known, part) <= 2) {
            Some(near) => near,
            None => return Ok(None),
        }
    } else {
        match nearest(part, known.iter().map(String::as_str)) {
            Some(near) => near,
            None => {
                return Err(format!(
                    "there is no key {part}; use one of {} in its place",
                    known.join(", ")
                ));
            }
        }
    };
    let begin = keys.iter().map(String::as_str);
    let meant = variable(begin.chain([near]).chain(rest.iter().copied()));
    Err(format!("there is no such key; did you mean {meant}?"))
}

fn example(name: &str, node: &Value) -> String {
    let key = schema::keys(node).next().map_or("NAME", |(key, _)| key);
    format!("{name}__{}", in_capitals(key))
}

/// The text as a value of the type that the key has. Lists are separated by commas, or written as in TOML.
fn value<'e>(node: &Value, text: &'e str) -> Result<DeValue<'e>, String> {
    let plain = |text: &'e str| DeValue::String(text.into());
    Ok(match schema::kind(node) {
        "array" if text.trim_start().starts_with('[') => {
            let list = DeValue::parse(text.trim());
            let list = list.map_err(|error| format!("{text:?} is no list: {}", error.message()))?;
            list.into_inner()
        }
        "array" => {
            let mut list = DeArray::new();
            let items = text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty());
            for item in items {
                list.push(Spanned::new(0..0, plain(item)));
            }
            DeValue::Array(list)
        }
        "boolean" | "integer" | "number" => scalar(text).unwrap_or_else(|| plain(text)),
        _ => plain(text),
    })
}

/// A number or truth value. Anything else stays text, and is refused as such by its key.
fn scalar(text: &str) -> Option<DeValue<'_>> {
    let value = DeValue::parse(text).ok()?.into_inner();
    (value.is_bool() || value.is_integer() || value.is_float()).then_some(value)
}

/// The variables that values of the file refer to.
fn referred<'t>(table: &'t DeTable<'_>, names: &mut Vec<&'t str>) {
    for value in table.values() {
        match value.get_ref() {
            DeValue::Table(inner) => referred(inner, names),
            DeValue::String(text) => names.extend(text.strip_prefix("env:")),
            _ => {}
        }
    }
}
