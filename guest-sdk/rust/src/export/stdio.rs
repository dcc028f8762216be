//! Standard output and error as lines in the host's log, and an empty environment: what stands in for the three
//! functions of the C library through which the standard library reaches WASI.
//!
//! The standard library contains a way to print panics, and that alone makes every plugin import thirteen interfaces of
//! WASI. `plugin!` defines these three functions in the plugin, so that the linker leaves the C library's out, with
//! everything behind them. This is no emulation of WASI: clocks, files and randomness are not touched, and a plugin
//! that wants the real ones says `plugin!(with wasi: …)`.

use std::ffi::c_char;

use crate::log::Level;

/// One piece of a gathered write, as in C.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct IoVec {
    start: *const u8,
    len: usize,
}

/// `write(2)`.
///
/// # Safety
/// `start` points to `len` readable bytes.
#[must_use]
#[expect(unsafe_code, reason = "the C library's signature")]
pub unsafe fn write(fd: i32, start: *const u8, len: usize) -> isize {
    // SAFETY: as promised by the caller.
    unsafe { writev(fd, &IoVec { start, len }, 1) }
}

/// `writev(2)`.
///
/// # Safety
/// `pieces` points to `count` pieces, each of which points to as many readable bytes as it says.
#[must_use]
#[expect(unsafe_code, reason = "the C library's signature")]
pub unsafe fn writev(fd: i32, pieces: *const IoVec, count: i32) -> isize {
    let level = match fd {
        1 => Level::Info,
        2 => Level::Error,
        // Nothing else can be open. `errno` stays as it is, since only the C library can reach it without WASI: who
        // writes to a closed descriptor learns that it failed, not why.
        _ => return -1,
    };
    let Ok(count) = usize::try_from(count) else {
        return -1;
    };
    if pieces.is_null() {
        return 0;
    }
    let mut text = Vec::new();
    // SAFETY: as promised by the caller.
    for piece in unsafe { std::slice::from_raw_parts(pieces, count) } {
        if !piece.start.is_null() {
            // SAFETY: as promised by the caller.
            text.extend_from_slice(unsafe { std::slice::from_raw_parts(piece.start, piece.len) });
        }
    }
    for line in String::from_utf8_lossy(&text).lines() {
        crate::log::log(level, line, Vec::new());
    }
    isize::try_from(text.len()).unwrap_or(isize::MAX)
}

/// `getenv(3)`: there is nothing in the environment; configuration comes from the host.
#[must_use]
pub const fn getenv() -> *mut c_char {
    std::ptr::null_mut()
}
