//! What was written and where: the file as a tree, with the environment's values in their places.
//!
//! Everything wrong is found at once: what cannot be read is reported, taken out of the tree, and the rest is read
//! again. What a key means is in [`super::file`]; which variable stands for which key in [`super::environment`].

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue, Deserializer};

use super::Source;
use super::environment::Override;
use super::problem::{Place, Problem, in_our_words};

/// The way to a value: the keys from the top.
pub(super) type Keys<'a> = [&'a str];

/// Where everything stands that was written. Flags are known by the name of their key.
#[derive(Debug, Clone, Default)]
pub(super) struct Written {
    file: Option<PathBuf>,
    text: String,
    /// Variables have the bytes after the end of the text, one each.
    variables: Vec<String>,
    entries: BTreeMap<Vec<String>, Entry>,
    pub(super) flags: Vec<&'static str>,
}

#[derive(Debug, Clone)]
struct Entry {
    key: Range<usize>,
    value: Range<usize>,
}

/// A tree of values, each with its bytes.
pub(super) type Tree<'a> = Spanned<DeTable<'a>>;

impl Written {
    /// Parses a file. The tree has what could be read of it.
    pub(super) fn parse<'a>(
        file: Option<&Path>,
        text: &'a str,
        problems: &mut Vec<Problem>,
    ) -> (Self, Tree<'a>) {
        let written = Self {
            file: file.map(Path::to_owned),
            text: text.to_owned(),
            ..Self::default()
        };
        let (tree, errors) = DeTable::parse_recoverable(text);
        problems.extend(errors.iter().map(|error| written.refused(error)));
        (written, tree)
    }

    /// Puts a value of the environment into its place.
    pub(super) fn set<'a>(&mut self, tree: &mut Tree<'a>, value: Override<'a>) {
        let start = self.text.len() + self.variables.len();
        let span = start..start + 1;
        self.variables.push(value.variable);
        let Some((last, tables)) = value.keys.split_last() else {
            return;
        };
        let mut table = tree.get_mut();
        for key in tables {
            if !table.contains_key(key.as_str()) {
                let empty = Spanned::new(span.clone(), DeValue::Table(DeTable::new()));
                table.insert(Spanned::new(span.clone(), key.clone().into()), empty);
            }
            match table.get_mut(key.as_str()).map(Spanned::get_mut) {
                Some(DeValue::Table(inner)) => table = inner,
                // The file has something else in the place of a table, which is refused anyway.
                _ => return,
            }
        }
        // The key would keep its place in the file otherwise.
        table.remove(last.as_str());
        let key = Spanned::new(span.clone(), last.clone().into());
        table.insert(key, placed(value.value, span));
    }

    /// Reads the tree, and remembers where everything stood.
    pub(super) fn read<T: DeserializeOwned + Default>(
        &mut self,
        mut tree: Tree<'_>,
        problems: &mut Vec<Problem>,
    ) -> T {
        remember(tree.get_ref(), &mut Vec::new(), &mut self.entries);
        loop {
            match T::deserialize(Deserializer::from(tree.clone())) {
                Ok(read) => return read,
                Err(error) => {
                    let problem = self.refused(&error);
                    if !problems.contains(&problem) {
                        problems.push(problem);
                    }
                    let at = error.span();
                    if !at.is_some_and(|at| take_out(tree.get_mut(), &at)) {
                        return T::default();
                    }
                }
            }
        }
    }

    fn refused(&self, error: &toml::de::Error) -> Problem {
        Problem {
            place: error.span().and_then(|span| self.place_of(span.start)),
            message: in_our_words(error.message()),
        }
    }

    /// A problem with a value.
    pub(super) fn problem(&self, keys: &Keys<'_>, message: impl Into<String>) -> Problem {
        let entry = self.entry(keys);
        Problem {
            place: entry.and_then(|entry| self.place_of(entry.value.start)),
            message: message.into(),
        }
    }

    /// A problem with a key, such as the name of a plugin.
    pub(super) fn key_problem(&self, keys: &Keys<'_>, message: impl Into<String>) -> Problem {
        let entry = self.entry(keys);
        Problem {
            place: entry.and_then(|entry| self.place_of(entry.key.start)),
            message: message.into(),
        }
    }

    /// The file.
    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// Whether there is such a value.
    pub(super) fn is_written(&self, keys: &Keys<'_>) -> bool {
        self.entry(keys).is_some()
    }

    /// Where a value came from.
    pub(super) fn source(&self, keys: &Keys<'_>) -> Source {
        let said = |flag: &&str| flag.split('.').eq(keys.iter().copied());
        if self.flags.iter().any(said) {
            return Source::Flag;
        }
        match self.entry(keys) {
            Some(entry) if entry.value.start >= self.text.len() => Source::Env,
            Some(_) => Source::File,
            None => Source::Default,
        }
    }

    /// The folder that a relative path refers to: that of the file, if the path stands there.
    pub(super) fn base(&self, keys: &Keys<'_>) -> PathBuf {
        let folder = self.file.as_deref().and_then(Path::parent);
        match (self.source(keys), folder) {
            (Source::File, Some(folder)) => folder.to_owned(),
            _ => PathBuf::new(),
        }
    }

    fn entry(&self, keys: &Keys<'_>) -> Option<&Entry> {
        let keys: Vec<String> = keys.iter().map(|key| (*key).to_owned()).collect();
        self.entries.get(&keys)
    }

    fn place_of(&self, offset: usize) -> Option<Place> {
        match offset
            .checked_sub(self.text.len())
            .map(|at| self.variables.get(at))
        {
            Some(Some(variable)) => Some(Place::Variable(variable.clone())),
            _ => Some(Place::File {
                file: self.file.clone()?,
                position: Some(position(&self.text, offset)),
            }),
        }
    }
}

