//! Whose signature a component must bear: detached signatures in the format of minisign, `FILE.minisig` beside `FILE`.
//!
//! Only verifies; signing is done with `minisign -Sm FILE`, where the secret key is. The trusted comment of a signature is
//! signed as well, and shown to nobody: what a component is called is decided by the configuration.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use minisign_verify::{PublicKey, Signature};

/// A signature is about 300 bytes; a larger file is none.
const MOST: u64 = 16 * 1024;

/// A public key in the format of minisign, one line of base64.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey(String);

impl FromStr for TrustedKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        match PublicKey::from_base64(text) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(error) => Err(format!(
                "{text:?} is no public key ({error}); write the second line of minisign.pub, which begins with `RW`"
            )),
        }
    }
}

impl fmt::Display for TrustedKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where the signature of a component is.
#[must_use]
pub(crate) fn signature_file(component: &Path) -> PathBuf {
    let mut name = component.as_os_str().to_owned();
    name.push(".minisig");
    name.into()
}

/// The signature beside a component, if there is one.
pub(crate) fn signature(component: &Path) -> std::io::Result<Option<String>> {
    let file = signature_file(component);
    match std::fs::metadata(&file) {
        Ok(found) if found.len() > MOST => Err(std::io::Error::other("it is too large for one")),
        Ok(_) => std::fs::read_to_string(&file).map(Some),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether one of the keys signed these bytes; anything is trusted if there is no key.
pub(super) fn check(keys: &[TrustedKey], component: &Path, bytes: &[u8]) -> Result<(), String> {
    if keys.is_empty() {
        return Ok(());
    }
    let file = signature_file(component);
    let file = file.display();
    let text = match signature(component) {
        Ok(Some(text)) => text,
        Ok(None) => {
            return Err(format!(
                "it is not signed, and `trusted_keys` wants a signature: there is no {file}; sign it with `minisign -Sm {}`",
                component.display()
            ));
        }
        Err(error) => return Err(format!("its signature {file} cannot be read: {error}")),
    };
    let signature = Signature::decode(&text).map_err(|error| {
        format!("its signature {file} is none of minisign's: {error}; sign the component again")
    })?;
    // The identifier of a key in a signature is a hint that anybody can write; the check decides.
    let signed = |key: &TrustedKey| {
        PublicKey::from_base64(&key.0).is_ok_and(|key| key.verify(bytes, &signature, false).is_ok())
    };
    if keys.iter().any(signed) {
        return Ok(());
    }
    Err(format!(
        "{file} is not the signature of this component by one of `trusted_keys`: either the component was changed after it \
         was signed, or somebody else signed it; have it signed again, or trust that key"
    ))
}
