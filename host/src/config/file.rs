//! `sandbar.toml` as it is written: every key that there is, with its type.
//!
//! The comments of the fields are the documentation of the keys. A value that is left out stays `None`; defaults and
//! everything that needs more than one value to decide are in [`super::valid`].

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::text::{Address, Digest, Filter, HostName, Key, Listen, Name, Queue, Reference, Topic};
use super::{Settings, Size, Time};
use crate::backend::{BrokerOptions, Mode};
use crate::plugin::Isolation;
use crate::telemetry::LogFormat;
use crate::wire::Form;

/// The configuration of a Sandbar host. None of it is needed.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct File {
    /// The folder of brokers that keep their messages on this machine, and of the socket through which the command
    /// line reaches a running host.
    #[schemars(extend("x-type" = "path"))]
    pub(super) data: Option<PathBuf>,
    /// Hosts of one group share the messages; part of the names of queues.
    pub(super) group: Option<Name>,
    /// How long stopping waits for what is being handled.
    pub(super) grace: Option<Time>,
    /// A folder whose .wasm files are served; without it `plugins`, if there is such a folder.
    #[schemars(extend("x-type" = "path"))]
    pub(super) plugin_dir: Option<PathBuf>,
    /// Whether files that change are served at once: plugins, this file, and what it names.
    pub(super) watch: Option<bool>,
    /// How many versions of each plugin are kept in the data folder, to go back to.
    #[schemars(range(min = 1), extend("x-unit" = "versions"))]
    pub(super) versions: Option<u32>,
    /// Public keys in the format of minisign. If there is one, a component is loaded only with the signature of one of them
    /// beside it, `NAME.wasm.minisig`.
    pub(super) trusted_keys: Option<Vec<Key>>,
    /// What to log on standard error: error, warn, info, debug, trace, or a filter such as `warn,sandbar=debug`;
    /// without it info for `run` and warn for the other verbs.
    pub(super) log: Option<Filter>,
    /// How to log it.
    pub(super) log_format: Option<LogFormat>,
    pub(super) admin: AdminSection,
    pub(super) cache: CacheSection,
    pub(super) engine: EngineSection,
    pub(super) broker: BrokerOptions,
    pub(super) client: ClientSection,
    pub(super) http: HttpSection,
    pub(super) dead_letters: LettersSection,
    pub(super) defaults: DefaultsSection,
    /// The plugins, by name. A plugin without a table of its own has the defaults and no grants.
    pub(super) plugins: BTreeMap<Name, PluginSection>,
}

/// What the tools of operators ask over HTTP: `/livez`, `/readyz` and `/metrics`. Off unless `listen` is set.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct AdminSection {
    /// Where a host listens. An address that other machines reach needs a `token`.
    pub(super) listen: Option<Listen>,
    /// Who asks has to know it, and sends it as `Authorization: Bearer`.
    pub(super) token: Option<Reference>,
    /// Names by which it is asked, beside the address that it listens on and the names of this machine to itself; others are
    /// refused, since a page in somebody's browser may use them.
    pub(super) hosts: Option<Vec<HostName>>,
}

/// Compiled components, kept so that the next start does not compile them again.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct CacheSection {
    /// Whether they are kept at all.
    pub(super) enabled: Option<bool>,
    /// A folder of its own for them, private to the user that the host runs as; without it `cache` in the data folder, and
    /// where there is no data folder `sandbar` in the user's cache folder.
    #[schemars(extend("x-type" = "path"))]
    pub(super) dir: Option<PathBuf>,
    /// All of them together; what was used longest ago goes first.
    pub(super) size: Option<Size>,
}

/// The engine that runs all plugins; a change of it takes a start of the host.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct EngineSection {
    /// Stack of one call, the same for all plugins: 64KiB to 4MiB.
    pub(super) stack: Option<Size>,
}

/// Who asks for replies from outside of a plugin.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ClientSection {
    /// How long `sandbar request` waits for the reply.
    pub(super) timeout: Option<Time>,
    /// How many clients a pool of them has at most, in programs that use the library; more callers wait.
    #[schemars(range(min = 1), extend("x-unit" = "clients"))]
    pub(super) maxsize: Option<u32>,
}

