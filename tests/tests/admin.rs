//! What a host answers over HTTP, asked as tools do and as nobody should: real processes, real disks, real servers.

use std::net::SocketAddr;

use sandbar_tests::process::{Folder, Host};

#[path = "admin/asked.rs"]
mod asked;
#[path = "admin/guarded.rs"]
mod guarded;
#[path = "admin/numbers.rs"]
mod numbers;
#[path = "admin/ready.rs"]
mod ready;

/// A host that is asked at a port of its own.
fn host(folder: &Folder, arguments: &[&str]) -> (Host, SocketAddr) {
    let listen = ["--admin", "127.0.0.1:0"];
    let host = folder.host([arguments, &listen[..]].concat());
    let address = host.admin();
    (host, address)
}
