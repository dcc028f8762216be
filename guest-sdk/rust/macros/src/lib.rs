//! The attributes of `sandbar-guest`, which re-exports and documents them: handlers (`#[command]`, `#[query]`, `#[event]`,
//! `#[periodic]`) and what runs around them (`#[before]`, `#[after]`, `#[middleware]`).
//!
//! They only look at one function at a time. What needs all of them (two handlers on one topic) is checked by
//! `sandbar_guest::plugin!`; what needs types (is this a parameter? is this a reply?) by the traits of the SDK.

mod arguments;
mod function;
mod handler;
mod hook;
mod schedule;
mod topic;

use proc_macro::TokenStream;
use syn::{ItemFn, Result, parse_macro_input};

use crate::handler::{Handler, Kind};
use crate::hook::{Hook, Place};

/// Marks a function as the handler of the commands on a topic: they change something and may be answered.
///
/// A topic has one handler for commands and queries. See the documentation of `sandbar_guest` for what a handler may
/// take and return.
///
/// After the topic, in any order: `middleware(a, b)` runs these around the handler, the first one outermost;
/// `check(ready, max_attempts = 5, delay_ms = 100)` puts the message off until the function `ready` says `true`.
#[proc_macro_attribute]
pub fn command(attribute: TokenStream, item: TokenStream) -> TokenStream {
    handler(Kind::Command, attribute, item)
}

/// Marks a function as the handler of the queries on a topic: they ask something and are answered.
///
/// A topic has one handler for commands and queries. See the documentation of `sandbar_guest` for what a handler may
/// take and return, and [`command`](macro@command) for middleware and checks.
#[proc_macro_attribute]
pub fn query(attribute: TokenStream, item: TokenStream) -> TokenStream {
    handler(Kind::Query, attribute, item)
}

/// Marks a function as a handler of the events on a topic: something happened, and nobody waits for an answer.
///
/// Any number of functions may handle the same event; each gets its own copy and its own attempts. See the
/// documentation of `sandbar_guest` for what a handler may take and return, and [`command`](macro@command) for
/// middleware and checks.
#[proc_macro_attribute]
pub fn event(attribute: TokenStream, item: TokenStream) -> TokenStream {
    handler(Kind::Event, attribute, item)
}

/// Marks a function as something to do at certain times, given as a cron expression in UTC: minute, hour, day of month,
/// month, day of week.
///
/// One run of it is under way at a time, and one that was missed is not made up for. It can fail and be retried like any
/// other handler, and take middleware and checks like a [`command`](macro@command); nobody gets what it returns.
#[proc_macro_attribute]
pub fn periodic(attribute: TokenStream, item: TokenStream) -> TokenStream {
    handler(Kind::Periodic, attribute, item)
}

/// Marks a function that runs before every handler of a kind: `command`, `query`, `event`, `periodic` or `all`.
///
/// It takes `&Request` and `&Context`, or one of them, or nothing. An error ends the call. `plugin!` lists it.
#[proc_macro_attribute]
pub fn before(attribute: TokenStream, item: TokenStream) -> TokenStream {
    hook(Place::Before, attribute, item)
}

/// Marks a function that runs after every handler of a kind that has succeeded: `command`, `query`, `event`, `periodic`
/// or `all`.
///
/// It takes `&mut Response` and `&Context`, or one of them, or nothing. An error ends the call. `plugin!` lists it.
#[proc_macro_attribute]
pub fn after(attribute: TokenStream, item: TokenStream) -> TokenStream {
    hook(Place::After, attribute, item)
}

/// Marks a function that runs around a handler, or around all of them.
///
/// It takes the `Request`, a `Next<'_>` that leads to the handler, and `&Context` if it wants. It is listed in the
/// attribute of a handler or in `plugin!`; the first one listed is outermost.
#[proc_macro_attribute]
pub fn middleware(attribute: TokenStream, item: TokenStream) -> TokenStream {
    hook(Place::Around, attribute, item)
}

fn handler(kind: Kind, attribute: TokenStream, item: TokenStream) -> TokenStream {
    let arguments = arguments::parse(kind, attribute.into());
    expand(
        item,
        |function| Ok(Handler::new(kind, arguments?, function)?.expand()),
        |function| handler::stand_in(kind, function),
    )
}

fn hook(place: Place, attribute: TokenStream, item: TokenStream) -> TokenStream {
    expand(
        item,
        |function| Ok(Hook::new(place, attribute.into(), function)?.expand()),
        |function| hook::stand_in(place, function),
    )
}

/// What `expand` makes of the function; if it is in error, the function as it was written, with a stand-in for what the
/// attribute would have made, so that the mistake is the only one reported.
fn expand(
    item: TokenStream,
    expand: impl FnOnce(ItemFn) -> Result<proc_macro2::TokenStream>,
    stand_in: impl FnOnce(&ItemFn) -> proc_macro2::TokenStream,
) -> TokenStream {
    let written = item.clone();
    let function = parse_macro_input!(item as ItemFn);
    // Nothing for a method, since there can't be types beside it.
    let stand_in = match function.sig.receiver() {
        Some(_) => proc_macro2::TokenStream::new(),
        None => stand_in(&function),
    };
    match expand(function) {
        Ok(expanded) => expanded.into(),
        Err(error) => {
            let mut out = proc_macro2::TokenStream::from(written);
            out.extend(stand_in);
            out.extend(error.to_compile_error());
            out.into()
        }
    }
}
