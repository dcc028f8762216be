//! What the tests share: plugins as components, hosts as processes, one body of the contract for every broker.
//!
//! Nothing of it is part of the product, and nothing of it is mocked: brokers, components and processes are real.

pub mod contract;
pub mod disk;
pub mod golden;
pub mod guests;
pub mod http;
pub mod languages;
pub mod ledger;
pub mod own_backend;
pub mod process;
pub mod raw;
pub mod schema;
pub mod servers;
pub mod settings;
pub mod traffic;
