//! What a guest says: its log lines, and what it prints, in the log of the host.
//!
//! Cut where its budget ends, which is said once for each call.

use super::State;
use super::meter::{self, Line};
use crate::plugin::Limit;

impl State {
    /// One line of the guest for the log of the host.
    pub(super) fn log_line(
        &mut self,
        level: tracing::Level,
        text: &str,
        fields: &[(String, String)],
    ) {
        let size = text.len()
            + fields
                .iter()
                .map(|(name, value)| name.len() + value.len())
                .sum::<usize>();
        let line = self.log.take(size);
        if line != Line::Logged {
            return self.cut_log(line);
        }
        let mut line = meter::printable(text, 8192);
        for (name, value) in fields {
            line.push_str(&format!(
                " {}={}",
                meter::printable(name, 64),
                meter::printable(value, 1024)
            ));
        }
        self.config.secrets.redact_text(&mut line);
        if let Some(call) = &mut self.call {
            let level = level.as_str().to_ascii_lowercase();
            call.logged(format!("{level}: {line}"));
        }
        let (plugin, message_id) = (&*self.plugin, self.message_id());
        match level {
            tracing::Level::ERROR => tracing::error!(plugin, message_id, "{line}"),
            tracing::Level::WARN => tracing::warn!(plugin, message_id, "{line}"),
            tracing::Level::INFO => tracing::info!(plugin, message_id, "{line}"),
            tracing::Level::DEBUG => tracing::debug!(plugin, message_id, "{line}"),
            tracing::Level::TRACE => tracing::trace!(plugin, message_id, "{line}"),
        }
    }

    fn message_id(&self) -> Option<tracing::field::DisplayValue<uuid::Uuid>> {
        let message = self.call.as_ref().map(|call| call.message.identifier);
        message.map(tracing::field::display)
    }

    /// Says once that what follows is not logged.
    fn cut_log(&mut self, line: Line) {
        let Line::Cut(limit) = line else { return };
        let (plugin, message_id, name) = (&*self.plugin, self.message_id(), limit.name());
        tracing::warn!(
            plugin,
            message_id,
            "its log is cut here; raise `limits.{name}`"
        );
        if let Some(call) = &mut self.call {
            call.hit(limit);
        }
    }

    /// What was printed becomes lines of the log.
    pub(super) fn flush_output(&mut self) {
        let Some((output, cut)) = self.wasi.as_ref().map(|wasi| wasi.take_output()) else {
            return;
        };
        for line in String::from_utf8_lossy(&output)
            .lines()
            .filter(|line| !line.trim().is_empty())
        {
            self.log_line(tracing::Level::INFO, line, &[]);
        }
        if cut {
            let line = self.log.cut(Limit::LogBytes);
            self.cut_log(line);
        }
    }
}
