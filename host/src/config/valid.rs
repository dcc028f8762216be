//! From what was written to what is valid: defaults, rules between values, and one problem for each that is broken.
//!
//! Reads no file of a plugin: whether those exist is asked when they are collected.

use std::path::PathBuf;

use super::file::{AdminSection, CacheSection, EngineSection, File, LettersSection, PluginSection};
use super::problem::Problem;
use super::written::{Keys, Written};
use super::{AdminConfig, Breaker, CacheConfig, Config, PluginConfig, Size, Sourced};
use super::{DEFAULT_DATA, DEFAULT_GRACE, DEFAULT_PLUGIN_DIR, DEFAULT_REQUEST_TIMEOUT};
use crate::backend::{BrokerOptions, Mode};
use crate::client::PoolOptions;
use crate::control::DEFAULT_GROUP;
use crate::guest::{DEFAULT_CACHE_SIZE, DEFAULT_STACK, STACKS};
use crate::plugin::{Grants, Limits};
use crate::registry::DEFAULT_KEEP;
use crate::retry::RetryPolicy;
use crate::share::WEIGHTS;
use crate::store::Retention;

mod limits;

/// What is valid, with the default in the place of everything that is not; that is among the problems then.
pub(super) fn check(mut file: File, written: Written, problems: &mut Vec<Problem>) -> Config {
    let mut checker = Checker {
        written: &written,
        problems,
    };
    checker.broker(&file);
    let client = &file.client;
    let no_time = client.timeout.is_some_and(|time| time.0.is_zero());
    let nobody = client.maxsize == Some(0);
    checker.zero(&["client"], &[("timeout", no_time), ("maxsize", nobody)]);
    let admin = checker.admin(std::mem::take(&mut file.admin));
    let nothing = file.cache.size.is_some_and(|size| size.0 == 0);
    checker.zero(&["cache"], &[("size", nothing)]);
    let stack = checker.stack(&file.engine);
    checker.zero(&[], &[("versions", file.versions == Some(0))]);
    let ca = file.http.ca.as_ref();
    let http_ca = ca.map(|ca| written.base(&["http", "ca"]).join(ca));
    let table = ["defaults", "limits"];
    let mut limits = checker.limits(&table, file.defaults.limits, &Limits::default());
    let table = ["defaults", "breaker"];
    let breaker = checker.breaker(&table, &file.defaults.breaker, Breaker::default());
    limits.breaker = breaker.applies();
    let table = ["defaults", "retry"];
    let retry = checker.retry(&table, file.defaults.retry, &RetryPolicy::default());
    let plugins = file.plugins.into_iter().map(|(name, section)| {
        checker.receiving(&name.0, &section, &file.broker);
        let plugin = checker.plugin(&name.0, section, &limits, &retry, breaker);
        (name.0, plugin)
    });
    let plugins = plugins.collect();
    let path = |key: &str, path: Option<PathBuf>| path.map(|path| written.base(&[key]).join(path));
    let plugin_dir = path("plugin_dir", file.plugin_dir).or_else(|| {
        let usual = PathBuf::from(DEFAULT_PLUGIN_DIR);
        usual.is_dir().then_some(usual)
    });
    let data = path("data", file.data).unwrap_or_else(|| DEFAULT_DATA.into());
    let group = file
        .group
        .map_or_else(|| DEFAULT_GROUP.to_owned(), |group| group.0);
    let grace = file.grace.map_or(DEFAULT_GRACE, |time| time.0);
    let request_timeout = file
        .client
        .timeout
        .map_or(DEFAULT_REQUEST_TIMEOUT, |time| time.0);
    let maxsize = file
        .client
        .maxsize
        .and_then(|size| usize::try_from(size).ok());
    let versions = file.versions.and_then(|count| usize::try_from(count).ok());
    let versions = versions.unwrap_or(DEFAULT_KEEP);
    let client_pool = PoolOptions {
        maxsize: maxsize.unwrap_or(PoolOptions::default().maxsize),
    };
    Config {
        file: written.file().map(ToOwned::to_owned),
        data: sourced(&written, &["data"], data),
        group: sourced(&written, &["group"], group),
        grace: sourced(&written, &["grace"], grace),
        plugin_dir: sourced(&written, &["plugin_dir"], plugin_dir),
        watch: sourced(&written, &["watch"], file.watch.unwrap_or(true)),
        versions: sourced(&written, &["versions"], versions),
        trusted_keys: file
            .trusted_keys
            .unwrap_or_default()
            .into_iter()
            .map(|key| key.0)
            .collect(),
        log: sourced(&written, &["log"], file.log.map(|log| log.0)),
        log_format: sourced(
            &written,
            &["log_format"],
            file.log_format.unwrap_or_default(),
        ),
        admin,
        cache: cache(file.cache, &written),
        stack,
        broker: file.broker,
        client_pool,
        http_ca,
        dead_letters: retention(&file.dead_letters),
        request_timeout: sourced(&written, &["client", "timeout"], request_timeout),
        limits,
        retry,
        breaker,
        plugins,
        written,
    }
}

