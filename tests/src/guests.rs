//! The example plugins as components, built once by the tests themselves.
//!
//! They are built as the README says, into a target folder of their own, so that the build that runs the tests is not
//! disturbed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The folders in `plugins/`.
pub const PLUGINS: [&str; 8] = [
    "conform",
    "echo",
    "enroute",
    "misbehave",
    "orders",
    "quakes",
    "selfish",
    "stock",
];

/// The component of a plugin in `plugins/`, such as `echo`.
///
/// # Panics
/// When it cannot be built; the output of the compiler is printed.
#[must_use]
pub fn guest(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let folder = BUILT.get_or_init(build);
    let file = folder.join(format!("{name}.wasm"));
    assert!(file.is_file(), "there is no plugin {name} in plugins/");
    file
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

fn build() -> PathBuf {
    let target = target().join("guests");
    let output = cargo()
        .args([
            "build",
            "--locked",
            "--profile",
            "plugin",
            "--target",
            "wasm32-wasip2",
        ])
        .args(PLUGINS.iter().flat_map(|plugin| ["-p", *plugin]))
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
