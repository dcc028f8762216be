//! A message that a validator let pass, until it is known how it ended.
//!
//! It judges nothing.

use std::sync::Arc;

use super::Validator;
use crate::message::Message;
use crate::store::StateEffects;

/// Tells the validator that the message was released, unless it was [committed](Self::commit).
#[derive(Debug)]
pub(crate) struct Checked {
    validator: Arc<dyn Validator>,
    message: Arc<Message>,
    committed: bool,
}

impl Checked {
    pub(crate) fn new(validator: Arc<dyn Validator>, message: Arc<Message>) -> Self {
        Self {
            validator,
            message,
            committed: false,
        }
    }

    pub(crate) fn record(&self) -> Option<Box<StateEffects>> {
        self.validator.record(&self.message)
    }

    pub(crate) fn commit(mut self) {
        self.committed = true;
        self.validator.committed(&self.message);
    }
}

impl Drop for Checked {
    fn drop(&mut self) {
        if !self.committed {
            self.validator.released(&self.message);
        }
    }
}
