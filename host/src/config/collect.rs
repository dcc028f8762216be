//! Which plugins a host serves: files that were named, a folder of them, and sections of the configuration.
//!
//! A section gives its grants to the file of its name, wherever that comes from. No component is opened here; that a
//! file exists is all that is checked of it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::environment::same_name;
use super::problem::{self, nearest};
use super::{Config, ConfigError, PluginConfig, Problem, Source};
use crate::control::ServedPlugin;
use crate::http::certificates;
use crate::plugin::{PluginSpec, Secrets};
use crate::registry;
use crate::value::Settings;

/// A plugin and what is said about it.
struct Candidate<'a> {
    name: String,
    file: PathBuf,
    section: Option<&'a PluginConfig>,
}

impl Config {
    /// The plugins to serve: `files`, the folder of plugins, and every section.
    ///
    /// # Errors
    /// [`ConfigError`] with every file that is missing, every name that stands for two files, and every reference
    /// that leads nowhere.
    pub fn served(&self, files: &[PathBuf]) -> Result<Vec<ServedPlugin>, ConfigError> {
        let mut problems = Vec::new();
        let served = self.collect(files, &mut problems);
        ConfigError::unless_none(problems, served)
    }

    pub(super) fn collect(
        &self,
        files: &[PathBuf],
        problems: &mut Vec<Problem>,
    ) -> Vec<ServedPlugin> {
        if let Some(Err(error)) = self.http_ca.as_deref().map(certificates) {
            problems.push(self.written.problem(&["http", "ca"], error));
        }
        let mut candidates = self.files(files, problems);
        self.sections(&mut candidates, problems);
        same_names(&candidates, problems);
        let served = candidates.into_iter();
        served
            .map(|candidate| self.serve(candidate, problems))
            .collect()
    }

    /// The same for a host that runs: what is wrong with one plugin keeps no other from being served. A plugin whose file is
    /// gone is in neither list; one that cannot be served as it is described now is in the second one, with the reasons.
    pub(crate) fn served_now(
        &self,
        files: &[PathBuf],
    ) -> (Vec<ServedPlugin>, Vec<(String, ConfigError)>) {
        // A file that is gone is no mistake here, and a folder that is gone has no files.
        let mut missing = Vec::new();
        let mut candidates = self.files(files, &mut missing);
        self.sections(&mut candidates, &mut missing);
        let mut names = BTreeMap::new();
        for candidate in &candidates {
            let files: &mut Vec<&Path> = names.entry(candidate.name.clone()).or_default();
            files.push(&candidate.file);
        }
        let mut wrong = Vec::new();
        let twice = |files: &&Vec<&Path>| files.len() > 1;
        for (name, files) in names.iter().filter(|(_, files)| twice(files)) {
            let problems = files.windows(2).filter_map(|pair| match pair {
                [first, second] => Some(two_of_a_name(name, first, second)),
                _ => None,
            });
            wrong.push((name.clone(), ConfigError(problems.collect())));
        }
        let once =
            |candidate: &Candidate<'_>| !wrong.iter().any(|(name, _)| *name == candidate.name);
        let (candidates, _): (Vec<_>, Vec<_>) = candidates.into_iter().partition(once);
        let mut served = Vec::new();
        for candidate in candidates {
            let (name, mut problems) = (candidate.name.clone(), Vec::new());
            let plugin = self.serve(candidate, &mut problems);
            match ConfigError::unless_none(problems, plugin) {
                Ok(plugin) => served.push(plugin),
                Err(problems) => wrong.push((name, problems)),
            }
        }
        (served, wrong)
    }

    /// Only the files that were named, each with the section that names it or has its name.
    ///
    /// # Errors
    /// As [`Config::served`].
    pub fn served_only(&self, files: &[PathBuf]) -> Result<Vec<ServedPlugin>, ConfigError> {
        let mut problems = Vec::new();
        let mut served = Vec::with_capacity(files.len());
        for file in files {
            let claims = |section: &PluginConfig| {
                section
                    .file
                    .as_deref()
                    .is_some_and(|claimed| same_file(claimed, file))
            };
            let claimed = self.plugins.iter().find(|(_, section)| claims(section));
            let own = PluginSpec::from_file(file).name;
            let (name, section) = match claimed {
                Some((name, section)) => (name.clone(), Some(section)),
                None => (own.clone(), self.section(&own).map(|(_, section)| section)),
            };
            let file = file.clone();
            let candidate = Candidate {
                name,
                file,
                section,
            };
            served.push(self.serve(candidate, &mut problems));
        }
        ConfigError::unless_none(problems, served)
    }

