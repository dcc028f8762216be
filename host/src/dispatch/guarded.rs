//! A call whose panic costs its own message and nothing else.
//!
//! A panic here is a defect of the host or of a native action; guests trap instead.

use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;

use super::{Action, Outcome};
use crate::call::Call;
use crate::store::Reason;

/// Calls the action; a panic becomes a crash, and takes the call with it.
pub async fn guarded(call: Call, action: &dyn Action) -> (Option<Call>, Outcome) {
    // Whatever the panic left behind belongs to this call alone and is dropped with it.
    match AssertUnwindSafe(action.call(call)).catch_unwind().await {
        Ok((call, outcome)) => (Some(call), outcome),
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(ToString::to_string);
            let text = text
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            let outcome = Outcome::Crashed {
                reason: Reason::Trap,
                error: format!("the action panicked: {text}"),
            };
            (None, outcome)
        }
    }
}
