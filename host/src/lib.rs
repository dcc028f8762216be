//! Sandbar: a WebAssembly plugin host for message handlers.
//!
//! One process owns the broker; handlers are WebAssembly components in files. This is the way of a message, one module
//! for each step, in reading order:
//!
//! 1. A [`message`] is published to a [`topic`]; a [`backend`] keeps it in the queues that are bound to that topic.
//! 2. The [`pipeline`] takes a permit, then a batch of deliveries, reads each one ([`wire`]) and checks it.
//! 3. [`dispatch`] finds the action for its topic: a [`plugin`] or a native closure.
//! 4. The action handles it in a [`call`]: a [`guest`] instance inside its limits and grants, everything that it
//!    publishes and stores buffered.
//! 5. The outcome becomes a reply and a verdict; failures are tried again as the [`retry`] policy says.
//! 6. The backend commits the verdict with everything that the call did, in one transaction where it owns the [`store`].
//!
//! A [`handler`] runs one pipeline for each plugin, and [`control`] assembles them into a host. Programs that are no host
//! send with a [`publisher`], receive with a [`subscriber`] (whose [`validator`] passes over duplicates), and do both and
//! ask for replies with a [`client`], on the [`broker`] of their configuration or on any other. What an operator's tools ask
//! a running host is in [`admin`]. ARCHITECTURE.md says what
//! may know what, and which of the seeds' classes is which here.

pub mod admin;
pub mod backend;
pub mod broker;
pub mod call;
pub mod client;
pub mod clock;
pub mod config;
pub mod context;
pub mod control;
pub mod deploy;
pub mod dispatch;
pub mod guest;
pub mod handler;
pub mod http;
mod kill_point;
pub mod message;
pub mod periodic;
pub mod pipeline;
pub mod plugin;
pub mod publisher;
mod pump;
mod queue;
pub mod registry;
mod relief;
pub mod retry;
pub mod rollout;
mod share;
pub mod store;
pub mod subscriber;
pub mod telemetry;
pub mod throttle;
pub mod topic;
pub mod trial;
pub mod validator;
pub mod value;
mod watch;
pub mod wire;
