//! Builds the plugins that `sandbar demo` carries inside the binary, and lists the sources of the Rust SDK, which
//! `sandbar new` carries.
//!
//! They are built for their own target, in a folder of their own and without the wishes of the build around them, so
//! that a coverage run, `clippy` or a cross build of the host leaves them alone.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const TARGET: &str = "wasm32-wasip2";
const PLUGINS: [&str; 2] = ["echo", "quakes"];
/// What the SDK consists of, with the toolchain that builds it and the workspace that its manifests inherit from.
const SDK: [&str; 11] = [
    "rust-toolchain.toml",
    "Cargo.toml",
    "Cargo.lock",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "guest-sdk/rust/Cargo.toml",
    "guest-sdk/rust/README.md",
    "guest-sdk/rust/src",
    "guest-sdk/rust/macros/Cargo.toml",
    "guest-sdk/rust/macros/src",
    "wit/v0.1",
];
/// Where downloads come from and go to is the same for every build; everything else of `CARGO_…` is about the build
/// around this one.
const KEPT: [&str; 6] = [
    "CARGO_HOME",
    "CARGO_HTTP_",
    "CARGO_MAKEFLAGS",
    "CARGO_NET_",
    "CARGO_REGISTR",
    "CARGO_SOURCE_",
];

fn main() {
    for path in [
        "../plugins",
        "../guest-sdk/rust",
        "../wit",
        "../Cargo.lock",
        "../Cargo.toml",
        "../rust-toolchain.toml",
    ] {
        println!("cargo::rerun-if-changed={path}");
    }
    if let Err(error) = build().and_then(|()| list_sdk()) {
        println!("cargo::error={error}");
    }
}

fn build() -> Result<(), String> {
    let out = PathBuf::from(variable("OUT_DIR")?);
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("..");
    make_sure_of_target()?;
    // Above `PROFILE/build/PACKAGE/out`, so that every build of the host, and its tests, find what was built before.
    let folder = out.ancestors().nth(4).unwrap_or(&out).join("guests");
    let mut cargo = command(&variable("CARGO")?);
    cargo.current_dir(&root).args([
        "build",
        "--quiet",
        "--profile",
        "plugin",
        "--target",
        TARGET,
    ]);
    cargo.arg("--target-dir").arg(&folder);
    for plugin in PLUGINS {
        cargo.args(["--package", plugin]);
    }
    run(cargo).map_err(|error| format!("the plugins of the demo cannot be built: {error}"))?;
    for plugin in PLUGINS {
        let file = format!("{plugin}.wasm");
        let built = folder.join(TARGET).join("plugin").join(&file);
        std::fs::copy(&built, out.join(&file))
            .map_err(|error| format!("{}: {error}", built.display()))?;
    }
    Ok(())
}

/// Writes `sdk.rs`: the names and texts of all files that the SDK needs somewhere else.
fn list_sdk() -> Result<(), String> {
    let out = PathBuf::from(variable("OUT_DIR")?);
    let root = PathBuf::from(variable("CARGO_MANIFEST_DIR")?).join("..");
    let mut files = Vec::new();
    for part in SDK {
        collect(&root, Path::new(part), &mut files)
            .map_err(|error| format!("{part} of the SDK cannot be read: {error}"))?;
    }
    files.sort();
    let entry = |file: &PathBuf| format!("    ({file:?}, include_str!({:?})),\n", root.join(file));
    let entries: String = files.iter().map(entry).collect();
    std::fs::write(out.join("sdk.rs"), format!("&[\n{entries}]\n"))
        .map_err(|error| format!("{}: {error}", out.display()))
}

fn collect(root: &Path, part: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    let path = root.join(part);
    if path.is_file() {
        files.push(part.to_owned());
        return Ok(());
    }
    for entry in std::fs::read_dir(&path)? {
        collect(root, &part.join(entry?.file_name()), files)?;
    }
    Ok(())
}

/// The standard library of the target, through rustup if it is missing.
fn make_sure_of_target() -> Result<(), String> {
    if has_target()? {
        return Ok(());
    }
    let mut rustup = command("rustup");
    rustup.args(["target", "add", TARGET]);
    match run(rustup) {
        Ok(()) if has_target()? => Ok(()),
        _ => Err(format!(
            "the Rust target {TARGET} is not installed, and the plugins of `sandbar demo` are built for it; run `rustup target add {TARGET}`"
        )),
    }
}

fn has_target() -> Result<bool, String> {
    let mut rustc = command(&variable("RUSTC")?);
    let output = rustc
        .args(["--print", "target-libdir", "--target", TARGET])
        .output()
        .map_err(|error| format!("rustc cannot be started: {error}"))?;
    let folder = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    Ok(output.status.success() && Path::new(&folder).is_dir())
}

/// A command that knows nothing of the build around it.
fn command(program: &str) -> Command {
    let mut command = Command::new(program);
    for (name, _) in env::vars_os() {
        let Some(name) = name.to_str() else { continue };
        let about_cargo =
            name.starts_with("CARGO_") && !KEPT.iter().any(|kept| name.starts_with(kept));
        let about_rustc = name.starts_with("RUSTC") || name.starts_with("RUSTFLAGS");
        if about_cargo || about_rustc || ["TARGET", "HOST", "PROFILE", "OUT_DIR"].contains(&name) {
            command.env_remove(name);
        }
    }
    command
}

fn run(mut command: Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            // One directive is one line.
            Err(text
                .lines()
                .filter(|line| !line.is_empty())
                .collect::<Vec<_>>()
                .join(" | "))
        }
        Err(error) => Err(format!("{program} cannot be started: {error}")),
    }
}

fn variable(name: &str) -> Result<String, String> {
    env::var(name).map_err(|error| format!("{name}: {error}"))
}
