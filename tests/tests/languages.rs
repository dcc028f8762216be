//! Guests of other languages: the plugins `echo` and `quakes` in Python and TypeScript do what those in Rust do, and the
//! sins of an interpreter cost one message, as those of a compiled guest do.
//!
//! They are large: 18 MB and dozens of core modules for Python. How they are built is in `tests/src/languages.rs`; what they
//! cost is printed by `instances`, and asserted nowhere.

#[path = "languages/alike.rs"]
mod alike;
#[path = "languages/instances.rs"]
mod instances;
#[path = "languages/sins.rs"]
mod sins;

use sandbar::plugin::PluginSpec;
use sandbar_tests::languages::Language;
use tokio::sync::Mutex;

/// A plugin in this language, named as the one in Rust. `None` if it cannot be built here.
fn spec(language: Language, name: &str) -> Option<PluginSpec> {
    Some(PluginSpec::from_file(&language.guest(name)?))
}

/// One at a time: two compilations of such components beside each other take longer than a host may take to get ready.
static TURN: Mutex<()> = Mutex::const_new(());