    /// A file in the place of the plugin of that name, with its section.
    ///
    /// # Errors
    /// As [`Config::served`].
    pub fn served_as(&self, name: &str, file: &Path) -> Result<ServedPlugin, ConfigError> {
        let mut problems = Vec::new();
        let candidate = Candidate {
            name: name.to_owned(),
            file: file.to_owned(),
            section: self.section(name).map(|(_, section)| section),
        };
        let served = self.serve(candidate, &mut problems);
        ConfigError::unless_none(problems, served)
    }

    /// What is said of the plugin of this name. The environment cannot write every name, so those that only stand
    /// there are compared as it does.
    fn section(&self, name: &str) -> Option<(&str, &PluginConfig)> {
        let means = |section: &str| {
            same_name(section, name) && self.written.source(&["plugins", section]) == Source::Env
        };
        let found = self.plugins.get_key_value(name);
        let found = found.or_else(|| self.plugins.iter().find(|(section, _)| means(section)));
        found.map(|(name, section)| (name.as_str(), section))
    }

    fn files(&self, files: &[PathBuf], problems: &mut Vec<Problem>) -> Vec<Candidate<'_>> {
        let mut found: Vec<PathBuf> = Vec::new();
        for file in files {
            match std::fs::metadata(file) {
                Err(error) => problems.push(problem::with_file(file, error.to_string())),
                Ok(about) if about.is_dir() => problems.push(problem::with_file(
                    file,
                    "is a folder; name its files, or the folder with `--plugins`",
                )),
                Ok(_) => found.push(file.clone()),
            }
        }
        let mut known: HashSet<PathBuf> = found.iter().map(|file| identity(file)).collect();
        if let Some(dir) = &self.plugin_dir.value {
            match wasm_files(dir) {
                Ok(files) => found.extend(
                    files
                        .into_iter()
                        .filter(|file| known.insert(identity(file))),
                ),
                Err(error) => {
                    let message = format!("{error}; `--plugins` names a folder of .wasm files");
                    problems.push(problem::with_file(dir, message));
                }
            }
        }
        // A section that names the file itself decides what that file is called.
        let sections = self.plugins.values();
        let claims = sections.filter_map(|plugin| plugin.file.as_deref().map(identity));
        let claims: HashSet<PathBuf> = claims.collect();
        let claimed = |file: &Path| !claims.is_empty() && claims.contains(&identity(file));
        let free = found.into_iter().filter(|file| !claimed(file));
        free.map(|file| {
            let name = PluginSpec::from_file(&file).name;
            // A section with a file of its own is another plugin, and its name then stands for two files.
            let section = self.section(&name).map(|(_, section)| section);
            let section = section.filter(|section| section.file.is_none());
            Candidate {
                name,
                file,
                section,
            }
        })
        .collect()
    }

    fn sections<'a>(&'a self, candidates: &mut Vec<Candidate<'a>>, problems: &mut Vec<Problem>) {
        let about = |candidate: &Candidate<'_>| Some(self.section(&candidate.name)?.0.to_owned());
        let mut spoken_of: HashSet<String> = candidates.iter().filter_map(about).collect();
        for (name, section) in &self.plugins {
            match &section.file {
                Some(file) if file.is_file() => {
                    spoken_of.insert(name.clone());
                    let (name, file) = (name.clone(), file.clone());
                    candidates.push(Candidate {
                        name,
                        file,
                        section: Some(section),
                    });
                    continue;
                }
                Some(file) => {
                    let message = format!(
                        "plugin `{name}`: there is no file `{}`; build it, or correct `file`",
                        file.display()
                    );
                    problems.push(self.written.problem(&["plugins", name, "file"], message));
                }
                None if spoken_of.contains(name) => continue,
                // It is refused where it stands.
                None if self.written.is_written(&["plugins", name, "file"]) => {}
                // An operator has deployed one.
                None if registry::is_deployed(&self.data.value, name) => {}
                None => {
                    let known = candidates.iter().map(|candidate| candidate.name.as_str());
                    let hint = match nearest(name, known) {
                        Some(near) => format!("did you mean `{near}`?"),
                        None => {
                            format!("set `file`, or put {name}.wasm into the folder of plugins")
                        }
                    };
                    let message = format!("there is no file for plugin `{name}`; {hint}");
                    problems.push(self.written.key_problem(&["plugins", name], message));
                }
            }
            // Nothing will be served, and yet everything that is wrong is said.
            drop(self.resolve(name, section, problems));
        }
    }

    fn serve(&self, candidate: Candidate<'_>, problems: &mut Vec<Problem>) -> ServedPlugin {
        let mut spec = PluginSpec::from_file(&candidate.file);
        spec.name = candidate.name;
        spec.trusted = self.trusted_keys.clone();
        let mut served = ServedPlugin::new(spec);
        let Some(section) = candidate.section else {
            served.spec.limits = self.limits.clone();
            served.retry = self.retry.clone();
            return served;
        };
        let name = self.section(&served.spec.name).map_or("", |(name, _)| name);
        served.spec.digest.clone_from(&section.digest);
        served.spec.grants = section.grants.clone();
        served.spec.limits = section.limits.clone();
        served.retry = section.retry.clone();
        served.form = section.form;
        served.receiving = section.receiving;
        served
            .dead_letter_queue
            .clone_from(&section.dead_letter_queue);
        let grants = &mut served.spec.grants;
        (grants.config, grants.secrets) = self.resolve(name, section, problems);
        served
    }

    /// What the settings and secrets of a plugin stand for, without those that lead nowhere.
    fn resolve(
        &self,
        name: &str,
        section: &PluginConfig,
        problems: &mut Vec<Problem>,
    ) -> (BTreeMap<String, String>, Secrets) {
        let config = self.resolved(name, "config", &section.settings, problems);
        let secrets = self.resolved(name, "secrets", &section.secrets, problems);
        for (key, value) in &secrets {
            if value.len() < Secrets::SHORTEST {
                let message = format!(
                    "plugin `{name}`, secret `{key}`: it has fewer than {} bytes, which stand everywhere by chance; use a longer one",
                    Secrets::SHORTEST
                );
                let keys = ["plugins", name, "secrets", key];
                problems.push(self.written.problem(&keys, message));
            }
        }
        (config, Secrets::new(secrets))
    }

    fn resolved(
        &self,
        name: &str,
        table: &str,
        settings: &Settings,
        problems: &mut Vec<Problem>,
    ) -> BTreeMap<String, String> {
        let mut resolved = BTreeMap::new();
        for (key, setting) in settings {
            let keys = ["plugins", name, table, key];
            match setting.resolve(&self.written.base(&keys)) {
                Ok(value) => {
                    resolved.insert(key.clone(), value);
                }
                Err(error) => {
                    let message = format!("plugin `{name}`, `{key}`: {error}");
                    problems.push(self.written.problem(&keys, message));
                }
            }
        }
        resolved
    }
}

fn same_names(candidates: &[Candidate<'_>], problems: &mut Vec<Problem>) {
    let mut first_of: HashMap<&str, &Path> = HashMap::with_capacity(candidates.len());
    for second in candidates {
        match first_of.entry(&second.name) {
            Entry::Occupied(first) => {
                problems.push(two_of_a_name(&second.name, first.get(), &second.file));
            }
            Entry::Vacant(place) => {
                place.insert(&second.file);
            }
        }
    }
}

fn two_of_a_name(name: &str, first: &Path, second: &Path) -> Problem {
    problem::with_option(format!(
        "two plugins are named `{name}`: {} and {}; rename one of the files, or give one another name in the configuration",
        first.display(),
        second.display()
    ))
}

fn same_file(a: &Path, b: &Path) -> bool {
    a == b || identity(a) == identity(b)
}

/// What is the same for all paths of a file.
fn identity(file: &Path) -> PathBuf {
    file.canonicalize().unwrap_or_else(|_| file.to_owned())
}

fn wasm_files(dir: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "wasm")
            && path.is_file()
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
