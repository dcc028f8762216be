//! What an entry of the cache consists of: a label, a code that only the owner of the folder could have computed, and the
//! compiled component.
//!
//! Compiled components are machine code that runs with the rights of the host. So [`Code`] exists only for bytes that were
//! authenticated, and it is exactly those bytes. Pure; files are in `folder.rs`.

use hmac::{Hmac, Mac as _};
use sha2::Sha256;

use crate::guest::binary::hexadecimal;

/// Of another form of entries the last byte is another one.
const MAGIC: &[u8; 16] = b"sandbar-cwasm\0\0\x01";
const LABEL: usize = MAGIC.len() + 32 + 32 + 8;
/// What stands before the code.
pub(super) const PREFIX: usize = LABEL + 32;
/// What the names of entries end with.
pub(super) const EXTENSION: &str = ".cwasm";

/// What an entry is the code of, and for which engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label {
    /// SHA-256 of the component.
    pub(super) component: [u8; 32],
    /// SHA-256 of everything of the engine that decides about the code.
    pub(super) engine: [u8; 32],
}

/// What entries are authenticated with.
#[derive(Clone)]
pub(super) struct Key([u8; 32]);

/// Compiled code that was written by whoever has the key.
pub(in crate::guest) struct Code(Vec<u8>);

impl AsRef<[u8]> for Code {
    fn as_ref(&self) -> &[u8] {
        self.0.get(PREFIX..).unwrap_or_default()
    }
}

impl Label {
    pub(super) fn file_name(&self) -> String {
        let engine = self.engine.first_chunk::<8>();
        let engine = engine.map_or(&self.engine[..], |some| some);
        format!(
            "{}-{}{EXTENSION}",
            hexadecimal(&self.component),
            hexadecimal(engine)
        )
    }

    fn text(&self, length: usize) -> Vec<u8> {
        let length = u64::try_from(length).unwrap_or(u64::MAX);
        let parts: [&[u8]; 4] = [MAGIC, &self.component, &self.engine, &length.to_le_bytes()];
        parts.concat()
    }
}

impl Key {
    /// The key for what a secret was made for. `place` tells its file from a copy of it.
    pub(super) fn new(secret: &[u8; 32], place: &[u8]) -> Self {
        let mut mac = keyed(secret);
        mac.update(b"sandbar compiled components");
        mac.update(place);
        Self(mac.finalize().into_bytes().into())
    }

    /// What stands before the code in its entry.
    pub(super) fn seal(&self, label: &Label, code: &[u8]) -> Vec<u8> {
        let mut prefix = label.text(code.len());
        let mut mac = keyed(&self.0);
        mac.update(&prefix);
        mac.update(code);
        prefix.extend(mac.finalize().into_bytes());
        prefix
    }

    /// The code of an entry, if it is what it should be.
    pub(super) fn open(&self, label: &Label, entry: Vec<u8>) -> Result<Code, &'static str> {
        let wanted = label.text(entry.len().saturating_sub(PREFIX));
        let (Some(found), Some(mac), Some(code)) = (
            entry.get(..LABEL),
            entry.get(LABEL..PREFIX),
            entry.get(PREFIX..),
        ) else {
            return Err("it is cut short");
        };
        if !found.starts_with(MAGIC) {
            return Err("it is none, or one of another release");
        }
        let part = |text: &[u8], range: std::ops::Range<usize>| text.get(range).map(<[u8]>::to_vec);
        let differs =
            |range: std::ops::Range<usize>| part(found, range.clone()) != part(&wanted, range);
        if differs(16..48) {
            return Err("it is the code of another component");
        }
        if differs(48..80) {
            return Err("it is code for another engine");
        }
        if differs(80..LABEL) {
            return Err("it is not as long as it was");
        }
        let mut computed = keyed(&self.0);
        computed.update(found);
        computed.update(code);
        if computed.verify_slice(mac).is_err() {
            return Err("it was changed, or written by somebody else or with another key");
        }
        Ok(Code(entry))
    }

    /// Whether an entry was written with this key, whatever it is the code of.
    pub(super) fn wrote(&self, entry: Vec<u8>) -> bool {
        let part = |range: std::ops::Range<usize>| <[u8; 32]>::try_from(entry.get(range)?).ok();
        let label = part(16..48).zip(part(48..80));
        label.is_some_and(|(component, engine)| {
            self.open(&Label { component, engine }, entry).is_ok()
        })
    }
}

fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    // A key that is shorter than a block is filled up with zeros; of a whole block, nothing can fail.
    let mut block = [0; 64];
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    <Hmac<Sha256> as hmac::digest::KeyInit>::new((&block).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(component: u8, engine: u8) -> Label {
        Label {
            component: [component; 32],
            engine: [engine; 32],
        }
    }

    fn entry(key: &Key, label: &Label, code: &[u8]) -> Vec<u8> {
        [&key.seal(label, code), code].concat()
    }

    #[test]
    fn what_was_sealed_is_opened_and_nothing_else() {
        let (key, label_1) = (Key::new(&[7; 32], b"here"), label(1, 2));
        let whole = entry(&key, &label_1, b"machine code");
        let code = key.open(&label_1, whole.clone()).ok().unwrap();
        assert_eq!(code.as_ref(), b"machine code");
        for bit in 0..whole.len() * 8 {
            let mut changed = whole.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(key.open(&label_1, changed).is_err(), "bit {bit}");
        }
        for length in 0..whole.len() {
            let cut = whole[..length].to_vec();
            assert!(key.open(&label_1, cut).is_err(), "{length} bytes");
        }
        assert!(key.open(&label_1, [&whole[..], b"+"].concat()).is_err());
    }

    #[test]
    fn an_entry_of_something_else_is_refused() {
        let (key, label_1) = (Key::new(&[7; 32], b"here"), label(1, 2));
        let whole = entry(&key, &label_1, b"machine code");
        for other in [label(3, 2), label(1, 3)] {
            assert!(key.open(&other, whole.clone()).is_err());
            assert_ne!(other.file_name(), label_1.file_name());
        }
        for other in [Key::new(&[8; 32], b"here"), Key::new(&[7; 32], b"there")] {
            assert!(other.open(&label_1, whole.clone()).is_err());
            assert!(!other.wrote(whole.clone()));
        }
        assert!(key.wrote(whole));
    }
}
