//! Compiled components, kept in a private folder so that a start does not compile what was compiled before.
//!
//! An entry is found by the digest of its component and everything of the engine that decides about the code, and believed
//! only if it was written by this user into this folder (`cache/entry.rs`, `cache/folder.rs`). Whatever is wrong with the
//! folder or an entry is said, costs a compilation, and fails nothing. Several hosts may share a folder. What the code is for
//! is not known here.

use std::hash::{Hash as _, Hasher};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use super::binary::Binary;

mod entry;
mod folder;

pub(super) use entry::Code;

use entry::{Label, PREFIX};
use folder::Folder;

/// How much compiled code is kept when nothing else is said.
pub const DEFAULT_CACHE_SIZE: u64 = 1 << 30;

/// Where compiled components are kept, and how many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheOptions {
    /// A folder of its own; it is made when something is to be kept.
    pub dir: PathBuf,
    /// Bytes in all; what was used longest ago goes first.
    pub size: u64,
    /// Whether anything is written; otherwise only what is there is used.
    pub write: bool,
}

impl CacheOptions {
    /// A cache of the default size in this folder.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            size: DEFAULT_CACHE_SIZE,
            write: true,
        }
    }
}

/// How the folder of a cache is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheState {
    /// Entries that can be trusted, and their bytes.
    pub entries: usize,
    /// Bytes of all files that are entries.
    pub bytes: u64,
    /// Entries that are not used, because they were changed or written by somebody else.
    pub refused: usize,
    /// Why nothing can be kept, if that is so.
    pub trouble: Option<String>,
}

pub(super) struct Cache {
    options: CacheOptions,
    engine: [u8; 32],
    /// What was said of the folder last.
    said: Mutex<Option<String>>,
}

/// What came of looking for an entry.
pub(super) enum Sought {
    Found(Code),
    Nothing,
    /// There is one, and it cannot be believed.
    Refused,
}

impl Cache {
    /// Looks after the folder, and puts right what can be put right.
    pub(super) fn new(options: CacheOptions, engine: &wasmtime::Engine) -> Self {
        let cache = Self {
            options,
            engine: engine_hash(engine),
            said: Mutex::default(),
        };
        if cache.options.write && cache.options.dir.exists() {
            match cache.prepare() {
                Ok(folder) => folder.clear_up(),
                Err(trouble) => cache.say(trouble),
            }
        }
        cache
    }

    fn prepare(&self) -> Result<Folder, String> {
        let folder = Folder::prepare(&self.options.dir)?;
        folder.key_or_new().map(|_| folder)
    }

    pub(super) fn find(&self, binary: &Binary) -> Sought {
        let folder = match Folder::look(&self.options.dir) {
            Ok(Some(folder)) => folder,
            Ok(None) => return Sought::Nothing,
            Err(trouble) => {
                self.say(trouble);
                return Sought::Nothing;
            }
        };
        let label = self.label(binary);
        let name = label.file_name();
        let entry = match folder.read(&name, self.options.size, self.options.write) {
            Ok(Some(entry)) => entry,
            Ok(None) => return Sought::Nothing,
            Err(why) => return self.refuse(&name, &why),
        };
        let opened = match folder.key() {
            Ok(Some(key)) => key.open(&label, entry),
            Ok(None) => Err("its key is gone"),
            Err(why) => return self.refuse(&name, &format!("its key cannot be used: {why}")),
        };
        match opened {
            Ok(code) => Sought::Found(code),
            Err(why) => self.refuse(&name, why),
        }
    }

    fn refuse(&self, name: &str, why: &str) -> Sought {
        tracing::warn!(
            "compiled component {} is not used: {why}; the component is compiled again",
            self.options.dir.join(name).display()
        );
        Sought::Refused
    }

    /// An entry was authentic, and yet the engine does not take it.
    pub(super) fn misfit(&self, binary: &Binary, why: &str) {
        self.refuse(&self.label(binary).file_name(), why);
    }

    /// Keeps what was compiled, if that is possible.
    pub(super) fn keep(&self, binary: &Binary, code: &[u8]) {
        if self.options.write
            && let Err(trouble) = self.try_to_keep(binary, code)
        {
            self.say(trouble);
        }
    }

