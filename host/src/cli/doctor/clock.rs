//! Whether the clock can be right: it is after this program was made, and the file system agrees.

use std::time::UNIX_EPOCH;

use sandbar::clock;
use sandbar::config::Config;

use super::super::moment::moment;
use super::{Check, Finding};

/// No copy of this program was run earlier: 2025-01-01.
const EARLIEST_MS: i64 = 1_735_689_600_000;
/// How much the file system may differ.
const SLACK_MS: i64 = 2_000;

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let now = clock::now_ms();
    if now < EARLIEST_MS {
        return vec![Finding::fail(
            Check::Clock,
            format!(
                "it says {}, which is before this program was made",
                moment(now)
            ),
            "set it, best with NTP; delays, retries and ages are wrong until then",
        )];
    }
    let mut findings = vec![Finding::ok(Check::Clock, moment(now))];
    let folder = &config.data.value;
    if let Some(other) = touched(folder)
        && (other - now).abs() > SLACK_MS
    {
        findings.push(Finding::warn(
            Check::Clock,
            format!(
                "the file system of {} says {}",
                folder.display(),
                moment(other)
            ),
            "set both clocks with NTP",
        ));
    }
    findings
}

/// When the file system thinks that it is.
fn touched(folder: &std::path::Path) -> Option<i64> {
    let file = tempfile::tempfile_in(folder).ok()?;
    let modified = file.metadata().ok()?.modified().ok()?;
    let age = modified.duration_since(UNIX_EPOCH).ok()?;
    i64::try_from(age.as_millis()).ok()
}
