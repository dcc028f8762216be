//! The table of kinds: which brokers there are, what each can be told, and how one is opened.
//!
//! A kind is one line here. Its options are a struct of its own, which is its table in `[broker]` as well; what they mean
//! is not known here.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Backend, EmbeddedOptions, MemoryOptions};
use crate::store::Store;

/// The options of one kind of broker, `[broker.NAME]`: serde reads, shows and describes them, [`Kind`] uses them.
///
/// Say `#[serde(default, deny_unknown_fields)]`, document every field (that is the documentation of the key), and take
/// what shall stay secret as a [`Setting`](crate::value::Setting), which is shown as the reference that it is.
pub(crate) trait Kind: Default {
    /// Who can open such a broker.
    const REACH: Reach;

    /// Opens it. `data` is the folder of those that keep their messages on this machine.
    fn open(&self, data: &Path) -> impl Future<Output = Result<Opened, OpenError>> + Send;

    /// Whether its messages may go through the store of the host ([`Mode`](super::Mode)).
    const MODES: bool = false;

    /// What is wrong although each value can be read: the key, and what to do about it.
    fn problems(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }
}

/// Who can open a broker, and how the others get to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// One process at a time; the others go through the socket in its data folder, and open it when nobody has.
    Folder,
    /// It lives and ends with the process that opened it; the others go through the socket in its data folder.
    Process,
    /// Every process, over a network.
    Network,
}

/// From one line for each kind: the names, `[broker]`, and what is done with the kind that was chosen.
macro_rules! kinds {
    ($(
        $(#[doc = $doc:literal])*
        $(#[cfg($cfg:meta)])?
        $variant:ident $name:ident: $options:ty,
    )+) => {
        /// The names of all kinds, the default first.
        pub const KINDS: &[&str] = &[$($(#[cfg($cfg)])? stringify!($name)),+];

        /// The name of a kind.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "lowercase")]
        pub enum BrokerKind {
            $($(#[doc = $doc])* $(#[cfg($cfg)])? $variant,)+
        }

        impl BrokerKind {
            /// Its name in the configuration.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self {
                    $($(#[cfg($cfg)])? Self::$variant => stringify!($name),)+
                }
            }

            fn named(name: &str) -> Option<Self> {
                match name {
                    $($(#[cfg($cfg)])? stringify!($name) => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }

        /// The broker.
        #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct BrokerOptions {
            /// Which kind of broker; only the table of that kind is used.
            pub kind: BrokerKind,
            $($(#[doc = $doc])* $(#[cfg($cfg)])? pub $name: $options,)+
        }

        impl BrokerOptions {
            /// Who can open it.
            #[must_use]
            pub fn reach(&self) -> Reach {
                match self.kind {
                    $($(#[cfg($cfg)])? BrokerKind::$variant => <$options as Kind>::REACH,)+
                }
            }

            /// Opens it. `data` is the folder of those that keep their messages on this machine.
            ///
            /// # Errors
            /// [`OpenError`], with what to do about it.
            pub async fn open(&self, data: &Path) -> Result<Opened, OpenError> {
                match self.kind {
                    $($(#[cfg($cfg)])? BrokerKind::$variant => self.$name.open(data).await,)+
                }
            }

            /// Whether its messages may go through the store of the host ([`Mode`](super::Mode)).
            #[must_use]
            pub fn has_modes(&self) -> bool {
                match self.kind {
                    $($(#[cfg($cfg)])? BrokerKind::$variant => <$options as Kind>::MODES,)+
                }
            }

            /// What is wrong with the options of the kind that was chosen: the key, and what to do about it.
            #[must_use]
            pub fn problems(&self) -> Vec<(&'static str, String)> {
                match self.kind {
                    $($(#[cfg($cfg)])? BrokerKind::$variant => self.$name.problems(),)+
                }
            }
        }
    };
}

kinds! {
    /// One folder on this machine, durable, without a server.
    Embedded embedded: EmbeddedOptions,
    /// In the memory of the host; gone when it ends.
    Memory memory: MemoryOptions,
    /// Tables in a PostgreSQL database, durable, for several hosts.
    #[cfg(feature = "postgres")]
    Postgres postgres: super::PostgresOptions,
    /// A RabbitMQ server or cluster, for several hosts.
    #[cfg(feature = "rabbitmq")]
    RabbitMq rabbitmq: super::RabbitMqOptions,
}

#[expect(
    clippy::derivable_impls,
    reason = "the derive marks a variant, and the table has no word for that"
)]
impl Default for BrokerKind {
    fn default() -> Self {
        Self::Embedded
    }
}

/// A backend with the store that commits with it.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The broker.
    pub backend: Arc<dyn Backend>,
    /// Its store.
    pub store: Arc<dyn Store>,
}

impl Opened {
    pub(crate) fn of<B: Backend + Store + 'static>(both: B) -> Self {
        let both = Arc::new(both);
        Self {
            backend: both.clone(),
            store: both,
        }
    }
}

/// Opens a backend by the name of its kind, with the default options of that kind.
///
/// # Errors
/// [`OpenError`], with what to do about it.
pub async fn open(kind: &str, data: &Path) -> Result<Opened, OpenError> {
    let kind = BrokerKind::named(kind).ok_or_else(|| OpenError::UnknownKind(kind.to_owned()))?;
    let options = BrokerOptions {
        kind,
        ..BrokerOptions::default()
    };
    options.open(data).await
}

/// Why a backend could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// No such kind.
    #[error("there is no broker of kind `{0}`; use one of {known}", known = KINDS.join(", "))]
    UnknownKind(String),
    /// Another process owns the data folder.
    #[error(
        "{} is in use by process {owner}; stop that host, or use another --data", folder.display()
    )]
    Busy {
        /// The data folder.
        folder: PathBuf,
        /// The identifier of the process, or what is known of it.
        owner: String,
    },
    /// Something else is where the data folder should be.
    #[error("{} is not a folder; use another --data", .0.display())]
    NotAFolder(PathBuf),
    /// The folder or a file in it cannot be written.
    #[error("{} is read-only for this user; change its permissions, or use another --data", .0.display())]
    ReadOnly(PathBuf),
    /// The file in its place is no database.
    #[error("{} is not a SQLite database; move it away, or use another --data", .0.display())]
    NotADatabase(PathBuf),
    /// It was written by a newer release.
    #[error(
        "{} has schema version {found} and this release knows {known}; use a newer release, or another --data",
        file.display()
    )]
    Newer {
        /// The database.
        file: PathBuf,
        /// Its version.
        found: i64,
        /// The newest version that is known here.
        known: i64,
    },
    /// What shall say where a server is doesn't.
    #[error("the address of the {kind} broker is wrong: {reason}")]
    Address {
        /// Of which kind of broker.
        kind: &'static str,
        /// What is wrong, and how it should look.
        reason: String,
    },
    /// A server cannot be reached, or refuses; the text says what to do.
    #[error("{0}")]
    Server(String),
    /// The tables of a server were written by a newer release.
    #[error(
        "{place} has schema version {found} and this release knows {known}; use a newer release, or another schema"
    )]
    NewerSchema {
        /// The server and the schema.
        place: String,
        /// Its version.
        found: i64,
        /// The newest version that is known here.
        known: i64,
    },
    /// Anything else.
    #[error("{} cannot be opened: {reason}", path.display())]
    Other {
        /// The folder or file.
        path: PathBuf,
        /// What the system or the database says.
        reason: String,
    },
}