    fn try_to_keep(&self, binary: &Binary, code: &[u8]) -> Result<(), String> {
        let size = u64::try_from(PREFIX + code.len()).unwrap_or(u64::MAX);
        if size > self.options.size {
            return Err(format!(
                "the code of one component has {size} bytes, more than all of it may have; raise `cache.size`"
            ));
        }
        let folder = Folder::prepare(&self.options.dir)?;
        let key = folder.key_or_new()?;
        let label = self.label(binary);
        let name = label.file_name();
        let room = folder.make_room(size, self.options.size, &name);
        let kept = room.and_then(|()| folder.keep(&name, &[&key.seal(&label, code), code]));
        kept.map_err(|error| format!("{error}; see to its permissions and its disk"))
    }

    fn label(&self, binary: &Binary) -> Label {
        Label {
            component: binary.sha256(),
            engine: self.engine,
        }
    }

    /// Says what is wrong with the folder, once.
    fn say(&self, trouble: String) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.as_ref() != Some(&trouble) {
            tracing::warn!(
                "compiled components cannot be kept in {}: {trouble}; they are compiled at each start",
                self.options.dir.display()
            );
            *said = Some(trouble);
        }
    }
}

/// How a cache is; changes nothing.
#[must_use]
pub fn look_at_cache(options: &CacheOptions) -> CacheState {
    let mut state = CacheState {
        entries: 0,
        bytes: 0,
        refused: 0,
        trouble: None,
    };
    let looked = || {
        let Some(folder) = Folder::look(&options.dir)? else {
            return Ok(None);
        };
        let key = folder.key();
        for found in folder.entries().map_err(|error| error.to_string())? {
            state.bytes += found.size;
            let entry = folder.read(&found.name, options.size, false);
            let entry = entry.ok().flatten();
            let key = key.as_ref().ok().and_then(Option::as_ref);
            match key.zip(entry).is_some_and(|(key, entry)| key.wrote(entry)) {
                true => state.entries += 1,
                false => state.refused += 1,
            }
        }
        match key {
            Err(why) => Err(format!("its key cannot be used: {why}")),
            Ok(_) if !folder.can_be_written() => Err("it cannot be written".to_owned()),
            Ok(_) => Ok(Some(())),
        }
    };
    let mut looked = looked;
    state.trouble = looked().err();
    state
}

/// Everything of an engine that decides about the code that it makes and takes: its version, its settings, the processor.
fn engine_hash(engine: &wasmtime::Engine) -> [u8; 32] {
    struct Hashed(Sha256);
    impl Hasher for Hashed {
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }

        fn finish(&self) -> u64 {
            // Nobody asks: all of it is wanted.
            0
        }
    }
    let mut hashed = Hashed(Sha256::new());
    hashed.write(env!("CARGO_PKG_VERSION").as_bytes());
    engine.precompile_compatibility_hash().hash(&mut hashed);
    hashed.0.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What an entry is found by when the engine is set otherwise.
    fn name(change: impl FnOnce(&mut wasmtime::Config)) -> String {
        let mut config = wasmtime::Config::new();
        config
            .gc_support(false)
            .wasm_gc(false)
            .wasm_exceptions(false);
        change(&mut config);
        let engine = wasmtime::Engine::new(&config).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::new(CacheOptions::new(dir.path()), &engine);
        cache.label(&Binary::new(&b"component"[..])).file_name()
    }

    #[test]
    fn another_engine_has_other_entries() {
        let usual = name(|_| ());
        assert_eq!(usual, name(|_| ()), "the same engine finds them again");
        let others = [
            name(|config| {
                config
                    .module_version(wasmtime::ModuleVersionStrategy::Custom("48.0.7".into()))
                    .unwrap();
            }),
            name(|config| {
                config.epoch_interruption(true);
            }),
            name(|config| {
                config.cranelift_opt_level(wasmtime::OptLevel::None);
            }),
        ];
        for other in others {
            assert_ne!(usual, other);
        }
    }
}
