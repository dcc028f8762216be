//! The effective configuration, key by key: as it would be written, and where each value came from.
//!
//! The way back from what is valid to what is written, so that everything that can be said is shown. References stay
//! references; nothing is resolved here.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::file::{
    AdminSection, BreakerSection, CacheSection, ClientSection, DefaultsSection, EngineSection,
    File, HttpSection, LettersSection, LimitsSection, PluginSection, RetrySection,
};
use super::text::{Address, Digest, Filter, HostName, Key, Listen, Name, Queue, Reference, Topic};
use super::written::Written;
use super::{Breaker, Config, PluginConfig, Setting, Size, Source, Time};
use crate::plugin::Limits;
use crate::retry::RetryPolicy;
use crate::throttle::BreakerPolicy;
use crate::topic::Pattern;

/// One key of the effective configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Shown {
    /// The way to it from the top.
    pub keys: Vec<String>,
    /// Its value as it would be written; `None` for nothing.
    pub value: Option<Value>,
    /// Where the value came from.
    pub source: Source,
    /// Whether it was said in `[defaults]`, and not of this plugin.
    pub inherited: bool,
}

impl Config {
    /// Every key with its value and its source, tables after values, in the order of the documentation.
    #[must_use]
    pub fn shown(&self) -> Vec<Shown> {
        let mut shown = entries(&File::from(self));
        for entry in &mut shown {
            (entry.source, entry.inherited) = origin(&self.written, &entry.keys);
            if let Some(Value::String(text)) = &mut entry.value {
                hide_password(text);
            }
        }
        shown
    }
}

