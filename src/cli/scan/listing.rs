//! What `scan --list` prints: one line of JSON for each live object.

use std::io::{self, Write};

use crate::{
    scan::{report::ObjectLine, tally::ListedObject},
    telemetry::escape,
};

use super::super::output::OutputError;

/// The number of bytes that are collected before they are written.
const BUFFER: usize = 1 << 16;

/// Prints live objects as a scan finds them. If writing fails, the scan continues, and [`Listing::finish`] returns the
/// failure.
#[derive(Default)]
pub(super) struct Listing {
    buffer: Vec<u8>,
    failed: Option<io::Error>,
}

impl Listing {
    /// Prints the line of one object.
    pub(super) fn print(&mut self, listed: &ListedObject<'_>) {
        if self.failed.is_some() {
            return;
        }
        match serde_json::to_string(&ObjectLine::from(listed)) {
            Ok(line) => self.buffer.extend_from_slice(escape::json(&line).as_bytes()),
            Err(error) => self.failed = Some(error.into()),
        }
        self.buffer.push(b'\n');
        if self.buffer.len() >= BUFFER {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let mut out = io::stdout().lock();
        if let Err(error) = out.write_all(&self.buffer).and_then(|()| out.flush()) {
            self.failed = Some(error);
        }
        self.buffer.clear();
    }

    /// Writes the remaining bytes.
    ///
    /// # Errors
    /// When anything could not be written.
    pub(super) fn finish(mut self) -> Result<(), OutputError> {
        if self.failed.is_none() && !self.buffer.is_empty() {
            self.flush();
        }
        self.failed.map_or(Ok(()), |error| Err(error.into()))
    }
}
