//! Real servers of other makers, private to the tests: started on a free loopback port with data of their own, gone with
//! the process that started them.
//!
//! Nothing is installed here. A server that is missing is said loudly, and is an error where `CI` is set.

pub mod pgbouncer;
pub mod postgres;

/// Says that tests are skipped because a server is missing.
///
/// # Panics
/// In CI, where nothing may be missing.
fn missing(what: &str, package: &str) {
    let text = format!("{what} is not installed; install the package {package}");
    assert!(std::env::var_os("CI").is_none(), "{text}");
    // Past the capture of the test harness.
    let loud = format!("\nSKIPPED: {text}\n");
    std::io::Write::write_all(&mut std::io::stderr(), loud.as_bytes()).ok();
}
