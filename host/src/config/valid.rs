//! From what was written to what is valid: defaults, rules between values, and one problem for each that is broken.
//!
//! Reads no file of a plugin: whether those exist is asked when they are collected.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;

use super::file::{File, LimitsSection, PluginSection, RetrySection};
use super::problem::{ConfigError, Problem, Text};
use super::{Config, Options, PluginConfig, Setting, Source, Sourced, Spans, layered};
use super::{DEFAULT_DATA, DEFAULT_GRACE, DEFAULT_PLUGIN_DIR, default_group};
use crate::plugin::{Grants, Isolation, Limits};
use crate::retry::RetryPolicy;
use crate::wire::Form;

/// Checks a file and puts the options on top.
pub(super) fn check(
    written: File,
    text: Option<Text>,
    options: Options,
) -> Result<Config, ConfigError> {
    let nothing = Text {
        file: Default::default(),
        text: String::new(),
    };
    let mut checker = Checker {
        text: text.as_ref().unwrap_or(&nothing),
        problems: Vec::new(),
    };
    let file = text.as_ref().map(|text| text.file.clone());
    let base = file
        .as_deref()
        .and_then(Path::parent)
        .unwrap_or(Path::new(""))
        .to_owned();
    let plugins = written
        .plugins
        .into_iter()
        .map(|(name, section)| {
            let plugin = checker.plugin(&base, &name, section);
            (name.into_inner(), plugin)
        })
        .collect();
    let group = written.group.map(|group| checker.group(group));
    let log = written.log.map(|log| checker.log(log));
    if !checker.problems.is_empty() {
        let mut problems = checker.problems;
        problems.sort_by_key(|problem| problem.place.as_ref().and_then(|place| place.position));
        return Err(ConfigError(problems));
    }
    let folder = Path::new(DEFAULT_PLUGIN_DIR);
    let plugin_dir = layered(
        options.plugin_dir.map(|dir| Sourced {
            value: Some(dir.value),
            source: dir.source,
        }),
        written.plugin_dir.map(|dir| Some(base.join(dir))),
        || folder.is_dir().then(|| folder.to_owned()),
    );
    Ok(Config {
        data: layered(options.data, written.data.map(|dir| base.join(dir)), || {
            DEFAULT_DATA.into()
        }),
        group: layered(options.group, group, default_group),
        grace: layered(options.grace, written.grace.map(|time| time.0), || {
            DEFAULT_GRACE
        }),
        plugin_dir,
        log: match options.log {
            Some(log) => Sourced {
                value: Some(log.value),
                source: log.source,
            },
            None => match log {
                Some(log) => Sourced {
                    value: Some(log),
                    source: Source::File,
                },
                None => Sourced {
                    value: None,
                    source: Source::Default,
                },
            },
        },
        broker: written.broker,
        plugins,
        file,
        text,
    })
}

struct Checker<'a> {
    text: &'a Text,
    problems: Vec<Problem>,
}