/// Replaces the passwords of a URL.
fn hide_password(text: &mut String) {
    let Some((scheme, rest)) = text.split_once("://") else {
        return;
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let authority = match authority.rsplit_once('@') {
        Some((user, host)) => match user.split_once(':') {
            Some((user, _)) => format!("{user}:***@{host}"),
            None => authority.to_owned(),
        },
        None => authority.to_owned(),
    };
    let path = match path.split_once("password=") {
        Some((before, password)) => {
            let end = password.find('&').unwrap_or(password.len());
            format!("{before}password=***{}", password.split_at(end).1)
        }
        None => path.to_owned(),
    };
    *text = format!("{scheme}://{authority}{path}");
}

/// Every key with the value of an empty file.
pub(super) fn of_nothing() -> Vec<Shown> {
    let mut problems = Vec::new();
    let nothing = super::valid::check(File::default(), Written::default(), &mut problems);
    nothing.shown()
}

/// Every key of a plugin, under this name, with the value of an empty section. What it inherits has none, and neither
/// has `KEY` of its configuration.
pub(super) fn of_plugin(name: &str) -> Vec<Shown> {
    let mut section = PluginSection::default();
    section
        .config
        .insert("KEY".to_owned(), Setting::Plain(String::new()));
    section
        .secrets
        .insert("KEY".to_owned(), Reference(Setting::Env("NAME".to_owned())));
    let mut file = File::default();
    file.plugins.insert(Name(name.to_owned()), section);
    let mut problems = Vec::new();
    let plugin = super::valid::check(file, Written::default(), &mut problems);
    let mut shown = plugin.shown();
    shown.retain(|entry| entry.keys.first().is_some_and(|key| key == "plugins"));
    for entry in &mut shown {
        if entry.keys.len() > 3 {
            entry.value = None;
        }
    }
    shown
}

fn origin(written: &Written, keys: &[String]) -> (Source, bool) {
    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
    let own = written.source(&keys);
    match keys.as_slice() {
        ["plugins", _, table @ ("limits" | "retry" | "breaker"), key] if own == Source::Default => {
            match written.source(&["defaults", table, key]) {
                Source::Default => (own, false),
                source => (source, true),
            }
        }
        _ => (own, false),
    }
}

impl From<&Config> for File {
    fn from(config: &Config) -> Self {
        let plugins = config.plugins.iter();
        Self {
            data: Some(config.data.value.clone()),
            group: Some(Name(config.group.value.clone())),
            grace: Some(Time(config.grace.value)),
            plugin_dir: config.plugin_dir.value.clone(),
            watch: Some(config.watch.value),
            versions: Some(u32::try_from(config.versions.value).unwrap_or(u32::MAX)),
            trusted_keys: Some(config.trusted_keys.iter().cloned().map(Key).collect()),
            log: config.log.value.clone().map(Filter),
            log_format: Some(config.log_format.value),
            admin: AdminSection {
                listen: config.admin.listen.map(Listen),
                token: config.admin.token.clone().map(Reference),
                hosts: Some(config.admin.hosts.iter().cloned().map(HostName).collect()),
            },
            cache: CacheSection {
                enabled: Some(config.cache.enabled),
                dir: config.cache.dir.clone(),
                size: Some(Size(config.cache.size)),
            },
            engine: EngineSection {
                stack: Some(Size(config.stack as u64)),
            },
            broker: config.broker.clone(),
            client: ClientSection {
                timeout: Some(Time(config.request_timeout.value)),
                maxsize: Some(u32::try_from(config.client_pool.maxsize).unwrap_or(u32::MAX)),
            },
            http: HttpSection {
                ca: config.http_ca.clone(),
            },
            dead_letters: LettersSection {
                keep: Some(Time(config.dead_letters.keep)),
                most: Some(config.dead_letters.most),
            },
            defaults: DefaultsSection {
                limits: (&config.limits).into(),
                retry: (&config.retry).into(),
                breaker: config.breaker.into(),
            },
            plugins: plugins
                .map(|(name, plugin)| (Name(name.clone()), plugin.into()))
                .collect(),
        }
    }
}

impl From<&PluginConfig> for PluginSection {
    fn from(plugin: &PluginConfig) -> Self {
        let topics = |list: &[Pattern]| list.iter().cloned().map(Topic).collect();
        Self {
            file: plugin.file.clone(),
            digest: plugin.digest.clone().map(Digest),
            subscribe: plugin.grants.subscribe.as_deref().map(topics),
            publish: Some(topics(&plugin.grants.publish)),
            request: Some(topics(&plugin.grants.request)),
            state: Some(plugin.grants.state),
            http: plugin
                .grants
                .http
                .as_ref()
                .map(|list| list.iter().cloned().map(Address).collect()),
            wire: Some(plugin.form.into()),
            receiving: plugin.receiving,
            dead_letter_queue: plugin.dead_letter_queue.clone().map(Queue),
            weight: Some(plugin.limits.weight),
            isolation: Some(plugin.limits.isolation),
            config: plugin.settings.clone(),
            secrets: plugin
                .secrets
                .iter()
                .map(|(key, setting)| (key.clone(), Reference(setting.clone())))
                .collect(),
            limits: (&plugin.limits).into(),
            retry: (&plugin.retry).into(),
            breaker: plugin.breaker.into(),
        }
    }
}

impl From<&Limits> for LimitsSection {
    fn from(limits: &Limits) -> Self {
        let time = |time: Duration| Some(Time(time));
        let size = |bytes: usize| Some(Size(u64::try_from(bytes).unwrap_or(u64::MAX)));
        let number = |number: usize| Some(u32::try_from(number).unwrap_or(u32::MAX));
        Self {
            time: time(limits.time),
            load_time: time(limits.load_time),
            memory: size(limits.memory),
            table_elements: number(limits.table_elements),
            resources: number(limits.resources),
            hostcall_fuel: size(limits.hostcall_fuel),
            concurrency: number(limits.concurrency),
            rate: limits.rate,
            content: size(limits.content),
            headers: number(limits.headers),
            header_bytes: size(limits.header_bytes),
            publishes: number(limits.publishes),
            publish_bytes: size(limits.publish_bytes),
            log_lines: Some(limits.log_lines),
            log_bytes: size(limits.log_bytes),
            state_value: size(limits.state_value),
            state_writes: number(limits.state_writes),
            http_requests: number(limits.http_requests),
            http_bytes: size(limits.http_bytes),
            http_connect_time: time(limits.http_connect_time),
            state_total: Some(Size(limits.state_total)),
            file: Some(Size(limits.file)),
            compile_time: time(limits.compile_time),
            compile_memory: Some(Size(limits.compile_memory)),
        }
    }
}

impl From<Breaker> for BreakerSection {
    fn from(Breaker { enabled, policy }: Breaker) -> Self {
        let BreakerPolicy {
            failures,
            at_least,
            window,
            pause,
        } = policy;
        Self {
            enabled: Some(enabled),
            failures: Some(failures),
            at_least: Some(at_least),
            window: Some(Time(window)),
            pause: Some(Time(pause)),
        }
    }
}

impl From<&RetryPolicy> for RetrySection {
    fn from(retry: &RetryPolicy) -> Self {
        Self {
            max_attempts: Some(retry.max_attempts),
            initial: Some(Time(retry.initial)),
            multiplier: Some(retry.multiplier),
            max: Some(Time(retry.max)),
        }
    }
}

/// The keys of a file, in the order of its fields, tables after values.
fn entries(file: &File) -> Vec<Shown> {
    let mut entries = Vec::new();
    // Text can be made of every value of these types.
    if let Ok(text) = serde_json::to_string(file) {
        flatten(&text, &mut Vec::new(), &mut entries);
    }
    entries
}

fn flatten(text: &str, keys: &mut Vec<String>, entries: &mut Vec<Shown>) {
    let Ok(Fields(fields)) = serde_json::from_str(text) else {
        return;
    };
    for (key, value) in fields {
        keys.push(key);
        match value.get() {
            table if table.starts_with('{') => flatten(table, keys, entries),
            value => entries.push(Shown {
                keys: keys.clone(),
                value: serde_json::from_str(value)
                    .ok()
                    .filter(|value: &Value| !value.is_null()),
                source: Source::Default,
                inherited: false,
            }),
        }
        keys.pop();
    }
}

/// An object whose fields keep their order.
struct Fields(Vec<(String, Box<RawValue>)>);

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct InOrder;
        impl<'de> Visitor<'de> for InOrder {
            type Value = Fields;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Fields, M::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Fields(fields))
            }
        }
        from.deserialize_map(InOrder)
    }
}