fn cache(section: CacheSection, written: &Written) -> CacheConfig {
    let dir = section.dir;
    CacheConfig {
        enabled: section.enabled.unwrap_or(true),
        dir: dir.map(|dir| written.base(&["cache", "dir"]).join(dir)),
        size: section.size.map_or(DEFAULT_CACHE_SIZE, |size| size.0),
    }
}

fn retention(written: &LettersSection) -> Retention {
    let default = Retention::default();
    Retention {
        keep: written.keep.map_or(default.keep, |time| time.0),
        most: written.most.unwrap_or(default.most),
    }
}

fn sourced<T>(written: &Written, keys: &Keys<'_>, value: T) -> Sourced<T> {
    Sourced {
        value,
        source: written.source(keys),
    }
}

struct Checker<'a> {
    written: &'a Written,
    problems: &'a mut Vec<Problem>,
}

impl Checker<'_> {
    fn problem(&mut self, table: &Keys<'_>, key: &str, message: impl Into<String>) {
        let keys = [table, &[key]].concat();
        self.problems.push(self.written.problem(&keys, message));
    }

    /// These must be more than nothing.
    fn zero(&mut self, table: &Keys<'_>, keys: &[(&str, bool)]) {
        for (key, _) in keys.iter().filter(|(_, zero)| *zero) {
            self.problem(
                table,
                key,
                format!("`{key}` is 0; it must be more than that"),
            );
        }
    }

    /// The first value may not be larger than the second. The one that is said here is to blame.
    fn order(&mut self, table: &Keys<'_>, [small, large]: [(&str, String); 2]) {
        let message = format!(
            "`{}` is {} and `{}` only {}; lower the one or raise the other",
            small.0, small.1, large.0, large.1
        );
        let written = self.written.is_written(&[table, &[small.0]].concat());
        self.problem(table, if written { small.0 } else { large.0 }, message);
    }

    /// What others could reach must not answer everybody.
    fn admin(&mut self, section: AdminSection) -> AdminConfig {
        let admin = AdminConfig {
            listen: section.listen.map(|listen| listen.0),
            token: section.token.map(|token| token.0),
            hosts: section
                .hosts
                .into_iter()
                .flatten()
                .map(|host| host.0)
                .collect(),
        };
        if let Some(listen) = admin.listen.filter(|listen| !listen.ip().is_loopback())
            && admin.token.is_none()
        {
            let message = format!(
                "`listen` is {listen}, which other machines may reach, and there is no `token`; listen on 127.0.0.1:{}, or write `token = \"env:NAME\"` under [admin] with a variable that holds it",
                listen.port()
            );
            self.problem(&["admin"], "listen", message);
        }
        admin
    }

    fn stack(&mut self, section: &EngineSection) -> usize {
        let Some(size) = section.stack else {
            return DEFAULT_STACK;
        };
        let bytes = usize::try_from(size.0).unwrap_or(usize::MAX);
        if STACKS.contains(&bytes) {
            return bytes;
        }
        let [least, most] = [STACKS.start(), STACKS.end()].map(|bytes| Size(*bytes as u64));
        let message = format!("`stack` is {size}; it must be {least} to {most}");
        self.problem(&["engine"], "stack", message);
        DEFAULT_STACK
    }

    fn broker(&mut self, file: &File) {
        let kind = file.broker.kind.as_str();
        for (key, message) in file.broker.problems() {
            let table = ["broker", kind];
            if self.written.is_written(&["broker", kind, key]) {
                self.problem(&table, key, message);
            } else {
                self.problem(&["broker"], kind, message);
            }
        }
    }

    /// A broker that ends messages together with what they cause has one way for them.
    fn receiving(&mut self, name: &str, section: &PluginSection, broker: &BrokerOptions) {
        if section.receiving == Some(Mode::Queued) && !broker.has_modes() {
            let kind = broker.kind.as_str();
            let message = format!(
                "`receiving` is `queued`, and broker `{kind}` ends messages in one transaction with what they cause anyhow; leave it out"
            );
            self.problem(&["plugins", name], "receiving", message);
        }
    }

    fn plugin(
        &mut self,
        name: &str,
        section: PluginSection,
        limits: &Limits,
        retry: &RetryPolicy,
        breaker: Breaker,
    ) -> PluginConfig {
        let table = ["plugins", name];
        let breaker = self.breaker(&["plugins", name, "breaker"], &section.breaker, breaker);
        if section.subscribe.as_deref().is_some_and(<[_]>::is_empty) {
            let message = "`subscribe` is empty, so the plugin would never be called; name topics, or leave it out";
            self.problem(&table, "subscribe", message);
        }
        if let Some(weight) = section.weight.filter(|weight| !WEIGHTS.contains(weight)) {
            let [least, most] = [WEIGHTS.start(), WEIGHTS.end()];
            let message = format!("`weight` is {weight}; it must be {least} to {most}");
            self.problem(&table, "weight", message);
        }
        let secrets = &["plugins", name, "secrets"];
        for key in section.secrets.keys() {
            if section.config.contains_key(key) {
                let message =
                    format!("`{key}` is in `config` as well; give one of them another name");
                self.problem(secrets, key, message);
            }
        }
        let base = self.written.base(&["plugins", name, "file"]);
        let topics =
            |list: Vec<super::text::Topic>| list.into_iter().map(|topic| topic.0).collect();
        PluginConfig {
            file: section.file.map(|file| base.join(file)),
            digest: section.digest.map(|digest| digest.0),
            grants: Grants {
                subscribe: section.subscribe.map(topics),
                publish: section.publish.map(topics).unwrap_or_default(),
                request: section.request.map(topics).unwrap_or_default(),
                state: section.state.unwrap_or_default(),
                http: section
                    .http
                    .map(|list| list.into_iter().map(|address| address.0).collect()),
                config: Default::default(),
                secrets: Default::default(),
            },
            settings: section.config,
            secrets: section
                .secrets
                .into_iter()
                .map(|(key, reference)| (key, reference.0))
                .collect(),
            form: section.wire.map(Into::into).unwrap_or_default(),
            receiving: section.receiving,
            dead_letter_queue: section.dead_letter_queue.map(|queue| queue.0),
            limits: Limits {
                weight: section.weight.unwrap_or(limits.weight),
                isolation: section.isolation.unwrap_or(limits.isolation),
                breaker: breaker.applies(),
                ..self.limits(&["plugins", name, "limits"], section.limits, limits)
            },
            retry: self.retry(&["plugins", name, "retry"], section.retry, retry),
            breaker,
        }
    }
}
