//! The testing host of the current thread, in place of a real one. Outside a test there is none: state, requests and
//! publishing are then refused, and time stands at zero.

use std::cell::RefCell;

use crate::log::Level;
use crate::publish::{Outgoing, PublishError, Reply, RequestError};
use crate::response::Response;
use crate::state::StateError;
use crate::testing::Call;

thread_local! {
    static CALL: RefCell<Option<Call>> = const { RefCell::new(None) };
}

const NO_HOST: &str = "no host; run the handler with `sandbar_guest::testing::Host`";

/// Makes `call` what the handler talks to, and gives it back when the handler has returned or panicked.
pub(crate) fn with_call<T>(call: Call, run: impl FnOnce() -> T) -> (Call, std::thread::Result<T>) {
    let outer = CALL.replace(Some(call));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    let call = CALL.replace(outer).unwrap_or_default();
    (call, result)
}

fn call<T>(run: impl FnOnce(&mut Call) -> T) -> Option<T> {
    CALL.with_borrow_mut(|call| call.as_mut().map(run))
}

pub(crate) fn publish(message: Outgoing) -> Result<(), PublishError> {
    call(|call| call.publish(message))
        .unwrap_or_else(|| Err(PublishError::Forbidden(NO_HOST.to_owned())))
}

pub(crate) fn request(
    topic: &str,
    payload: Response,
    timeout_ms: u32,
) -> Result<Reply, RequestError> {
    let responder = call(|call| call.responder(topic, &payload, timeout_ms))
        .unwrap_or_else(|| Err(RequestError::Forbidden(NO_HOST.to_owned())))?;
    // Outside the borrow: it is the test's code, and may run another host.
    responder(payload)
}

fn state<T>(run: impl FnOnce(&mut Call) -> Result<T, StateError>) -> Result<T, StateError> {
    call(run).unwrap_or_else(|| Err(StateError::Forbidden(NO_HOST.to_owned())))
}

pub(crate) fn state_get(key: &str) -> Result<Option<Vec<u8>>, StateError> {
    state(|call| call.state_get(key))
}

pub(crate) fn state_set(key: &str, value: &[u8]) -> Result<(), StateError> {
    state(|call| call.state_set(key, Some(value.to_owned())))
}

pub(crate) fn state_delete(key: &str) -> Result<(), StateError> {
    state(|call| call.state_set(key, None))
}

pub(crate) fn state_increment(key: &str, delta: i64) -> Result<i64, StateError> {
    state(|call| call.state_increment(key, delta))
}

pub(crate) fn state_list(
    prefix: &str,
    cursor: Option<&str>,
) -> Result<(Vec<String>, Option<String>), StateError> {
    state(|call| call.state_list(prefix, cursor))
}

pub(crate) fn config_get(name: &str) -> Option<String> {
    call(|call| call.config().get(name).cloned()).flatten()
}

pub(crate) fn config_all() -> Vec<(String, String)> {
    call(|call| {
        let config = call.config().iter();
        config
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    })
    .unwrap_or_default()
}

pub(crate) fn now() -> u64 {
    call(|call| call.now()).unwrap_or_default()
}

pub(crate) fn random(len: u32) -> Vec<u8> {
    call(|call| call.random(len)).unwrap_or_default()
}

pub(crate) fn uuid() -> String {
    call(Call::uuid).unwrap_or_default()
}

pub(crate) fn log(level: Level, message: &str, fields: Vec<(String, String)>) {
    call(|call| call.log(level, message, fields));
}
