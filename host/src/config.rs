//! The configuration: what was written ([`file`]) becomes what is valid ([`Config`]), and every value knows where it
//! came from.
//!
//! Reads files and the environment variables that a value refers to; connects to nothing and loads no plugin. Which
//! options the command line has is not known here: it passes them in as [`Options`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::backend::BrokerOptions;
use crate::control::DEFAULT_GROUP;
use crate::plugin::{Grants, Limits};
use crate::retry::RetryPolicy;
use crate::wire::Form;

mod collect;
mod file;
mod problem;
mod valid;

pub use crate::value::{Setting, Settings, Size, Time};
pub use problem::{ConfigError, Place, Problem};
pub use valid::check_group;

use problem::Text;

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "sandbar.toml";
/// Where the embedded broker keeps its data when nothing else is said.
pub const DEFAULT_DATA: &str = "sandbar-data";
/// The folder of plugins that is served when it exists and no other is named.
pub const DEFAULT_PLUGIN_DIR: &str = "plugins";
/// How long a host that is told to stop waits for what runs.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);

/// The effective configuration.
#[derive(Debug, Clone)]
pub struct Config {
    /// The file that was read.
    pub file: Option<PathBuf>,
    /// The folder of the embedded broker.
    pub data: Sourced<PathBuf>,
    /// The group of a host's subscriptions.
    pub group: Sourced<String>,
    /// How long stopping may take.
    pub grace: Sourced<Duration>,
    /// A folder whose `.wasm` files are served.
    pub plugin_dir: Sourced<Option<PathBuf>>,
    /// What is logged; `None`: each verb's own default.
    pub log: Sourced<Option<String>>,
    /// The broker.
    pub broker: BrokerOptions,
    /// The plugins that have a section of their own, by name.
    pub plugins: BTreeMap<String, PluginConfig>,
    /// The text of the file, for errors about it.
    text: Option<Text>,
}

/// A valid `[plugins.NAME]`.
#[derive(Debug, Clone)]
pub struct PluginConfig {
    /// Its component; without one, the file of that name in the folder of plugins.
    pub file: Option<PathBuf>,
    /// The digest that it must have.
    pub digest: Option<String>,
    /// What it may do; its `config` is filled in when the settings are resolved.
    pub grants: Grants,
    /// What it reads as its configuration, references not yet followed.
    pub settings: Settings,
    /// How much it may use.
    pub limits: Limits,
    /// When failures are tried again.
    pub retry: RetryPolicy,
    /// How its messages are written.
    pub form: Form,
    /// Where its name and its settings stand in the file.
    spans: Spans,
}

/// Places that later checks refer to.
#[derive(Debug, Clone, Default)]
struct Spans {
    name: std::ops::Range<usize>,
    file: Option<std::ops::Range<usize>>,
    settings: BTreeMap<String, std::ops::Range<usize>>,
}

/// A value and where it came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sourced<T> {
    /// The value.
    pub value: T,
    /// Where it came from.
    pub source: Source,
}

/// Where a value came from; the later ones give way to the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// An option of the command line.
    Flag,
    /// An environment variable.
    Env,
    /// The configuration file.
    File,
    /// Nothing was said.
    Default,
}

impl Source {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flag => "flag",
            Self::Env => "env",
            Self::File => "file",
            Self::Default => "default",
        }
    }
}

/// What the command line and its environment say; each with its source.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The configuration file; `None`: [`DEFAULT_FILE`], if it exists.
    pub config: Option<PathBuf>,
    /// Instead of `data`.
    pub data: Option<Sourced<PathBuf>>,
    /// Instead of `group`.
    pub group: Option<Sourced<String>>,
    /// Instead of `grace`.
    pub grace: Option<Sourced<Duration>>,
    /// Instead of `plugin_dir`.
    pub plugin_dir: Option<Sourced<PathBuf>>,
    /// Instead of `log`.
    pub log: Option<Sourced<String>>,
}

impl Config {
    /// Reads the file, if there is one, and puts the options on top.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem, each with its place.
    pub fn load(options: Options) -> Result<Self, ConfigError> {
        let default = Path::new(DEFAULT_FILE);
        let path = match &options.config {
            Some(path) => Some(path.as_path()),
            None => default.is_file().then_some(default),
        };
        let text = match path {
            None => None,
            Some(path) => match std::fs::read_to_string(path) {
                Ok(text) => Some(Text {
                    file: path.to_owned(),
                    text,
                }),
                Err(error) => return Err(problem::with_file(path, error.to_string()).into()),
            },
        };
        let written = match &text {
            None => file::File::default(),
            Some(text) => toml::from_str(&text.text).map_err(|error| text.parse_problem(&error))?,
        };
        valid::check(written, text, options)
    }

    /// The folder that relative paths in the file refer to.
    #[must_use]
    pub fn base(&self) -> &Path {
        self.file
            .as_deref()
            .and_then(Path::parent)
            .unwrap_or(Path::new(""))
    }
}

/// The first of option, file and default that says something.
fn layered<T>(
    option: Option<Sourced<T>>,
    file: Option<T>,
    default: impl FnOnce() -> T,
) -> Sourced<T> {
    match (option, file) {
        (Some(option), _) => option,
        (None, Some(value)) => Sourced {
            value,
            source: Source::File,
        },
        (None, None) => Sourced {
            value: default(),
            source: Source::Default,
        },
    }
}

fn default_group() -> String {
    DEFAULT_GROUP.to_owned()
}

#[cfg(test)]
mod tests;
