//! A call whose panic costs its own message and nothing else.
//!
//! A panic here is a defect of the host or of a native action; guests trap instead.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt as _;

use super::{Action, Outcome};
use crate::call::Call;
use crate::store::Reason;

/// Calls the action; a panic becomes a crash.
pub async fn guarded(call: Call, action: &dyn Action) -> (Call, Outcome) {
    let (message, access) = (call.message.clone(), Arc::clone(call.access()));
    let (attempt, route, began_ms) = (call.attempt, call.route, call.began_ms);
    // Whatever the panic left behind belongs to this call alone and is dropped with it.
    match AssertUnwindSafe(action.call(call)).catch_unwind().await {
        Ok(ended) => ended,
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(ToString::to_string);
            let text = text
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            let outcome = Outcome::Crashed {
                reason: Reason::Trap,
                error: format!("the action panicked: {text}"),
            };
            (
                Call::new(access, message, attempt, route, began_ms),
                outcome,
            )
        }
    }
}
