//! What a file is, before anything of it runs: component or not, of which world, what it imports.
//!
//! Reads bytes only; used for error messages at load and by `sandbar inspect`.

use std::collections::BTreeMap;

use serde::Serialize;
use wasmparser::{Encoding, Instance, Parser, Payload};

use super::{GuestError, digest};

/// What is known of a component without running it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Bytes of the file.
    pub size: usize,
    /// The world that it fits, if this host knows it.
    pub world: Option<String>,
    /// Interfaces that it imports.
    pub imports: Vec<String>,
    /// Interfaces that it exports.
    pub exports: Vec<String>,
    /// Core modules inside.
    pub core_modules: usize,
    /// Core instances that one instance of it makes.
    pub core_instances: usize,
    /// Linear memory that one instance starts with, in bytes; [`u64::MAX`] if it is more.
    pub initial_memory: u64,
    /// What the SDK says of itself.
    pub sdk: BTreeMap<String, String>,
}

/// Reads a component.
///
/// # Errors
/// [`GuestError::NotAComponent`] with what it is instead.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, GuestError> {
    let mut found = read(bytes)?;
    found.digest = digest(bytes);
    Ok(found)
}

/// The interfaces that a component of a known world imports.
pub(super) fn world(bytes: &[u8]) -> Result<Vec<String>, GuestError> {
    let found = read(bytes)?;
    match found.world {
        Some(_) => Ok(found.imports),
        None => Err(unknown_world(&found.exports, &[super::v0_1::EXPORT])),
    }
}

/// All but the digest.
fn read(bytes: &[u8]) -> Result<Inspection, GuestError> {
    check_is_component(bytes)?;
    let mut found = Inspection {
        digest: String::new(),
        size: bytes.len(),
        world: None,
        imports: Vec::new(),
        exports: Vec::new(),
        core_modules: 0,
        core_instances: 0,
        initial_memory: 0,
        sdk: BTreeMap::new(),
    };
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload.map_err(malformed)?;
        match payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                if matches!(payload, Payload::ModuleSection { .. }) {
                    found.core_modules += 1;
                }
                depth += 1;
            }
            Payload::End(_) => depth = depth.saturating_sub(1),
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section {
                    found
                        .imports
                        .push(import.map_err(malformed)?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section {
                    found
                        .exports
                        .push(export.map_err(malformed)?.name.name.to_owned());
                }
            }
            Payload::InstanceSection(section) => {
                for instance in section {
                    // The others only bundle exports for an import.
                    if matches!(instance.map_err(malformed)?, Instance::Instantiate { .. }) {
                        found.core_instances += 1;
                    }
                }
            }
            Payload::MemorySection(section) => {
                for memory in section {
                    // The file may claim any number.
                    let bytes = memory.map_err(malformed)?.initial.saturating_mul(65_536);
                    found.initial_memory = found.initial_memory.saturating_add(bytes);
                }
            }
            Payload::CustomSection(section) if section.name() == "sandbar:sdk" => {
                found.sdk = serde_json::from_slice(section.data()).unwrap_or_default();
            }
            _ => {}
        }
    }
    if found.exports.iter().any(|name| name == super::v0_1::EXPORT) {
        found.world = Some("sandbar:messaging/plugin@0.1.0".to_owned());
    }
    Ok(found)
}

pub(super) fn malformed(error: wasmparser::BinaryReaderError) -> GuestError {
    GuestError::NotAComponent(format!(
        "it is damaged at byte {}: {}; build or copy it again",
        error.offset(),
        error.message()
    ))
}

/// Says what the file is if it is no component.
fn check_is_component(bytes: &[u8]) -> Result<(), GuestError> {
    let no = |text: &str| Err(GuestError::NotAComponent(text.to_owned()));
    if bytes.is_empty() {
        return no("the file is empty; was it still being written?");
    }
    if !bytes.starts_with(b"\0asm") {
        return no(
            "it is no WebAssembly file; a handler is a WebAssembly component, which Rust builds for the target wasm32-wasip2",
        );
    }
    match Parser::new(0).parse_all(bytes).next() {
        Some(payload) => match payload.map_err(malformed)? {
            Payload::Version {
                encoding: Encoding::Component,
                ..
            } => Ok(()),
            _ => no(
                "it is a core module, not a component; build it for the target wasm32-wasip2, or wrap it with a component encoder",
            ),
        },
        None => no("the file ends before its first section; build or copy it again"),
    }
}

/// The error for a component whose exports fit nothing.
fn unknown_world(exports: &[String], wanted: &[&str]) -> GuestError {
    let has = if exports.is_empty() {
        "nothing".to_owned()
    } else {
        exports.join(", ")
    };
    let near = exports
        .iter()
        .find(|name| name.starts_with("sandbar:messaging/handler@"));
    let hint = match near {
        Some(_) => {
            "it was built for another version of the contract; build it with an SDK of this host"
        }
        None if exports.is_empty() => {
            "list its handlers in `sandbar_guest::plugin!`, or export them as the SDK of its language says"
        }
        None => "build it with a Sandbar SDK, or with the WIT of this host",
    };
    GuestError::UnknownWorld(format!(
        "it is a component of an unknown world: it exports {has}, and a handler exports {}; {hint}",
        wanted.join(" or ")
    ))
}

/// Whether the engine says that a component has more core instances, memories or tables than it has room for.
pub(super) fn is_too_many(text: &str) -> bool {
    let pooled = text.contains("exceeds the configured maximum");
    pooled || text.contains("resource limit exceeded")
}

/// Refuses imports that no interface of this host can satisfy, by name.
pub(super) fn check_imports(imports: &[String], wasi: &[&str]) -> Result<(), GuestError> {
    let offered = |name: &String| {
        (name.starts_with("sandbar:messaging/") && name.ends_with("@0.1.0"))
            || wasi
                .iter()
                .any(|prefix| name.starts_with(prefix) && name.contains("@0.2."))
    };
    let refused: Vec<&str> = imports
        .iter()
        .filter(|name| !offered(name))
        .map(String::as_str)
        .collect();
    if refused.is_empty() {
        return Ok(());
    }
    let hint = if refused.iter().any(|name| name.starts_with("wasi:sockets")) {
        "; handlers have no sockets, they publish and request; if the runtime of a language wants them for itself, build it without WASI (`componentize-py componentize -s`)"
    } else {
        ""
    };
    Err(GuestError::Import(format!(
        "it imports {}, which this host does not offer{hint}",
        refused.join(", ")
    )))
}