/// A value whose parts have these bytes.
fn placed(value: DeValue<'_>, span: Range<usize>) -> Spanned<DeValue<'_>> {
    let value = match value {
        DeValue::Array(items) => {
            let mut list = DeArray::new();
            for item in items {
                list.push(placed(item.into_inner(), span.clone()));
            }
            DeValue::Array(list)
        }
        value => value,
    };
    Spanned::new(span, value)
}

/// Line and column, counted from 1, in characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    (before.matches('\n').count() + 1, column)
}

fn remember(
    table: &DeTable<'_>,
    keys: &mut Vec<String>,
    entries: &mut BTreeMap<Vec<String>, Entry>,
) {
    for (key, value) in table {
        keys.push(key.get_ref().to_string());
        if let DeValue::Table(inner) = value.get_ref() {
            remember(inner, keys, entries);
        }
        let entry = Entry {
            key: key.span(),
            value: value.span(),
        };
        entries.insert(keys.clone(), entry);
        keys.pop();
    }
}

/// Takes the innermost value out that has these bytes, or whose key has. Headers and implied tables share theirs, and so
/// does everything in one variable.
fn take_out(table: &mut DeTable<'_>, at: &Range<usize>) -> bool {
    for (_, value) in table.iter_mut() {
        let found = match value.get_mut() {
            DeValue::Table(inner) => take_out(inner, at),
            DeValue::Array(list) => take_from(list, at),
            _ => false,
        };
        if found {
            return true;
        }
    }
    let is_it =
        |(key, value): &(&Spanned<_>, &Spanned<_>)| key.span() == *at || value.span() == *at;
    let found = table.iter().find(is_it);
    let key = found.map(|(key, _)| key.get_ref().to_string());
    key.is_some_and(|key| table.remove(key.as_str()).is_some())
}

fn take_from(list: &mut DeArray<'_>, at: &Range<usize>) -> bool {
    let found = list.iter().position(|item| item.span() == *at);
    if found.is_some() {
        let items = std::mem::replace(list, DeArray::new())
            .into_iter()
            .enumerate();
        for (_, item) in items.filter(|(position, _)| Some(*position) != found) {
            list.push(item);
        }
    }
    found.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_from_one_in_characters() {
        let text = "a = 1\nä = 2\n";
        let found = [0, 6, 9].map(|offset| position(text, offset));
        assert_eq!(found, [(1, 1), (2, 1), (2, 3)]);
    }
}
