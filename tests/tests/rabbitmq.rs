//! The broker `rabbitmq` on a real server: what other programs send and read, and what happens when the server dies,
//! freezes or ends a part of what runs over it.
//!
//! The contract that it shares with all brokers is in `contract.rs`. Every test says what it skips without a server.

#[path = "rabbitmq/clients.rs"]
mod clients;
#[path = "rabbitmq/fixture.rs"]
mod fixture;
#[path = "rabbitmq/frozen.rs"]
mod frozen;
#[path = "rabbitmq/hosts.rs"]
mod hosts;
#[path = "rabbitmq/killed.rs"]
mod killed;
#[path = "rabbitmq/operated.rs"]
mod operated;
#[path = "rabbitmq/parts.rs"]
mod parts;
#[path = "rabbitmq/queued.rs"]
mod queued;
#[path = "rabbitmq/stored.rs"]
mod stored;
#[path = "rabbitmq/tls.rs"]
mod tls;
