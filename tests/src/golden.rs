//! Golden files: what a command says, byte for byte, except for what differs from run to run.
//!
//! They are in `tests/golden`; `INSTA_UPDATE=always cargo test -p sandbar-tests` writes them anew, and the change is
//! then read as any other.

use std::path::Path;

use crate::process::Finished;

/// Compares the end of a command with its golden file.
pub fn check(name: &str, folder: &Path, finished: &Finished) {
    let code = finished
        .code
        .map_or_else(|| "none".to_owned(), |code| code.to_string());
    let mut text = format!("exit code: {code}\n");
    for (stream, content) in [("stdout", &finished.stdout), ("stderr", &finished.stderr)] {
        if !content.is_empty() {
            text.push_str(&format!("-- {stream}\n{content}"));
        }
    }
    // A path that is longer on one machine would wrap a line differently; none is ever wrapped.
    let text = text.replace(&folder.display().to_string(), "[folder]");
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../golden");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for (pattern, instead) in [
        (r"sha256:[0-9a-f]{12,64}", "sha256:[digest]"),
        (
            r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}",
            "[id]",
        ),
        (r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "[time]"),
        (r"\b[0-9.]+ (s|ms|µs)\b", "[duration]"),
        // Only a slow machine says so.
        (r"compiling the plugins…\n", ""),
        (r"by process \d+", "by process [number]"),
        (r"[0-9,]+ messages/s", "[rate] messages/s"),
        (r"at byte \d+", "at byte [offset]"),
    ] {
        settings.add_filter(pattern, instead);
    }
    settings.bind(|| insta::assert_snapshot!(name, text));
}
