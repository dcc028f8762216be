//! What is logged while one message is handled, kept instead of written.

use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// The most lines that are kept; a guest is cut off long before.
const MOST: usize = 1_000;

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// How important.
    pub level: Level,
    /// What.
    pub text: String,
}

/// A layer that keeps the lines of guests, and warnings about them.
#[derive(Debug, Clone, Default)]
pub(super) struct Lines(Arc<Mutex<Vec<LogLine>>>);

impl Lines {
    pub(super) fn take(&self) -> Vec<LogLine> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = Line::default();
        event.record(&mut line);
        // What libraries and the engine log is not about the plugin.
        if !line.about_plugin {
            return;
        }
        let mut lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() < MOST {
            lines.push(LogLine {
                level: *event.metadata().level(),
                text: line.text,
            });
        }
    }
}

/// The message of an event; its fields say nothing that the reader of a trial doesn't know.
#[derive(Default)]
struct Line {
    text: String,
    about_plugin: bool,
}

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            // Writing into a text never fails.
            "message" => drop(write!(self.text, "{value:?}")),
            "plugin" => self.about_plugin = true,
            _ => {}
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.text.push_str(value),
            "plugin" => self.about_plugin = true,
            _ => {}
        }
    }
}
