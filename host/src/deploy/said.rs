//! What an operator asks a running host, and what is answered: as JSON on the host's socket.
//!
//! Only data. The shapes are the ones that `--json` prints as well.

use serde::{Deserialize, Serialize};

use crate::control::ReloadOutcome;
use crate::pipeline::Compared;
use crate::registry::Record;
use crate::rollout::{Policy, Share, Side};

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verb")]
pub enum Question {
    /// All plugins.
    List,
    /// One of them.
    Show {
        /// Its name.
        name: String,
    },
    /// Another component in the place of a plugin, or a new plugin.
    Deploy {
        /// Its name.
        name: String,
        /// Where the component is, from the root.
        file: std::path::PathBuf,
        /// Its digest, so that nothing else is deployed.
        digest: String,
        /// Who asks.
        who: String,
        /// On a share of the messages, beside the live version.
        canary: Option<Policy>,
    },
    /// The version that is tried takes the place of the live one.
    Promote {
        /// Whose.
        name: String,
        /// Who asks.
        who: String,
    },
    /// A version gets copies of the messages that the live one has handled.
    Shadow {
        /// Its name.
        name: String,
        /// Where the component is, from the root.
        file: std::path::PathBuf,
        /// Its digest, so that nothing else is compared.
        digest: String,
        /// Who asks.
        who: String,
        /// Of how much of the messages; `None`: of all.
        share: Option<Share>,
        /// Of how many; `None`: for as long as there are some.
        messages: Option<u64>,
    },
    /// What came of the copies so far.
    Compared {
        /// Whose.
        name: String,
    },
    /// The same, and there are no more copies.
    Unshadow {
        /// Whose.
        name: String,
    },
    /// An earlier version again; while a version is tried, that one goes instead unless a number is given.
    Rollback {
        /// Whose.
        name: String,
        /// Which; `None`: the one before.
        to: Option<u64>,
        /// Who asks.
        who: String,
    },
    /// Lets its messages wait.
    Pause {
        /// Whose.
        name: String,
        /// Who wishes it.
        who: String,
    },
    /// Has them handled again.
    Resume {
        /// Whose.
        name: String,
        /// Who wishes it.
        who: String,
    },
    /// Stops to serve it.
    Remove {
        /// Which.
        name: String,
        /// Who asks.
        who: String,
    },
    /// Its versions.
    History {
        /// Whose.
        name: String,
    },
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Answer {
    /// To [`Question::List`].
    Plugins(Vec<PluginStatus>),
    /// To [`Question::Show`].
    Plugin(Box<PluginStatus>),
    /// To [`Question::Deploy`], [`Question::Promote`] and [`Question::Rollback`].
    Served {
        /// Swapped, or unchanged.
        outcome: Outcome,
        /// The version that is live now.
        version: Version,
    },
    /// To [`Question::Deploy`] with a share of the messages.
    Tried {
        /// How much it handles.
        share: Share,
        /// The version that is tried.
        version: Version,
    },
    /// To [`Question::Rollback`] while a version was tried: that one.
    Withdrawn(Version),
    /// To [`Question::Shadow`], [`Question::Compared`] and [`Question::Unshadow`].
    Shadow(Box<ShadowStatus>),
    /// To [`Question::Pause`] and [`Question::Resume`].
    Paused(bool),
    /// To [`Question::Remove`]: whether everything that had begun had ended.
    Removed {
        /// Otherwise what was cut off comes again.
        drained: bool,
    },
    /// To [`Question::History`], the newest first.
    History(Vec<Record>),
    /// It was not done, and why.
    Refused(String),
}

/// How a version came to be live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is what was served before.
    Unchanged,
    /// It took the place of what was served before, or of nothing.
    Swapped,
}

/// A version, as far as it has one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The plugin.
    pub name: String,
    /// Its number; `None` where no versions are kept.
    pub number: Option<u64>,
    /// The digest of the component.
    pub digest: String,
}

