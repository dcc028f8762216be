//! The example plugins as components, built once by the tests themselves.
//!
//! They are built as the README says, into a target folder of their own, so that the build that runs the tests is not
//! disturbed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The folders in `plugins/`.
pub const PLUGINS: [&str; 10] = [
    "conform",
    "echo",
    "enroute",
    "fetch",
    "misbehave",
    "orders",
    "quakes",
    "selfish",
    "stock",
    "swap",
];

/// Another component of these folders: what counts, for the tests of versions.
const EXAMPLE: &str = "tally";

/// The component of a plugin in `plugins/`, such as `echo`.
///
/// # Panics
/// When it cannot be built; the output of the compiler is printed.
#[must_use]
pub fn guest(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(build);
    let file = match name {
        EXAMPLE => folder.join(format!("examples/{name}.wasm")),
        _ => folder.join(format!("{name}.wasm")),
    };
    assert!(file.is_file(), "there is no plugin {name} in plugins/");
    file
}

/// Another version of the plugin `swap`: its component with other words of the same length in the place of these.
///
/// # Panics
/// When a word stands nowhere in it, or has another length.
#[must_use]
pub fn version(words: &[(&str, &str)]) -> Vec<u8> {
    version_of("swap", words)
}

/// The same of any plugin.
///
/// # Panics
/// As [`version`].
#[must_use]
pub fn version_of(plugin: &str, words: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = std::fs::read(guest(plugin)).expect("the component was built");
    for (from, to) in words {
        assert_eq!(from.len(), to.len(), "{from:?} and {to:?}");
        let places: Vec<usize> = bytes
            .windows(from.len())
            .enumerate()
            .filter_map(|(at, window)| (window == from.as_bytes()).then_some(at))
            .collect();
        assert!(!places.is_empty(), "{from:?} stands nowhere");
        for at in places {
            bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        }
    }
    bytes
}

/// The target folder of the build that runs this test: the folder above `debug/deps/TEST`.
///
/// # Panics
/// When the test does not run from a target folder.
#[must_use]
pub fn target() -> PathBuf {
    let exe = std::env::current_exe().expect("a test knows its own path");
    exe.ancestors()
        .nth(3)
        .map(Path::to_owned)
        .expect("a test runs from a target folder")
}

/// A cargo that does not inherit what the one around it was told.
#[must_use]
pub fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let inherited = std::env::vars_os().map(|(name, _)| name);
    for name in inherited.filter(|name| name.to_string_lossy().starts_with("CARGO_")) {
        // Where crates are kept and how output looks stay as they are.
        if !matches!(name.to_str(), Some("CARGO_HOME" | "CARGO_TERM_COLOR")) {
            cargo.env_remove(&name);
        }
    }
    for name in [
        "RUSTFLAGS",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTDOCFLAGS",
    ] {
        cargo.env_remove(name);
    }
    cargo.current_dir(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .parent()
            .unwrap_or(Path::new(".")),
    );
    cargo
}

/// The plugin `misbehave` as its author builds it to look for a mistake: with line tables.
///
/// # Panics
/// As [`guest`].
#[must_use]
pub fn misbehave_with_lines() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(|| {
        let lines = [
            ("CARGO_PROFILE_PLUGIN_DEBUG", "line-tables-only"),
            ("CARGO_PROFILE_PLUGIN_STRIP", "none"),
        ];
        build_into("guests-lines", &["-p", "misbehave"], &lines)
    });
    folder.join("misbehave.wasm")
}

fn build() -> PathBuf {
    let mut plugins = vec!["--lib", "--example", EXAMPLE];
    plugins.extend(PLUGINS.iter().flat_map(|plugin| ["-p", *plugin]));
    build_into("guests", &plugins, &[])
}

fn build_into(folder: &str, plugins: &[&str], environment: &[(&str, &str)]) -> PathBuf {
    let target = target().join(folder);
    let output = cargo()
        .envs(environment.iter().copied())
        .args([
            "build",
            "--locked",
            "--profile",
            "plugin",
            "--target",
            "wasm32-wasip2",
        ])
        .args(plugins)
        .arg("--target-dir")
        .arg(&target)
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "the plugins cannot be built; is the target there (rustup target add wasm32-wasip2)?\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    target.join("wasm32-wasip2/plugin")
}
