//! Lines in the host's log, which adds plugin, version, message and trace. Not for data: at most 100 lines per call
//! are kept, and control characters are removed.

use crate::backend;

/// How important a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Every step.
    Trace,
    /// For finding a mistake.
    Debug,
    /// What an operator may want to know.
    Info,
    /// What an operator should look at some time.
    Warn,
    /// What an operator should look at now.
    Error,
}

/// Writes a line; the macros `trace!`, `debug!`, `info!`, `warn!` and `error!` are shorter.
pub fn log(level: Level, message: &str, fields: Vec<(String, String)>) {
    backend::log(level, message, fields);
}

/// Writes a line of the given [`Level`](crate::log::Level): fields first, then the text.
#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:ident; $($name:ident = $value:expr,)* $text:literal $($rest:tt)*) => {
        $crate::log::log(
            $crate::log::Level::$level,
            &::std::format!($text $($rest)*),
            ::std::vec![$((::std::string::String::from(::core::stringify!($name)), ::std::string::ToString::to_string(&$value))),*],
        )
    };
}

/// Writes a line to the host's log at level trace. See [`info!`](crate::info).
#[macro_export]
macro_rules! trace {
    ($($line:tt)+) => { $crate::__log!(Trace; $($line)+) };
}

/// Writes a line to the host's log at level debug. See [`info!`](crate::info).
#[macro_export]
macro_rules! debug {
    ($($line:tt)+) => { $crate::__log!(Debug; $($line)+) };
}

/// Writes a line to the host's log at level info.
///
/// Fields come first, as `name = value` with anything that implements `Display`; then a text as in `format!`.
///
/// ```
/// let order = "o-1";
/// sandbar_guest::info!("order {order} created");
/// sandbar_guest::info!(order = order, total = 3, "order created");
/// ```
#[macro_export]
macro_rules! info {
    ($($line:tt)+) => { $crate::__log!(Info; $($line)+) };
}

/// Writes a line to the host's log at level warn. See [`info!`](crate::info).
#[macro_export]
macro_rules! warn {
    ($($line:tt)+) => { $crate::__log!(Warn; $($line)+) };
}

/// Writes a line to the host's log at level error. See [`info!`](crate::info).
#[macro_export]
macro_rules! error {
    ($($line:tt)+) => { $crate::__log!(Error; $($line)+) };
}
