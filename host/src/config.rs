//! The configuration: what was written becomes what is valid ([`Config`]), and every value knows where it came from.
//!
//! A file is parsed into a tree, and the environment's values are put into it (`written`, `environment`); serde makes the
//! keys of `file` of it; rules between values make a [`Config`] of them (`valid`), which the plugins of a host are
//! collected from (`collect`). Back from there go `shown`, `schema` and `reference`. All of it finds everything that is
//! wrong, not only the first. It connects to nothing and loads no plugin. Which options the command line has is not
//! known here: it passes them in as [`Options`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::backend::{BrokerOptions, Mode, QueueName};
use crate::client::PoolOptions;
use crate::control::ServedPlugin;
use crate::plugin::{Grants, Limits, TrustedKey};
use crate::retry::RetryPolicy;
use crate::store::Retention;
use crate::telemetry::LogFormat;
use crate::throttle::BreakerPolicy;
use crate::wire::Form;

mod admin;
mod cache;
mod collect;
mod environment;
mod file;
mod problem;
mod reference;
mod schema;
mod shown;
mod text;
mod valid;
mod written;

pub use crate::value::{Setting, Settings, Size, Time};
pub use admin::AdminConfig;
pub use cache::CacheConfig;
pub use environment::variable;
pub use problem::{ConfigError, Place, Problem};
pub use reference::reference;
pub use schema::schema;
pub use shown::Shown;
pub use text::{address, check_name};

pub(crate) use problem::nearest;

use file::File;
use written::Written;

/// The file that is read when none is named.
pub const DEFAULT_FILE: &str = "sandbar.toml";
/// Where the embedded broker keeps its data when nothing else is said.
pub const DEFAULT_DATA: &str = "sandbar-data";
/// The folder of plugins that is served when it exists and no other is named.
pub const DEFAULT_PLUGIN_DIR: &str = "plugins";
/// How long a host that is told to stop waits for what runs.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);
/// How long the command line waits for a reply.
pub const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

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
    /// Whether files that change are served at once.
    pub watch: Sourced<bool>,
    /// How many versions of each plugin are kept.
    pub versions: Sourced<usize>,
    /// Whose signature a component must bear, if anybody's.
    pub trusted_keys: Arc<[TrustedKey]>,
    /// What is logged; `None`: each verb's own default.
    pub log: Sourced<Option<String>>,
    /// How it is logged.
    pub log_format: Sourced<LogFormat>,
    /// What is asked over HTTP.
    pub admin: AdminConfig,
    /// Where compiled components are kept.
    pub cache: CacheConfig,
    /// Stack of one call of any plugin, in bytes.
    pub stack: usize,
    /// The broker.
    pub broker: BrokerOptions,
    /// Certificates that requests of plugins trust beside those of the system.
    pub http_ca: Option<PathBuf>,
    /// How long dead letters are kept, and how many.
    pub dead_letters: Retention,
    /// How long a request waits for its reply.
    pub request_timeout: Sourced<Duration>,
    /// How large a pool of clients is.
    pub client_pool: PoolOptions,
    /// How much a plugin may use that says nothing about it.
    pub limits: Limits,
    /// When its failures are tried again.
    pub retry: RetryPolicy,
    /// The plugins that have a section of their own, by name.
    pub plugins: BTreeMap<String, PluginConfig>,
    /// The breaker of `limits`, also where it is off.
    breaker: Breaker,
    /// Where everything stands, for errors about it.
    written: Written,
}

/// A valid `[plugins.NAME]`.
#[derive(Debug, Clone)]
pub struct PluginConfig {
    /// Its component; without one, the file of that name in the folder of plugins.
    pub file: Option<PathBuf>,
    /// The digest that it must have.
    pub digest: Option<String>,
    /// What it may do; its `config` and `secrets` are filled in when they are resolved.
    pub grants: Grants,
    /// What it reads as its configuration, references not yet followed.
    pub settings: Settings,
    /// Where its secrets are.
    pub secrets: Settings,
    /// How much it may use.
    pub limits: Limits,
    /// When failures are tried again.
    pub retry: RetryPolicy,
    /// How its messages are written.
    pub form: Form,
    /// The way of its messages from a network broker; without it as the broker is told.
    pub receiving: Option<Mode>,
    /// Where messages that end as dead letters go as well.
    pub dead_letter_queue: Option<QueueName>,
    /// The breaker of `limits`, also where it is off.
    breaker: Breaker,
}

/// A breaker as it is written: one that is off keeps its values, for those who turn it on again.
#[derive(Debug, Clone, Copy)]
struct Breaker {
    enabled: bool,
    policy: BreakerPolicy,
}

impl Default for Breaker {
    fn default() -> Self {
        let breaker = Limits::default().breaker;
        Self {
            enabled: breaker.is_some(),
            policy: breaker.unwrap_or_default(),
        }
    }
}

