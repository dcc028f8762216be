//! What the environment makes of a test: longer, or the same as one that failed.
//!
//! Only variables that no host reads.

use std::str::FromStr;

/// The value of a variable; the usual one if it isn't set.
///
/// # Panics
/// When it cannot be read: a long run that is a short one by mistake says nothing.
#[must_use]
pub fn chosen<T: FromStr>(name: &str, usual: T) -> T {
    let Some(given) = std::env::var_os(name) else {
        return usual;
    };
    let read = given.to_str().and_then(|given| given.parse().ok());
    read.unwrap_or_else(|| panic!("{name}={given:?} cannot be read"))
}

/// The seed of a random run, which is printed: that of the variable, or one of its own for each process.
///
/// # Panics
/// When the variable is no number.
#[must_use]
pub fn seed(name: &str) -> u64 {
    let seed = chosen(name, u64::from(std::process::id()));
    println!("{name}={seed}");
    seed
}
