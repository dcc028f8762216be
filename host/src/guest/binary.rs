//! A component as it was read: its bytes and their digest, so that neither is read or computed twice.
//!
//! Cheap to clone. What the bytes are is found out elsewhere.

use std::fmt;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

/// The bytes of a component with their digest.
#[derive(Clone)]
pub struct Binary {
    bytes: Arc<[u8]>,
    sha256: [u8; 32],
    digest: Arc<str>,
}

impl Binary {
    /// Computes the digest of these bytes.
    #[must_use]
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        let bytes = bytes.into();
        let sha256: [u8; 32] = Sha256::digest(&bytes).into();
        let digest = as_text(&sha256).into();
        Self {
            bytes,
            sha256,
            digest,
        }
    }

    /// `sha256:` and 64 hexadecimal digits.
    #[must_use]
    pub fn digest(&self) -> &Arc<str> {
        &self.digest
    }

    /// What was read.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What it would send requests over HTTP through, if it imports that.
    pub(crate) fn http_import(&self) -> Option<String> {
        let imports = super::inspect::world(&self.bytes).ok()?;
        let mut imports = imports.into_iter();
        imports.find(|import| import.starts_with("wasi:http/outgoing-handler@"))
    }

    pub(super) fn sha256(&self) -> [u8; 32] {
        self.sha256
    }
}

impl fmt::Debug for Binary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Binary").field(&self.digest).finish()
    }
}

/// The digest of a file as it is printed and pinned.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    as_text(&Sha256::digest(bytes).into())
}

fn as_text(sha256: &[u8; 32]) -> String {
    format!("sha256:{}", hexadecimal(sha256))
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        // Writing into a string does not fail.
        write!(text, "{byte:02x}").ok();
    }
    text
}
