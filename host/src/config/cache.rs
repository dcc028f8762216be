//! How the engine is set, and where compiled components are kept: what is configured, or the usual place.
//!
//! Makes no folder; whether one can be used is found out when it is.

use std::path::PathBuf;

use super::Config;
use crate::guest::{CacheOptions, EngineOptions};

/// A valid `[cache]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheConfig {
    /// Whether compiled components are kept.
    pub enabled: bool,
    /// Where, if that is said.
    pub dir: Option<PathBuf>,
    /// How many bytes of them.
    pub size: u64,
}

impl Config {
    /// How the engine is set.
    #[must_use]
    pub fn engine(&self) -> EngineOptions {
        EngineOptions {
            cache: self.cache(),
            stack: Some(self.stack),
        }
    }

    /// Where compiled components are kept; `None` if nowhere.
    #[must_use]
    pub fn cache(&self) -> Option<CacheOptions> {
        let CacheConfig { enabled, dir, size } = &self.cache;
        let dir = match dir {
            _ if !enabled => None,
            Some(dir) => Some(dir.clone()),
            // A command that looks at a file makes no data folder.
            None if self.data.value.is_dir() => Some(self.data.value.join("cache")),
            None => of_user(|name| std::env::var_os(name).map(PathBuf::from)),
        };
        Some(CacheOptions {
            size: *size,
            ..CacheOptions::new(dir?)
        })
    }
}

/// The folder in the user's cache folder, as the XDG Base Directory Specification has it.
fn of_user(variable: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    // A relative path there is no path.
    let absolute = |name: &str| variable(name).filter(|path| path.is_absolute());
    let caches = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Some(caches?.join("sandbar"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_users_cache_folder_is_where_the_specification_says() {
        for (xdg, home, expected) in [
            (Some("/x"), Some("/home/ann"), Some("/x/sandbar")),
            (
                Some("x"),
                Some("/home/ann"),
                Some("/home/ann/.cache/sandbar"),
            ),
            (
                Some(""),
                Some("/home/ann"),
                Some("/home/ann/.cache/sandbar"),
            ),
            (None, Some("/home/ann"), Some("/home/ann/.cache/sandbar")),
            (None, Some("ann"), None),
            (None, None, None),
        ] {
            let variable = |name: &str| match name {
                "XDG_CACHE_HOME" => xdg.map(PathBuf::from),
                _ => home.map(PathBuf::from),
            };
            assert_eq!(of_user(variable), expected.map(PathBuf::from));
        }
    }
}