impl Checker<'_> {
    fn problem(&mut self, span: Range<usize>, message: impl Into<String>) {
        self.problems.push(self.text.problem(Some(span), message));
    }

    fn group(&mut self, group: Spanned<String>) -> String {
        let span = group.span();
        let group = group.into_inner();
        if let Err(error) = check_group(&group) {
            self.problem(span, error);
        }
        group
    }

    fn log(&mut self, log: Spanned<String>) -> String {
        let span = log.span();
        let log = log.into_inner();
        if let Err(error) = crate::telemetry::check_filter(&log) {
            self.problem(span, error);
        }
        log
    }

    fn plugin(
        &mut self,
        base: &Path,
        name: &Spanned<String>,
        section: PluginSection,
    ) -> PluginConfig {
        let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        let text = name.as_ref();
        if text.is_empty() || text.len() > 100 || !text.chars().all(legal) {
            let message = format!(
                "{text:?} cannot be the name of a plugin; use letters, digits, `-` and `_`"
            );
            self.problem(name.span(), message);
        }
        let later = [
            (
                "secrets",
                &section.secrets,
                "; a value in `config` may be `env:NAME` or `file:PATH`",
            ),
            ("http", &section.http, ""),
        ];
        for (key, value, instead) in later {
            if let Some(value) = value {
                let message = format!("`{key}` is not supported by this version{instead}");
                self.problem(value.span(), message);
            }
        }
        let mut spans = Spans {
            name: name.span(),
            ..Spans::default()
        };
        let digest = section.digest.map(|digest| self.digest(digest));
        spans.file = section.file.as_ref().map(Spanned::span);
        let mut settings = super::Settings::new();
        for (key, value) in section.config {
            spans.settings.insert(key.clone(), value.span());
            settings.insert(key, Setting::new(&value.into_inner().text()));
        }
        PluginConfig {
            file: section.file.map(|file| base.join(file.into_inner())),
            digest,
            grants: Grants {
                subscribe: section
                    .subscribe
                    .map(|patterns| patterns.into_iter().map(|pattern| pattern.0).collect()),
                publish: section
                    .publish
                    .into_iter()
                    .map(|pattern| pattern.0)
                    .collect(),
                request: section
                    .request
                    .into_iter()
                    .map(|pattern| pattern.0)
                    .collect(),
                state: section.state,
                config: Default::default(),
            },
            settings,
            limits: Limits {
                isolation: section.isolation.map(Isolation::from).unwrap_or_default(),
                ..self.limits(section.limits)
            },
            retry: self.retry(section.retry),
            form: section.wire.map(Form::from).unwrap_or_default(),
            spans,
        }
    }

    fn digest(&mut self, digest: Spanned<String>) -> String {
        let span = digest.span();
        let digest = digest.into_inner();
        let hexadecimal = digest.strip_prefix("sha256:").is_some_and(|hex| {
            hex.len() == 64 && hex.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'))
        });
        if !hexadecimal {
            self.problem(
                span,
                "a digest is `sha256:` and 64 hexadecimal digits in lower case; `sandbar inspect FILE` prints it",
            );
        }
        digest
    }

    fn at_least_one(&mut self, name: &str, value: Option<Spanned<u32>>, default: u32) -> u32 {
        match value {
            Some(value) if *value.as_ref() == 0 => {
                self.problem(
                    value.span(),
                    format!("`{name}` is 0; it must be at least 1"),
                );
                default
            }
            Some(value) => value.into_inner(),
            None => default,
        }
    }

    fn limits(&mut self, written: LimitsSection) -> Limits {
        let default = Limits::default();
        let bytes = |size: Option<super::Size>, default: usize| {
            size.map_or(default, |size| {
                usize::try_from(size.0).unwrap_or(usize::MAX)
            })
        };
        let number = |number: Option<u32>, default: usize| {
            number.map_or(default, |number| {
                usize::try_from(number).unwrap_or(usize::MAX)
            })
        };
        let concurrency = u32::try_from(default.concurrency).unwrap_or(1);
        let concurrency = self.at_least_one("concurrency", written.concurrency, concurrency);
        Limits {
            isolation: default.isolation,
            rate: default.rate,
            breaker: default.breaker,
            time: written.time.map_or(default.time, |time| time.0),
            load_time: written.load_time.map_or(default.load_time, |time| time.0),
            memory: bytes(written.memory, default.memory),
            concurrency: number(Some(concurrency), default.concurrency),
            content: bytes(written.content, default.content),
            headers: number(written.headers, default.headers),
            header_bytes: bytes(written.header_bytes, default.header_bytes),
            publishes: number(written.publishes, default.publishes),
            publish_bytes: bytes(written.publish_bytes, default.publish_bytes),
            log_lines: written.log_lines.unwrap_or(default.log_lines),
            log_bytes: bytes(written.log_bytes, default.log_bytes),
            state_value: bytes(written.state_value, default.state_value),
            state_writes: number(written.state_writes, default.state_writes),
            file: written.file.map_or(default.file, |size| size.0),
        }
    }

    fn retry(&mut self, written: RetrySection) -> RetryPolicy {
        let default = RetryPolicy::default();
        let multiplier = match written.multiplier {
            Some(value) if !(1.0..=1000.0).contains(value.as_ref()) => {
                let message = format!("`multiplier` is {}; it must be 1 to 1000", value.as_ref());
                self.problem(value.span(), message);
                default.multiplier
            }
            Some(value) => value.into_inner(),
            None => default.multiplier,
        };
        RetryPolicy {
            max_attempts: self.at_least_one(
                "max_attempts",
                written.max_attempts,
                default.max_attempts,
            ),
            initial: written.initial.map_or(default.initial, |time| time.0),
            multiplier,
            max: written.max.map_or(default.max, |time| time.0),
        }
    }
}

/// Whether this can be the name of a group, which is part of the names of queues.
///
/// # Errors
/// Why it cannot be the name of a group.
pub fn check_group(group: &str) -> Result<(), String> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if group.is_empty() || group.len() > 100 || !group.chars().all(legal) {
        return Err(format!(
            "{group:?} cannot be the name of a group; use letters, digits, `-` and `_`"
        ));
    }
    Ok(())
}
