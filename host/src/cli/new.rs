//! `sandbar new`: a handler to begin with, which builds and passes its test as it is.
//!
//! The SDK is not in a registry yet, so its sources come along, of the same version as this host. It writes files, and
//! starts no compiler.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args, ValueEnum};

use super::terminal::{Style, note, paint};
use super::{Ended, Usage};

/// Write a handler to begin with.
///
/// It has a test, builds as it is, and is served by `sandbar run` in its folder.
#[derive(Debug, Args)]
pub(super) struct New {
    /// The name of the plugin and of its folder
    #[arg(value_name = "NAME")]
    name: String,
    /// The language that it is written in
    #[arg(long, value_name = "LANGUAGE", default_value = "rust")]
    lang: Language,
    /// A checkout of Sandbar whose SDK is used [default: a copy of the SDK is written into the new folder]
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Language {
    Rust,
    Python,
    Js,
    Ts,
    Go,
    C,
}

/// The sources of the SDK with its workspace, by their names in the repository.
const SDK: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/sdk.rs"));
/// Where they are put.
const SDK_FOLDER: &str = "sandbar-sdk";
/// The SDK within a checkout.
const SDK_CRATE: &str = "guest-sdk/rust";

/// What is written for a plugin in Rust; `{{…}}` is replaced.
const RUST: [(&str, &str); 4] = [
    ("Cargo.toml", include_str!("new/rust/Cargo.toml.in")),
    ("src/lib.rs", include_str!("new/rust/lib.rs.in")),
    ("sandbar.toml", include_str!("new/rust/sandbar.toml.in")),
    (".gitignore", "/target\n/sandbar-data\n"),
];

impl New {
    pub(super) fn run(self) -> anyhow::Result<Ended> {
        if self.lang != Language::Rust {
            let lang = self.lang.to_possible_value();
            let lang = lang.as_ref().map_or("it", |lang| lang.get_name());
            return Err(Usage(format!(
                "there is no SDK for `{lang}` yet; use `--lang rust`, or build a component of the world in wit/v0.1 with the tools of the language"
            ))
            .into());
        }
        check(&self.name)?;
        let folder = Path::new(&self.name);
        if folder.exists() {
            return Err(Usage(format!(
                "{} exists; choose another name, or remove it",
                folder.display()
            ))
            .into());
        }
        let sdk = match &self.sdk {
            Some(checkout) => sdk_of(checkout)?,
            None => format!("{SDK_FOLDER}/{SDK_CRATE}"),
        };
        let file = format!("{}.wasm", self.name.replace('-', "_"));
        for (path, template) in RUST {
            let text = template
                .replace("{{name}}", &self.name)
                .replace("{{file}}", &file)
                .replace("{{sdk}}", &toml::Value::from(sdk.as_str()).to_string());
            write(&folder.join(path), &text)?;
        }
        for (path, text) in SDK {
            match *path {
                // Versions that are known to work: cargo takes out what is not used, rustup installs what is missing.
                "Cargo.lock" | "rust-toolchain.toml" => write(&folder.join(path), text)?,
                _ if self.sdk.is_some() => {}
                "Cargo.toml" => write(&folder.join(SDK_FOLDER).join(path), &workspace(text)?)?,
                _ => write(&folder.join(SDK_FOLDER).join(path), text)?,
            }
        }
        self.say_what_is_next();
        Ok(Ended::Done)
    }

    fn say_what_is_next(&self) {
        let name = &self.name;
        let steps = [
            (format!("cd {name}"), ""),
            (
                "cargo test".to_owned(),
                "natively, in a host made of memory",
            ),
            (
                "cargo build --release --target wasm32-wasip2".to_owned(),
                "",
            ),
            (
                "sandbar run".to_owned(),
                "serves it, as sandbar.toml says; restart it after a build",
            ),
            (
                format!("sandbar request {name}.greet '{{\"name\":\"Ada\"}}'"),
                "in another terminal, in the same folder",
            ),
        ];
        let width = steps.iter().map(|(step, _)| step.len()).max();
        let width = width.unwrap_or_default();
        note(format!(
            "{} {name}: a handler of `{name}.greet`, in {name}/src/lib.rs\n",
            paint("created", Style::Good)
        ));
        for (step, why) in steps {
            let why = if why.is_empty() {
                why.to_owned()
            } else {
                format!("   # {why}")
            };
            note(format!("  {step:<width$}{why}").trim_end());
        }
    }
}

/// Whether it can be the name of a plugin and of a crate.
fn check(name: &str) -> Result<(), Usage> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic());
    if !begins || name.len() > 64 || !name.chars().all(legal) {
        return Err(Usage(format!(
            "{name:?} cannot be the name of a plugin; begin with a letter and go on with letters, digits, `-` and `_`, 64 at most"
        )));
    }
    if RESERVED.split_whitespace().any(|word| word == name) {
        return Err(Usage(format!(
            "`{name}` means something else in Rust; choose another name"
        )));
    }
    Ok(())
}

/// Keywords, and crates that are there anyway.
const RESERVED: &str = "abstract alloc as async await become box break const continue core crate do dyn else enum \
    extern false final fn for gen if impl in let loop macro match mod move mut override priv proc-macro proc_macro pub \
    ref return sandbar-guest sandbar_guest self serde static std struct super test trait true try type typeof unsafe \
    unsized use virtual where while yield";

/// The SDK of a checkout, or the SDK itself.
fn sdk_of(checkout: &Path) -> Result<String, Usage> {
    let candidates = [checkout.join(SDK_CRATE), checkout.to_owned()];
    let is_it = |folder: &&PathBuf| {
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap_or_default();
        manifest.contains("name = \"sandbar-guest\"")
    };
    let found = candidates
        .iter()
        .find(is_it)
        .and_then(|it| it.canonicalize().ok());
    let found = found.and_then(|folder| folder.to_str().map(str::to_owned));
    found.ok_or_else(|| {
        Usage(format!(
            "there is no SDK in {}; name a checkout of Sandbar, or leave `--sdk` out",
            checkout.display()
        ))
    })
}

/// The workspace that the SDK inherits versions and lints from, with nothing else in it.
fn workspace(manifest: &str) -> anyhow::Result<String> {
    let mut manifest: toml::Table = toml::from_str(manifest)?;
    manifest.retain(|key, _| key == "workspace");
    if let Some(toml::Value::Table(workspace)) = manifest.get_mut("workspace") {
        let members = [SDK_CRATE.to_owned(), format!("{SDK_CRATE}/macros")];
        workspace.insert("members".to_owned(), members.to_vec().into());
        workspace.remove("default-members");
    }
    Ok(format!(
        "# The SDK of Sandbar, which is not in a registry yet. Nothing in this folder needs to be changed.\n{manifest}"
    ))
}

fn write(file: &Path, text: &str) -> anyhow::Result<()> {
    let name = || format!("{} cannot be written", file.display());
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).with_context(name)?;
    }
    fs::write(file, text).with_context(name)
}