impl Breaker {
    fn applies(self) -> Option<BreakerPolicy> {
        self.enabled.then_some(self.policy)
    }
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

/// What the configuration is made of.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The file.
    pub file: FileChoice,
    /// The environment: names and values.
    pub environment: Vec<(String, String)>,
    /// Variables `SANDBAR_…` that mean something, but no key of the file.
    pub other_variables: Vec<String>,
    /// What the command line says instead of a key.
    pub flags: Flags,
}

/// Which file is read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum FileChoice {
    /// [`DEFAULT_FILE`], if it exists.
    #[default]
    Usual,
    /// This one.
    Named(PathBuf),
    /// None.
    Nothing,
}

/// Options of the command line that say the same as a key of the file.
#[derive(Debug, Clone, Default)]
pub struct Flags {
    /// Instead of `data`.
    pub data: Option<PathBuf>,
    /// Instead of `group`.
    pub group: Option<String>,
    /// Instead of `grace`.
    pub grace: Option<Duration>,
    /// Instead of `plugin_dir`.
    pub plugin_dir: Option<PathBuf>,
    /// Instead of `watch`.
    pub watch: Option<bool>,
    /// Instead of `log`.
    pub log: Option<String>,
    /// Instead of `log_format`.
    pub log_format: Option<LogFormat>,
    /// Instead of `admin.listen`.
    pub admin: Option<SocketAddr>,
}

impl Config {
    /// Reads the file, if there is one, and puts environment and options on top.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem, each with its place.
    pub fn load(options: Options) -> Result<Self, ConfigError> {
        let mut problems = Vec::new();
        let config = Self::read(options, &mut problems);
        ConfigError::unless_none(problems, config)
    }

    /// Reads this file only: no environment, no options.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_file(file: impl Into<PathBuf>) -> Result<Self, ConfigError> {
        Self::load(Options {
            file: FileChoice::Named(file.into()),
            ..Options::default()
        })
    }

    /// As [`Config::load`], with the plugins that a host serves: `files`, the folder of plugins, and every section.
    ///
    /// # Errors
    /// [`ConfigError`] with every problem of either.
    pub fn load_served(
        options: Options,
        files: &[PathBuf],
    ) -> Result<(Self, Vec<ServedPlugin>), ConfigError> {
        let mut problems = Vec::new();
        let config = Self::read(options, &mut problems);
        let served = config.collect(files, &mut problems);
        ConfigError::unless_none(problems, (config, served))
    }

    fn read(options: Options, problems: &mut Vec<Problem>) -> Self {
        let usual = Path::new(DEFAULT_FILE);
        let path = match &options.file {
            FileChoice::Named(path) => Some(path.as_path()),
            FileChoice::Usual => usual.is_file().then_some(usual),
            FileChoice::Nothing => None,
        };
        let text = path.map(std::fs::read_to_string).transpose();
        let text = text.unwrap_or_else(|error| {
            let message = format!("{error}; name a file that can be read with --config, or none");
            problems.extend(path.map(|path| problem::with_file(path, message)));
            None
        });
        let text = text.unwrap_or_default();
        let (mut written, mut tree) = Written::parse(path, &text, problems);
        let Options {
            environment,
            other_variables,
            ..
        } = &options;
        let found = environment::overrides(environment, other_variables, tree.get_ref(), problems);
        for value in found {
            written.set(&mut tree, value);
        }
        let mut file: File = written.read(tree, problems);
        written.flags = options.flags.apply(&mut file);
        valid::check(file, written, problems)
    }
}

impl Flags {
    /// Puts them into their places; returns the keys that they stand for.
    fn apply(self, file: &mut File) -> Vec<&'static str> {
        let mut said = Vec::new();
        put(&mut said, "data", &mut file.data, self.data);
        put(
            &mut said,
            "group",
            &mut file.group,
            self.group.map(text::Name),
        );
        put(&mut said, "grace", &mut file.grace, self.grace.map(Time));
        put(
            &mut said,
            "plugin_dir",
            &mut file.plugin_dir,
            self.plugin_dir,
        );
        put(&mut said, "watch", &mut file.watch, self.watch);
        put(&mut said, "log", &mut file.log, self.log.map(text::Filter));
        put(
            &mut said,
            "log_format",
            &mut file.log_format,
            self.log_format,
        );
        let admin = self.admin.map(text::Listen);
        put(&mut said, "admin.listen", &mut file.admin.listen, admin);
        said
    }
}

fn put<T>(said: &mut Vec<&'static str>, key: &'static str, place: &mut Option<T>, flag: Option<T>) {
    if flag.is_some() {
        *place = flag;
        said.push(key);
    }
}

#[cfg(test)]
mod tests;
