//! Shows on the terminal what a test waits for. A first build takes minutes, and without a line it would seem to hang.
//!
//! Everything is written directly to standard error, because `cargo test` captures the output of the print macros.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The time between two lines, if standard error is not a terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// A long wait that is shown: by a spinner on a terminal, and by a line now and then elsewhere.
pub(crate) struct Progress {
    what: String,
    /// The expected duration, for example "about 4 min".
    limit: String,
    started: Instant,
    last_line: Instant,
    spinner: Option<ProgressBar>,
}

impl Progress {
    /// Begins to show a wait. `what` is for example "building kube-apiserver v1.37.2", and `limit` "about 4 min".
    pub(crate) fn start(what: &str, why: &str, limit: &str, started: Instant) -> Self {
        say(&format!("{what}: {why}, {limit}"));
        Self {
            what: what.to_owned(),
            limit: limit.to_owned(),
            started,
            last_line: Instant::now(),
            spinner: std::io::stderr().is_terminal().then(|| spinner(what, limit, started)),
        }
    }

    /// Writes a line if it is time for one. The spinner turns by itself. Call this function often.
    pub(crate) fn tick(&mut self) {
        if self.spinner.is_some() || self.last_line.elapsed() < LINE_EVERY {
            return;
        }
        self.last_line = Instant::now();
        let elapsed = human(self.started.elapsed());
        say(&format!("{}: {elapsed} of {}", self.what, self.limit));
    }

    /// Ends the wait with one line about its outcome and its duration.
    pub(crate) fn finish(self, outcome: &str) {
        if let Some(spinner) = self.spinner {
            spinner.finish_and_clear();
        }
        let elapsed = human(self.started.elapsed());
        say(&format!("{}: {outcome} after {elapsed}", self.what));
    }
}

/// Writes one line to standard error, past the capture of `cargo test`.
///
/// A closed standard error is nobody's problem here, so the result is dropped.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "control plane: {line}");
}

/// Prints that a test is skipped because this machine cannot run it, and the reason. It is one line, so that a log can
/// be searched.
pub(crate) fn skipped(why: &str) {
    let _ = writeln!(std::io::stderr().lock(), "skipped: {why}");
}

/// Returns a duration: in seconds below two minutes, and in minutes and seconds above.
pub(crate) fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match (seconds / 60, seconds % 60) {
        (0 | 1, _) => format!("{seconds} s"),
        (minutes, 0) => format!("{minutes} min"),
        (minutes, rest) => format!("{minutes} min {rest} s"),
    }
}

fn spinner(what: &str, limit: &str, started: Instant) -> ProgressBar {
    let target = ProgressDrawTarget::stderr();
    let spinner = ProgressBar::with_draw_target(None, target).with_elapsed(started.elapsed());
    // The message comes before the style, because setting the style draws at once.
    spinner.set_message(what.to_owned());
    spinner.set_prefix(limit.to_owned());
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed} of {prefix})") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(120));
    spinner
}