/// What plugins send over HTTP, where that is granted.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct HttpSection {
    /// A file with certificates in PEM: who signed those of servers, if the system doesn't know it.
    #[schemars(extend("x-type" = "path"))]
    pub(super) ca: Option<PathBuf>,
}

/// How long messages are kept that could not be handled.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LettersSection {
    /// Older ones are removed by the host.
    pub(super) keep: Option<Time>,
    /// Of more than these the oldest are removed, a hundredth late at most.
    #[schemars(extend("x-unit" = "messages"))]
    pub(super) most: Option<u64>,
}

/// What applies to every plugin that does not say otherwise.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct DefaultsSection {
    pub(super) limits: LimitsSection,
    pub(super) retry: RetrySection,
    pub(super) breaker: BreakerSection,
}

/// One plugin: where it is, what it may do, how much of it.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct PluginSection {
    /// Its component; without it the file of that name in the folder of plugins.
    #[schemars(extend("x-type" = "path"))]
    pub(super) file: Option<PathBuf>,
    /// The digest that the component must have; `sandbar inspect FILE` prints it.
    pub(super) digest: Option<Digest>,
    /// What it may handle; without it whatever its routes ask for.
    #[schemars(length(min = 1))]
    pub(super) subscribe: Option<Vec<Topic>>,
    /// Where it may publish; replies are always allowed.
    pub(super) publish: Option<Vec<Topic>>,
    /// Which topics it may ask for a reply.
    pub(super) request: Option<Vec<Topic>>,
    /// Whether it may keep state.
    pub(super) state: Option<bool>,
    /// Where it may send requests over HTTP: `https://api.example.com/v1/*`, with `*.` for one part of a name. A name that
    /// leads into a private network is refused unless `private+` stands before it. An empty list lets a component be able to
    /// that never does.
    pub(super) http: Option<Vec<Address>>,
    /// How the messages in its queue are written: as Sandbar writes them, or as one JSON object each.
    pub(super) wire: Option<Wire>,
    /// The way of its messages from a network broker: straight, or through the store of the host; without it as the
    /// broker is told.
    pub(super) receiving: Option<Mode>,
    /// A queue that gets a copy of each message that ends as a dead letter.
    pub(super) dead_letter_queue: Option<Queue>,
    /// How much of a host that is busy it gets, compared with its neighbours: one of weight 10 is handled ten times as long as
    /// one of weight 1 while both have a backlog.
    #[schemars(range(min = 1, max = 10))]
    pub(super) weight: Option<u32>,
    /// Whether messages share an instance of the component.
    pub(super) isolation: Option<Isolation>,
    /// What it reads as its configuration. `env:NAME` stands for an environment variable and `file:PATH` for the
    /// content of a file; only the reference is ever shown.
    pub(super) config: Settings,
    /// Secrets that it reads by their names, beside `config`: each is `env:NAME` or `file:PATH`. The host takes their values
    /// out of whatever it writes about the plugin.
    pub(super) secrets: BTreeMap<String, Reference>,
    pub(super) limits: LimitsSection,
    pub(super) retry: RetrySection,
    pub(super) breaker: BreakerSection,
}

