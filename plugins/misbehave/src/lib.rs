//! One handler for each way to go wrong, used by the host's tests. Not an example of how to write handlers.

mod effects;
mod hog;
mod leak;
mod outcome;
mod replayed;
mod report;
mod timed;

sandbar_guest::plugin!(
    with wasi:
    hog::spin,
    hog::trap,
    hog::memory,
    hog::huge_reply,
    hog::log_flood,
    outcome::reject,
    outcome::fail,
    outcome::retry,
    outcome::retry_forever,
    outcome::headers,
    outcome::status,
    effects::publish_forbidden,
    effects::publish_then_fail,
    effects::publish_many,
    effects::publish_huge,
    effects::state_flood,
    effects::request,
    effects::state,
    effects::ledger,
    effects::first_event,
    effects::second_event,
    effects::event_fails,
    leak::leak,
    replayed::replay,
    report::wasi,
    report::context,
    timed::tick,
);
