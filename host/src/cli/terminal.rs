//! Standard output for data, standard error for people: colours and bars only where there is a terminal.
//!
//! Decides how things look, not what is said.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Standard output was closed by whoever read it.
#[derive(Debug, thiserror::Error)]
#[error("standard output is closed")]
pub(super) struct Closed;

/// Writes data, at once and in full.
pub(super) fn data(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Closed.into()),
        Err(error) => Err(anyhow::Error::new(error).context("standard output cannot be written")),
    }
}

/// Writes one line of data.
pub(super) fn line(text: impl fmt::Display) -> anyhow::Result<()> {
    data(format!("{text}\n").as_bytes())
}

/// Writes a value as one line of JSON.
pub(super) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    line(serde_json::to_string(value)?)
}

/// Writes one line for people.
pub(super) fn note(text: impl fmt::Display) {
    // Nobody reads it if it cannot be written.
    writeln!(io::stderr().lock(), "{text}").ok();
}

/// Prints an error with its causes, one per line.
pub(super) fn error(error: &anyhow::Error) {
    let mut text = format!(
        "{} {}",
        paint("error:", Style::Bad),
        printable(&error.to_string())
    );
    let mut said = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Many errors repeat their cause in their own text.
        if !said.contains(&cause) {
            text.push_str(&format!("\n  because: {}", printable(&cause)));
            said = cause;
        }
    }
    note(text);
}

/// Prints several errors, one per line, and how many they are.
pub(super) fn errors<T: fmt::Display>(errors: &[T]) {
    for error in errors {
        let text = printable(&error.to_string());
        note(format!("{} {text}", paint("error:", Style::Bad)));
    }
    if errors.len() > 1 {
        note(format!("problems: {}", errors.len()));
    }
}

/// What colours mean.
#[derive(Debug, Clone, Copy)]
pub(super) enum Style {
    Bad,
    Good,
    Strong,
}

/// Colours a word on standard error, if that is a terminal and nobody minds.
pub(super) fn paint(text: &str, style: Style) -> Cow<'_, str> {
    if !io::stderr().is_terminal() || std::env::var_os("NO_COLOR").is_some() {
        return Cow::Borrowed(text);
    }
    let code = match style {
        Style::Bad => "1;31",
        Style::Good => "1;32",
        Style::Strong => "1",
    };
    Cow::Owned(format!("\u{1b}[{code}m{text}\u{1b}[0m"))
}

/// Text of others without what a terminal would obey.
pub(super) fn printable(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() && c != '\n' && c != '\t' {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// A bar on a terminal, nothing elsewhere. It goes away when it is dropped.
#[derive(Debug)]
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// A bar of so many steps; a spinner when nobody knows how many.
    pub(super) fn new(label: &'static str, steps: Option<u64>) -> Self {
        let bar = ProgressBar::with_draw_target(steps, ProgressDrawTarget::stderr());
        let template = match steps {
            Some(_) => "{prefix} [{bar:30}] {percent}%",
            None => "{prefix} {spinner}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(label);
        Self(bar)
    }

    /// A spinner that says what is going on.
    pub(super) fn waiting(text: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_prefix(text);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self(bar)
    }

    pub(super) fn set(&self, position: u64) {
        self.0.set_position(position);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// A duration as people say it.
pub(super) fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds >= 10.0 {
        format!("{seconds:.0} s")
    } else if seconds >= 1.0 {
        format!("{seconds:.1} s")
    } else if seconds >= 0.001 {
        format!("{:.1} ms", seconds * 1000.0)
    } else {
        format!("{:.0} µs", seconds * 1_000_000.0)
    }
}

/// A number with commas between the thousands.
pub(super) fn count(number: impl TryInto<u64>) -> String {
    let Ok(number) = number.try_into() else {
        return "?".to_owned();
    };
    indicatif::HumanCount(number).to_string()
}

/// How many per second.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "floats saturate, and a rate is no exact number"
)]
pub(super) fn rate(number: u64, elapsed: Duration) -> String {
    count((number as f64 / elapsed.as_secs_f64().max(1e-9)).round() as u64)
}