/// How much one call of a plugin may use.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct LimitsSection {
    /// Wall time of one call.
    pub(super) time: Option<Time>,
    /// Wall time of instantiation and of asking for the routes, at load.
    pub(super) load_time: Option<Time>,
    /// Linear memory of one instance.
    pub(super) memory: Option<Size>,
    /// Elements of all tables of one instance; a table holds the functions that are called through pointers.
    #[schemars(range(max = 100_000), extend("x-unit" = "elements"))]
    pub(super) table_elements: Option<u32>,
    /// Handles of resources that one instance holds at once, those of WASI for example.
    #[schemars(extend("x-unit" = "handles"))]
    pub(super) resources: Option<u32>,
    /// What one call to the host, or one reply, may bring with it: a message, a value, a line of the log.
    pub(super) hostcall_fuel: Option<Size>,
    /// Calls at once.
    #[schemars(range(min = 1), extend("x-unit" = "calls"))]
    pub(super) concurrency: Option<u32>,
    /// Messages that it gets at most; without it as many as it can handle.
    #[schemars(range(min = 1), extend("x-unit" = "messages per second"))]
    pub(super) rate: Option<u32>,
    /// Content of one message, in and out.
    #[schemars(extend("examples" = ["1MiB"]))]
    pub(super) content: Option<Size>,
    /// Headers of one message.
    #[schemars(extend("x-unit" = "headers"))]
    pub(super) headers: Option<u32>,
    /// Names and values of the headers of one message together.
    #[schemars(extend("examples" = ["1MiB"]))]
    pub(super) header_bytes: Option<Size>,
    /// Messages published by one call.
    #[schemars(extend("x-unit" = "messages"))]
    pub(super) publishes: Option<u32>,
    /// Content and headers of all messages published by one call.
    pub(super) publish_bytes: Option<Size>,
    /// Lines logged by one call.
    #[schemars(extend("x-unit" = "lines"))]
    pub(super) log_lines: Option<u32>,
    /// Text logged by one call.
    pub(super) log_bytes: Option<Size>,
    /// One value in the state.
    #[schemars(extend("examples" = ["1MiB"]))]
    pub(super) state_value: Option<Size>,
    /// Keys of the state written by one call.
    #[schemars(extend("x-unit" = "keys"))]
    pub(super) state_writes: Option<u32>,
    /// Requests sent over HTTP by one call.
    #[schemars(extend("x-unit" = "requests"))]
    pub(super) http_requests: Option<u32>,
    /// All requests and responses of one call over HTTP together, heads and bodies.
    pub(super) http_bytes: Option<Size>,
    /// How long a connection over HTTP may take to be made: the name, the connection, TLS.
    pub(super) http_connect_time: Option<Time>,
    /// All keys and values of the plugin.
    pub(super) state_total: Option<Size>,
    /// The component file.
    pub(super) file: Option<Size>,
    /// Wall time of compiling it; nothing is compiled when it is in the cache.
    pub(super) compile_time: Option<Time>,
    /// Memory that compiling it may take, as estimated beforehand.
    pub(super) compile_memory: Option<Size>,
}

/// When a message that could not be handled is tried again: exponential back-off with full jitter.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct RetrySection {
    /// Attempts in all, the first one included; then the message is kept as a dead letter.
    #[schemars(range(min = 1), extend("x-unit" = "attempts"))]
    pub(super) max_attempts: Option<u32>,
    /// The upper bound of the first delay.
    pub(super) initial: Option<Time>,
    /// How the bound grows from attempt to attempt.
    #[schemars(range(min = 1.0, max = 1000.0))]
    pub(super) multiplier: Option<f64>,
    /// No bound grows beyond this.
    pub(super) max: Option<Time>,
}

/// When a plugin gets nothing for a while because it keeps failing, so that an outage does not use up the attempts of all
/// that waits.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(super) struct BreakerSection {
    /// Whether it is paused at all.
    pub(super) enabled: Option<bool>,
    /// The share of calls that fail at which it is paused: above 0, at most 1.
    #[schemars(range(max = 1.0), extend("exclusiveMinimum" = 0.0))]
    pub(super) failures: Option<f64>,
    /// Fewer calls than this within the window say nothing.
    #[schemars(range(min = 1), extend("x-unit" = "calls"))]
    pub(super) at_least: Option<u32>,
    /// How far back calls count.
    pub(super) window: Option<Time>,
    /// How long it gets nothing; then one message is tried.
    pub(super) pause: Option<Time>,
}

/// How messages in the plugin's queue are written.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Wire {
    Native,
    Json,
}

impl From<Wire> for Form {
    fn from(wire: Wire) -> Self {
        match wire {
            Wire::Native => Self::Native,
            Wire::Json => Self::Json,
        }
    }
}

impl From<Form> for Wire {
    fn from(form: Form) -> Self {
        match form {
            Form::Native => Self::Native,
            Form::Json => Self::Json,
        }
    }
}