/// A plugin of a running host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginStatus {
    /// Its name.
    pub name: String,
    /// What it does.
    pub state: State,
    /// Why nothing is received, if that is so.
    pub trouble: Option<String>,
    /// The number of its version; `None` where no versions are kept.
    pub version: Option<u64>,
    /// The digest of its component.
    pub digest: String,
    /// Since when it is live, milliseconds since 1970-01-01 UTC.
    pub since_ms: Option<i64>,
    /// Who had it served.
    pub who: Option<String>,
    /// Where its component was read.
    pub file: String,
    /// Whether an operator chose it instead of the file in the folder of plugins.
    pub deployed: bool,
    /// Its queue.
    pub queue: String,
    /// What it handles: kind, topic or schedule, description.
    pub routes: Vec<(String, String, String)>,
    /// What it may do.
    pub grants: String,
    /// How much of a busy host it gets, compared with its neighbours; `None` if it is not served.
    #[serde(default)]
    pub weight: Option<u32>,
    /// The limits that it has hit since the host was started, by name, with how often.
    #[serde(default)]
    pub limits_hit: Vec<(String, u64)>,
    /// Earlier versions that still handle what waited for routes of theirs.
    pub before: usize,
    /// The version that is tried on a share of the messages.
    pub canary: Option<Box<CanaryStatus>>,
    /// The version that gets copies of its messages.
    pub shadow: Option<Box<ShadowStatus>>,
}

/// A version that gets copies.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowStatus {
    /// The plugin.
    pub name: String,
    /// The digest of the component of the version.
    pub digest: String,
    /// Since when, milliseconds since 1970-01-01 UTC.
    pub since_ms: i64,
    /// Who wished it.
    pub who: String,
    /// Of how much of the messages; `None`: of all.
    pub share: Option<Share>,
    /// Whether it gets copies still.
    pub ended: bool,
    /// What came of them so far.
    pub compared: Compared,
}

/// A version that is tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryStatus {
    /// Its number.
    pub version: Option<u64>,
    /// The digest of its component.
    pub digest: String,
    /// Since when it is tried, milliseconds since 1970-01-01 UTC.
    pub since_ms: Option<i64>,
    /// Who had it tried.
    pub who: Option<String>,
    /// How much it handles.
    pub share: Share,
    /// What the live version did meanwhile.
    pub live: SideStatus,
    /// What this one did.
    pub canary: SideStatus,
    /// What follows from that so far.
    pub verdict: String,
}

/// What was counted of a version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SideStatus {
    /// Calls that ended.
    pub messages: u64,
    /// Messages that it called wrong.
    pub rejected: u64,
    /// Calls that failed, or asked for another attempt.
    pub failed: u64,
    /// Calls that trapped, or needed too much time or memory.
    pub crashed: u64,
    /// Half of the calls took no longer, in microseconds; without the first ones.
    pub p50_us: Option<u64>,
    /// All but one of a hundred took no longer.
    pub p99_us: Option<u64>,
}

impl From<&Side> for SideStatus {
    fn from(side: &Side) -> Self {
        Self {
            messages: side.messages(),
            rejected: side.rejected,
            failed: side.failed,
            crashed: side.crashed,
            p50_us: side.times.percentile(50),
            p99_us: side.times.percentile(99),
        }
    }
}

/// How a plugin is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It handles messages.
    Serving,
    /// It was told to let them wait.
    Paused,
    /// It cannot receive any at the moment.
    Troubled,
    /// It was removed, and is remembered.
    Removed,
    /// No version of it could be served so far.
    Refused,
}

impl State {
    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Serving => "serving",
            Self::Paused => "paused",
            Self::Troubled => "troubled",
            Self::Removed => "removed",
            Self::Refused => "refused",
        }
    }
}

impl Outcome {
    /// A refusal is no outcome but an error.
    pub(super) fn of(outcome: ReloadOutcome) -> Result<Self, String> {
        match outcome {
            ReloadOutcome::Unchanged => Ok(Self::Unchanged),
            ReloadOutcome::Swapped => Ok(Self::Swapped),
            ReloadOutcome::RolledBack(reason) => Err(reason),
        }
    }
}
