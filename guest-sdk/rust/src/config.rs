//! What the operator configured for this plugin. Read only: a change reloads the plugin.

use crate::backend;

/// The plugin's configuration, granted secrets included.
#[derive(Debug, Clone, Copy)]
pub struct Config(pub(crate) ());

impl Config {
    /// One value.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<String> {
        backend::config_get(name)
    }

    /// All names and values. Secrets are among them: don't log the list.
    #[must_use]
    pub fn all(&self) -> Vec<(String, String)> {
        backend::config_all()
    }
}
