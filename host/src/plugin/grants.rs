//! What a plugin may do: deny by default, and what to write into the configuration to allow it.
//!
//! Only decides; [`crate::call::Call`] asks and reports.

use std::collections::BTreeMap;

use super::Secrets;
use crate::http::{HttpPattern, Target};
use crate::topic::{Pattern, TopicName};

/// What the operator granted to one plugin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// What it may handle; `None`: whatever its routes ask for.
    pub subscribe: Option<Vec<Pattern>>,
    /// Where it may publish; replies are always allowed.
    pub publish: Vec<Pattern>,
    /// Which topics it may ask.
    pub request: Vec<Pattern>,
    /// Whether it may keep state.
    pub state: bool,
    /// Where it may send requests over HTTP; `None`: it may not even be able to.
    pub http: Option<Vec<HttpPattern>>,
    /// What it reads as its configuration.
    pub config: BTreeMap<String, String>,
    /// What it reads beside that, and nobody else.
    pub secrets: Secrets,
}

/// What a guest reads, and what of it nobody else is to see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Readable {
    /// Everything by its name, secrets included.
    pub(crate) values: BTreeMap<String, String>,
    /// Taken out of whatever the host writes.
    pub(crate) secrets: Secrets,
}

impl Grants {
    /// Everything, for native actions, which are code of the host.
    #[must_use]
    pub fn all() -> Self {
        let all: Vec<Pattern> = ">".parse().into_iter().collect();
        Self {
            subscribe: None,
            publish: all.clone(),
            request: all,
            state: true,
            http: None,
            config: BTreeMap::new(),
            secrets: Secrets::default(),
        }
    }

    /// Whether it may publish to the topic.
    #[must_use]
    pub fn may_publish(&self, topic: &TopicName) -> bool {
        self.publish.iter().any(|pattern| pattern.matches(topic))
    }

    /// Whether it may ask the topic.
    #[must_use]
    pub fn may_request(&self, topic: &TopicName) -> bool {
        self.request.iter().any(|pattern| pattern.matches(topic))
    }

    /// Whether it may send there, and then whether a name may lead into private networks.
    #[must_use]
    pub fn may_fetch(&self, target: &Target) -> Option<bool> {
        let patterns = self.http.iter().flatten();
        let matching = patterns.filter(|pattern| pattern.matches(target));
        matching
            .map(HttpPattern::private)
            .reduce(|one, other| one || other)
    }

    /// What it reads as its configuration, secrets included.
    pub(crate) fn readable(&self) -> Readable {
        let mut values = self.config.clone();
        let secrets = self.secrets.values();
        values.extend(secrets.map(|(name, value)| (name.clone(), value.clone())));
        Readable {
            values,
            secrets: self.secrets.clone(),
        }
    }

    /// One line for people: `publish quake.alert; state`.
    #[must_use]
    pub fn summary(&self) -> String {
        let list = |patterns: &[Pattern]| {
            let names: Vec<&str> = patterns.iter().map(Pattern::as_str).collect();
            names.join(", ")
        };
        let mut parts = Vec::new();
        if !self.publish.is_empty() {
            parts.push(format!("publish {}", list(&self.publish)));
        }
        if !self.request.is_empty() {
            parts.push(format!("request {}", list(&self.request)));
        }
        if self.state {
            parts.push("state".to_owned());
        }
        if let Some(http) = self.http.as_ref().filter(|http| !http.is_empty()) {
            let patterns: Vec<String> = http.iter().map(ToString::to_string).collect();
            parts.push(format!("http {}", patterns.join(", ")));
        }
        if !self.config.is_empty() {
            let names: Vec<&str> = self.config.keys().map(String::as_str).collect();
            parts.push(format!("config {}", names.join(", ")));
        }
        if !self.secrets.is_empty() {
            let names: Vec<&str> = self.secrets.names().collect();
            parts.push(format!("secrets {}", names.join(", ")));
        }
        if parts.is_empty() {
            "nothing but replies".to_owned()
        } else {
            parts.join("; ")
        }
    }
}
