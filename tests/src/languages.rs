//! The example plugins in other languages as components, built by the tests themselves with the tools that these languages
//! have: componentize-py for Python, componentize-qjs for TypeScript.
//!
//! Tools of pinned versions and what they build are kept below the target folder, by the digest of what they were made of.
//! Python and Node themselves are not installed here. What is missing is said loudly, and is an error where `CI` is set.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

use sandbar::guest::digest;

use crate::guests;
use crate::servers::skipped;

/// A language that is not compiled to WebAssembly, but brings its interpreter along.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Language {
    /// CPython.
    Python,
    /// JavaScript with types, on QuickJS.
    TypeScript,
}

/// The plugins that there are in each of them.
pub const PLUGINS: [&str; 3] = ["echo", "misbehave", "quakes"];

impl Language {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Python, Self::TypeScript];

    /// The name of its folder below `plugins/`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Python => "python",
            Self::TypeScript => "typescript",
        }
    }

    /// The component of a plugin, such as `echo`, in this language. `None` where its tools are missing, which has been said
    /// then.
    ///
    /// # Panics
    /// When it cannot be built; what the tools said is printed.
    #[must_use]
    pub fn guest(self, name: &str) -> Option<PathBuf> {
        type Built = BTreeMap<(Language, String), Option<PathBuf>>;
        static BUILT: Mutex<Built> = Mutex::new(BTreeMap::new());
        let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (self, name.to_owned());
        if let Some(known) = built.get(&key) {
            return known.clone();
        }
        let found = self.build(name);
        built.insert(key, found.clone());
        found
    }

    fn build(self, name: &str) -> Option<PathBuf> {
        let folder = guests::target().join("languages").join(self.name());
        fs::create_dir_all(&folder).expect("the target folder can be written");
        // One process at a time; the others find what it built.
        let lock = File::create(folder.join("lock")).expect("the target folder can be written");
        lock.lock().expect("files can be locked");
        let tools = match self.tools(&folder) {
            Ok(tools) => tools,
            Err(error) => {
                skipped(&format!(
                    "plugins in {} cannot be built: {error}",
                    self.name()
                ));
                return None;
            }
        };
        let made_of = [
            read(&tools.join("digest")),
            content(&self.sources(name)),
            content(&wit()),
        ];
        let stamp = short(&made_of.concat());
        let file = folder
            .join(format!("{name}-{stamp}"))
            .join(format!("{name}.wasm"));
        if !file.is_file() {
            remove_older(&folder, name);
            let unfinished = folder.join(format!("unfinished-{name}"));
            remove(&unfinished);
            copy(&self.sources(name), &unfinished.join(name));
            let component = unfinished.join(format!("{name}.wasm"));
            match self {
                Self::Python => python(&tools, &unfinished, name, &component),
                Self::TypeScript => typescript(&tools, &unfinished, name, &component),
            }
            assert!(component.is_file(), "{} makes {name}", self.name());
            // There is either all of it or nothing, even if the power fails.
            fs::rename(&unfinished, file.parent().expect("it has one")).expect("it is ours");
        }
        Some(file)
    }

    fn root(self) -> PathBuf {
        repository().join("plugins").join(self.name())
    }

    fn sources(self, name: &str) -> PathBuf {
        let sources = self.root().join(name);
        assert!(sources.is_dir(), "there is no {}", sources.display());
        sources
    }

    /// A folder with the tools, installed by the ordinary client of their registry if they are not there yet.
    fn tools(self, folder: &Path) -> Result<PathBuf, String> {
        static FAILED: OnceLock<Mutex<BTreeMap<Language, String>>> = OnceLock::new();
        let failed = FAILED.get_or_init(Mutex::default);
        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = failed.get(&self) {
            return Err(error.clone());
        }
        let lists: &[&str] = match self {
            Self::Python => &["requirements.txt"],
            Self::TypeScript => &[
                "package.json",
                "package-lock.json",
                "tsconfig.json",
                "sandbar.d.ts",
            ],
        };
        let root = self.root();
        let listed: Vec<u8> = lists
            .iter()
            .flat_map(|list| read(&root.join(list)))
            .collect();
        let tools = folder.join(format!("tools-{}", short(&listed)));
        if tools.join("digest").is_file() {
            return Ok(tools);
        }
        remove_older(folder, "tools");
        fs::create_dir_all(&tools).expect("the target folder can be written");
        for list in lists {
            fs::copy(root.join(list), tools.join(list)).expect("the target folder can be written");
        }
        let installed = match self {
            Self::Python => install_python(&tools),
            Self::TypeScript => install_typescript(&tools),
        };
        match installed {
            // Written last: what was interrupted is begun again.
            Ok(()) => fs::write(tools.join("digest"), digest(&listed)).expect("it can be written"),
            Err(error) => {
                failed.insert(self, error.clone());
                return Err(error);
            }
        }
        Ok(tools)
    }
}

