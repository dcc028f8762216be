//! Lists of a request: no longer than anybody needs, so that a frame of tiny items is not many times its size in memory.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

use super::super::MAX_LIST;

/// Reads a list of at most [`MAX_LIST`] items.
pub(super) fn bounded<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    deserializer.deserialize_seq(Items(PhantomData))
}

struct Items<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for Items<T> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {MAX_LIST} items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Vec<T>, A::Error> {
        let said = items.size_hint().unwrap_or(0);
        if said > MAX_LIST {
            return Err(A::Error::invalid_length(said, &self));
        }
        // What is said is not yet there.
        let mut list = Vec::with_capacity(said.min(1024));
        while let Some(item) = items.next_element()? {
            if list.len() == MAX_LIST {
                return Err(A::Error::invalid_length(list.len() + 1, &self));
            }
            list.push(item);
        }
        Ok(list)
    }
}
