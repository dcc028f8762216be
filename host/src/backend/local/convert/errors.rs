//! The errors of the owner, as a client sees them: the same ones.

use super::super::frame::Illegible;
use super::super::protocol::{Fault, Refusal, StoreFault, Unsettled};
use super::parse;
use crate::backend::{BackendError, PublishError, SettleError};
use crate::store::StoreError;

impl<'a> From<&'a BackendError> for Fault<'a> {
    fn from(error: &'a BackendError) -> Self {
        match error {
            BackendError::Unavailable(text) => Self::Unavailable(text),
            BackendError::Invalid(text) => Self::Invalid(text),
            BackendError::UnknownQueue(name) => Self::UnknownQueue(name.as_str()),
            BackendError::Closed => Self::Closed,
        }
    }
}

impl Fault<'_> {
    pub(in super::super) fn read(self) -> Result<BackendError, Illegible> {
        Ok(match self {
            Self::Unavailable(text) => BackendError::Unavailable(text.to_owned()),
            Self::Invalid(text) => BackendError::Invalid(text.to_owned()),
            Self::UnknownQueue(name) => BackendError::UnknownQueue(parse(name)?),
            Self::Closed => BackendError::Closed,
        })
    }
}

impl<'a> From<&'a PublishError> for Refusal<'a> {
    fn from(error: &'a PublishError) -> Self {
        match error {
            PublishError::TooLarge { size, limit } => Self::TooLarge {
                size: *size as u64,
                limit: *limit as u64,
            },
            PublishError::Invalid(text) => Self::Invalid(text),
            PublishError::Unroutable(topic) => Self::Unroutable(topic.as_str()),
            PublishError::UnknownQueue(name) => Self::UnknownQueue(name.as_str()),
            PublishError::Full(name) => Self::Full(name.as_str()),
            PublishError::Unavailable(text) => Self::Unavailable(text),
            PublishError::Closed => Self::Closed,
        }
    }
}

impl Refusal<'_> {
    pub(in super::super) fn read(self) -> Result<PublishError, Illegible> {
        let bytes = |n: u64| usize::try_from(n).unwrap_or(usize::MAX);
        Ok(match self {
            Self::TooLarge { size, limit } => PublishError::TooLarge {
                size: bytes(size),
                limit: bytes(limit),
            },
            Self::Invalid(text) => PublishError::Invalid(text.to_owned()),
            Self::Unroutable(topic) => PublishError::Unroutable(parse(topic)?),
            Self::UnknownQueue(name) => PublishError::UnknownQueue(parse(name)?),
            Self::Full(name) => PublishError::Full(parse(name)?),
            Self::Unavailable(text) => PublishError::Unavailable(text.to_owned()),
            Self::Closed => PublishError::Closed,
        })
    }
}

impl<'a> From<&'a SettleError> for Unsettled<'a> {
    fn from(error: &'a SettleError) -> Self {
        match error {
            SettleError::Stale => Self::Stale,
            SettleError::Conflict => Self::Conflict,
            SettleError::Refused(error) => Self::Refused(error.into()),
            SettleError::Unavailable(text) => Self::Unavailable(text),
            SettleError::Closed => Self::Closed,
        }
    }
}

impl Unsettled<'_> {
    pub(in super::super) fn read(self) -> Result<SettleError, Illegible> {
        Ok(match self {
            Self::Stale => SettleError::Stale,
            Self::Conflict => SettleError::Conflict,
            Self::Refused(refusal) => SettleError::Refused(refusal.read()?),
            Self::Unavailable(text) => SettleError::Unavailable(text.to_owned()),
            Self::Closed => SettleError::Closed,
        })
    }
}

impl<'a> From<&'a StoreError> for StoreFault<'a> {
    fn from(error: &'a StoreError) -> Self {
        match error {
            StoreError::Unavailable(text) => Self::Unavailable(text),
            StoreError::Corrupt(text) => Self::Corrupt(text),
            StoreError::Unsupported(text) => Self::Unsupported(text),
        }
    }
}

impl StoreFault<'_> {
    pub(in super::super) fn read(self) -> StoreError {
        match self {
            Self::Unavailable(text) => StoreError::Unavailable(text.to_owned()),
            Self::Corrupt(text) => StoreError::Corrupt(text.to_owned()),
            Self::Unsupported(text) => StoreError::Unsupported(text.to_owned()),
        }
    }
}
