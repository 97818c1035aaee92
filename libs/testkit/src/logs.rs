//! A capture of the log of this process.

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
};

use tracing::{
    Event, Level, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    layer::{Context, Layer, SubscriberExt as _},
    registry,
};

/// One captured line.
#[derive(Debug, Clone)]
pub struct LogLine {
    /// How grave it is.
    pub level: Level,
    /// Message and fields as `key=value`.
    pub text: String,
}

/// Captures what is logged while it is the default subscriber of a thread.
#[derive(Debug, Clone, Default)]
pub struct LogCapture {
    lines: Arc<Mutex<Vec<LogLine>>>,
}

impl LogCapture {
    /// Captures the log of the current thread until the guard is dropped.
    #[must_use]
    pub fn start() -> (Self, tracing::subscriber::DefaultGuard) {
        let capture = Self::default();
        let guard = tracing::subscriber::set_default(registry().with(capture.clone()));
        (capture, guard)
    }

    /// Everything captured so far.
    #[must_use]
    pub fn lines(&self) -> Vec<LogLine> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lines that a person would have to look at: warnings and errors.
    #[must_use]
    pub fn troubles(&self) -> Vec<LogLine> {
        self.lines().into_iter().filter(|line| line.level <= Level::WARN).collect()
    }

    /// Whether some line holds `words`.
    #[must_use]
    pub fn mentions(&self, words: &str) -> bool {
        self.lines().iter().any(|line| line.text.contains(words))
    }
}

impl<S: Subscriber> Layer<S> for LogCapture {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let mut text = Text(String::new());
        event.record(&mut text);
        let line = LogLine { level: *event.metadata().level(), text: text.0 };
        self.lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let separator = if self.0.is_empty() { "" } else { " " };
        // Writing into a String can't fail.
        let _ = match field.name() {
            "message" => write!(self.0, "{separator}{value:?}"),
            name => write!(self.0, "{separator}{name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_captured_line_keeps_its_level_message_and_fields() {
        let (capture, _guard) = LogCapture::start();
        tracing::warn!(upload_id = "upl_1", "disk is nearly full");
        tracing::info!("all well");
        assert_eq!(capture.lines().len(), 2);
        assert_eq!(capture.troubles().len(), 1);
        assert!(capture.mentions("disk is nearly full"));
        assert!(capture.mentions("upl_1"));
    }
}
