//! Write message handlers for Sandbar as plain Rust functions.
//!
//! An attribute says which topic a function handles, and [`plugin!`] makes a component of a list of such functions:
//!
//! ```
//! use sandbar_guest::{Context, Error, Json, Result, command, event, query};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Order {
//!     id: String,
//!     total: u32,
//! }
//!
//! /// Takes an order.
//! #[command("order.create")]
//! fn create(Json(order): Json<Order>, ctx: &Context) -> Result<Json<Order>> {
//!     if order.total == 0 {
//!         return Err(Error::rejected("total: must be at least 1"));
//!     }
//!     ctx.state().set_json(&order.id, &order)?;
//!     ctx.publish("order.created", Json(&order))?;
//!     Ok(Json(order))
//! }
//!
//! /// Finds an order.
//! #[query("order.get")]
//! fn get(id: String, ctx: &Context) -> Result<Option<Json<Order>>> {
//!     Ok(ctx.state().get_json(&id)?.map(Json))
//! }
//!
//! /// Writes a line about each order of any shop.
//! #[event("shop.*.order.created")]
//! fn on_created(Json(order): Json<Order>) {
//!     sandbar_guest::info!(order = order.id, "somebody else sold something");
//! }
//!
//! sandbar_guest::plugin!(create, get, on_created);
//! # fn main() {}
//! ```
//!
//! # What a handler takes
//!
//! Nothing, or in any order at most one content and `&`[`Context`]:
//!
//! | content | decoded |
//! |---|---|
//! | [`Json<T>`] | with serde; a mistake rejects the message and names the field |
//! | `Vec<u8>` ([`Bytes`]) | not at all |
//! | `String` | as UTF-8; anything else rejects the message |
//! | [`Request`] | not at all; with everything else that belongs to the message |
//! | `Option` of these | `None` if there is no content |
//! | your own | what [`FromRequest`] says |
//!
//! # What a handler returns
//!
//! | result | reply |
//! |---|---|
//! | `()`, `None` | success without content |
//! | [`Json<T>`], `Vec<u8>`, `String` | success with that content and its content type |
//! | [`Response`] | content, status and changes to the headers, as you like |
//! | `Err(`[`Error`]`)` | rejected (400), failed (500), or another attempt later |
//! | your own | what [`IntoResponse`] says |
//!
//! Nobody waits for the reply of an event. Whatever a handler publishes or stores becomes visible together with the
//! acknowledgement of its message, and not at all if it fails.
//!
//! # Topics
//!
//! Tokens separated by dots, at most 255 bytes. A route may be a pattern: `*` stands for one token, a final `>` for one
//! or more. A command or query topic has one handler; two are an error of the compiler. An event may have several.
//!
//! # What runs around handlers
//!
//! | attribute | takes | runs |
//! |---|---|---|
//! | `#[middleware]` | [`Request`], [`Next`], [`&Context`](Context) | around one handler (`#[command("x", middleware(a, b))]`) or all of them; the first one listed is outermost |
//! | `#[before(command)]` | `&Request`, `&Context` | before every handler of the kind; an error ends the call |
//! | `check(ready)` in a handler's attribute | `&Request`, `&Context` | before that handler; `false` puts the message off |
//! | `#[after(query)]` | [`&mut Response`](Response), `&Context` | after every handler of the kind that succeeded; may change the reply |
//!
//! Kinds are `command`, `query`, `event`, `periodic` and `all`. [`plugin!`] lists hooks and the middleware of the whole
//! plugin.
//!
//! A check waits without blocking anything: the message goes back to its queue, and comes again as its next attempt.
//!
//! ```
//! use sandbar_guest::testing::Host;
//! use sandbar_guest::{Context, Request, Result, Status, command};
//!
//! fn open(_: &Request, ctx: &Context) -> Result<bool> {
//!     Ok(ctx.state().get("open")?.is_some())
//! }
//!
//! /// Five attempts, 100 ms apart, unless the attribute says otherwise.
//! #[command("order.create", check(open, max_attempts = 3, delay_ms = 500))]
//! fn create() {}
//!
//! sandbar_guest::plugin!(create);
//!
//! # fn main() {
//! let mut host = Host::new(PLUGIN).grant_state();
//! let outcome = host.send("order.create", ());
//! assert!(outcome.error().is_some_and(|error| error.is_retry()));
//!
//! // The last attempt that the check allows ends it, as wrong as if the handler had rejected it.
//! let outcome = host.message("order.create", ()).attempt(3).send();
//! assert_eq!(outcome.status(), Status::Error);
//! assert!(host.stored("open", "").send("order.create", ()).is_ok());
//! # }
//! ```
//!
//! The attempts are those of the message: if the operator allows fewer than the check, the sender gets what becomes of any
//! message whose attempts are used up (500).
//!
//! # At certain times
//!
//! ```
//! use sandbar_guest::{Context, Result, periodic};
//!
//! /// Every night at three o'clock, UTC.
//! #[periodic("0 3 * * *")]
//! fn clean_up(ctx: &Context) -> Result<()> {
//!     for key in ctx.state().keys("draft/")? {
//!         ctx.state().delete(&key)?;
//!     }
//!     Ok(())
//! }
//!
//! sandbar_guest::plugin!(clean_up);
//! # fn main() {}
//! ```
//!
//! A run is a message like any other: it has attempts, limits and a dead letter. One of a handler is under way at a
//! time; one that was missed is not made up for.
//!
//! # What a plugin is not
//!
//! It has no threads, sockets, files or clock of its own: what it needs comes through [`Context`]. Nothing in this crate
//! talks to a broker; that is the host's part. Natively compiled, a plugin runs in [`testing::Host`].

pub mod context;
pub mod log;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

mod backend;
#[doc(hidden)]
pub mod bindings;
mod config;
mod content;
mod error;
mod export;
mod headers;
mod layers;
mod publish;
mod request;
mod response;
mod route;
mod state;

pub use sandbar_guest_macros::{after, before, command, event, middleware, periodic, query};
pub use uuid::Uuid;

pub use crate::config::Config;
pub use crate::content::{Bytes, FromRequest, IntoResponse, Json};
pub use crate::context::Context;
pub use crate::error::{Error, Result};
pub use crate::headers::Headers;
pub use crate::layers::Next;
pub use crate::publish::{Publish, PublishError, Reply, RequestError, Strategy};
pub use crate::request::Request;
pub use crate::response::{Response, Status};
pub use crate::route::{Kind, Plugin, Route};
pub use crate::state::{State, StateError};

/// What the macros expand to. Not for use by hand: it changes without notice.
#[doc(hidden)]
pub mod __private {
    pub use crate::bindings;
    #[cfg(target_arch = "wasm32")]
    pub use crate::export::stdio;
    pub use crate::export::{Entry, stamp, stamp_len};
    pub use crate::layers::{
        After, AfterHook, Around, Before, BeforeHook, Ends, Middleware, check,
    };
    pub use crate::route::{Handler, plugin, route};
}

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct ReadMe;