fn install_python(tools: &Path) -> Result<(), String> {
    let needs = "install the packages python3 and python3-venv";
    run(
        Command::new("python3")
            .args(["-m", "venv"])
            .arg(tools.join("venv")),
        needs,
    )?;
    let mut pip = Command::new(tools.join("venv/bin/python"));
    pip.args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "--no-input",
    ]);
    pip.args([
        "--require-hashes",
        "--only-binary=:all:",
        "-r",
        "requirements.txt",
    ])
    .current_dir(tools);
    run(&mut pip, "pip needs its registry once")
}

fn install_typescript(tools: &Path) -> Result<(), String> {
    let mut npm = Command::new("npm");
    // Nothing of the packages runs while they are installed.
    npm.args([
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--silent",
    ])
    .current_dir(tools);
    run(
        &mut npm,
        "install the packages nodejs and npm; npm needs its registry once",
    )
}

fn python(tools: &Path, folder: &Path, name: &str, component: &Path) {
    let mut build = Command::new(tools.join("venv/bin/componentize-py"));
    build.arg("-d").arg(wit()).args([
        "-w",
        "plugin",
        "componentize",
        "-s",
        "app",
        "-p",
        name,
        "-o",
    ]);
    built(
        build
            .arg(component)
            .current_dir(folder)
            .env_remove("VIRTUAL_ENV"),
    );
}

fn typescript(tools: &Path, folder: &Path, name: &str, component: &Path) {
    let tool = |tool: &str| Command::new(tools.join("node_modules/.bin").join(tool));
    // Types are checked where their declarations are; the bundler only drops them.
    let checked = tools.join(name);
    remove(&checked);
    copy(&folder.join(name), &checked);
    built(tool("tsc").args(["-p", "."]).current_dir(tools));
    remove(&checked);
    let mut bundle = tool("esbuild");
    bundle
        .arg(format!("{name}/app.ts"))
        .args(["--bundle", "--format=esm", "--platform=neutral"]);
    bundle.args([
        "--external:sandbar:*",
        "--log-level=warning",
        "--outfile=app.js",
    ]);
    built(bundle.current_dir(folder));
    let mut build = tool("componentize-qjs");
    build.arg("--wit").arg(wit()).args([
        "--world",
        "plugin",
        "--js",
        "app.js",
        "--sync",
        "--stub-wasi",
        "--output",
    ]);
    built(build.arg(component).current_dir(folder));
}

/// A step of a build, which must succeed.
fn built(command: &mut Command) {
    if let Err(error) = run(command, "see its README.md") {
        panic!("{error}");
    }
}

fn run(command: &mut Command, needs: &str) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .map_err(|error| format!("{program}: {error}; {needs}"))?;
    if output.status.success() {
        return Ok(());
    }
    let (said, more) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    Err(format!("{program} failed; {needs}\n{said}{more}"))
}

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the tests are in the repository")
}

fn wit() -> PathBuf {
    repository().join("wit/v0.1")
}

/// Names and bytes of all files of a folder.
fn content(folder: &Path) -> Vec<u8> {
    let mut content = Vec::new();
    for file in files(folder) {
        content.extend(
            file.strip_prefix(folder)
                .expect("it is in there")
                .as_os_str()
                .as_encoded_bytes(),
        );
        content.push(0);
        content.extend(digest(&read(&file)).into_bytes());
    }
    content
}

/// All files of a folder, in an order that never changes; not what an interpreter left there.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the repository can be read");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("it can be read").path())
        .collect();
    paths.retain(|path| !path.ends_with("__pycache__") && !path.ends_with("node_modules"));
    paths.sort();
    let inside = |path: PathBuf| {
        if path.is_dir() {
            files(&path)
        } else {
            vec![path]
        }
    };
    paths.into_iter().flat_map(inside).collect()
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).expect("it is in there"));
        fs::create_dir_all(target.parent().expect("it has one"))
            .expect("the target folder can be written");
        fs::copy(&file, &target).expect("the target folder can be written");
    }
}

/// Removes what was made of earlier sources.
fn remove_older(folder: &Path, name: &str) {
    for entry in fs::read_dir(folder).expect("it is ours").flatten() {
        let found = entry.file_name();
        let stamp = found
            .to_str()
            .and_then(|found| found.strip_prefix(name)?.strip_prefix('-'));
        if stamp.is_some() {
            remove(&entry.path());
        }
    }
}

fn remove(folder: &Path) {
    if folder.exists() {
        fs::remove_dir_all(folder).expect("it is ours");
    }
}

fn read(file: &Path) -> Vec<u8> {
    fs::read(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn short(bytes: &[u8]) -> String {
    digest(bytes)
        .trim_start_matches("sha256:")
        .chars()
        .take(16)
        .collect()
}
