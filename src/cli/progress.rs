//! Shows how far a scan is, on standard error: a bar on a terminal, and a line every ten seconds elsewhere.

use std::{
    fmt,
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use indicatif::{HumanBytes, HumanCount, HumanDuration, ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

/// The time between two lines if there is no terminal. A shorter scan prints no lines.
const LINES: Duration = Duration::from_secs(10);

const BYTES: &str = "{bar:30} {percent:>3} %  {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left";
const OBJECTS: &str = "{bar:30} {percent:>3} %  {human_pos} of {objects}, {rate}, {eta} left";

/// The meter of a scan: a bar, lines, or nothing.
pub(super) struct Meter {
    bar: ProgressBar,
    lines: Option<MeterLines>,
}

struct MeterLines {
    begin: Instant,
    /// The amount that was done at the time `begin`.
    done: u64,
    next: Duration,
    show: ShowAmounts,
}

/// A function that formats the amount done and the total.
type ShowAmounts = fn(u64, u64) -> String;

impl Meter {
    /// Makes a meter for a file of `length` bytes.
    pub(super) fn bytes(is_shown: bool, length: u64) -> Self {
        Self::new(is_shown, length, BYTES, |done, length| format!("{} of {}", HumanBytes(done), HumanBytes(length)))
    }

    /// Makes a meter for objects, whose number is not known yet.
    pub(super) fn objects(is_shown: bool) -> Self {
        Self::new(is_shown, 0, OBJECTS, |done, length| format!("{} of {}", HumanCount(done), objects(length)))
    }

    fn new(is_shown: bool, length: u64, template: &str, show: ShowAmounts) -> Self {
        let is_terminal = io::stderr().is_terminal();
        let target = if is_shown && is_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(length), target);
        if let Ok(style) = ProgressStyle::with_template(template) {
            // Writing to the text of the bar cannot fail.
            let style = style.with_key("objects", |state: &ProgressState, text: &mut dyn fmt::Write| {
                let _ = text.write_str(&objects(state.len().unwrap_or(0)));
            });
            bar.set_style(style.with_key("rate", |state: &ProgressState, text: &mut dyn fmt::Write| {
                let _ = text.write_str(&rate(state.per_sec()));
            }));
        }
        let lines =
            (is_shown && !is_terminal).then(|| MeterLines { begin: Instant::now(), done: 0, next: LINES, show });
        Self { bar, lines }
    }

    /// Shows that `done` of `of` equal parts of a file are done, converted to bytes of the file.
    pub(super) fn share(&mut self, done: u64, of: u64) {
        let bytes = self.bar.length().unwrap_or(0);
        let done = u128::from(bytes) * u128::from(done) / u128::from(of.max(1));
        self.at(u64::try_from(done).unwrap_or(bytes));
    }

    /// Shows the amount done. It may fall: a file in which a key was counted twice is read again from its beginning.
    pub(super) fn at(&mut self, done: u64) {
        if done < self.bar.position() {
            self.bar.reset();
            if let Some(lines) = &mut self.lines {
                lines.begin_at(0);
            }
        }
        self.bar.set_position(done);
        let length = self.bar.length().unwrap_or(0);
        if let Some(lines) = &mut self.lines {
            lines.at(done, length);
        }
    }

    /// Notes that the work has not begun yet. The time until it begins does not count for the estimate.
    #[cfg(feature = "reencrypt")]
    pub(super) fn waits(&mut self) {
        self.bar.reset_eta();
        let done = self.bar.position();
        if let Some(lines) = &mut self.lines {
            lines.begin_at(done);
        }
    }

    /// Shows that `done` of `length` is done.
    pub(super) fn of(&mut self, done: u64, length: u64) {
        self.bar.set_length(length);
        self.at(done);
    }
}

fn objects(count: u64) -> String {
    if count == 1 { "1 object".to_owned() } else { format!("{} objects", HumanCount(count)) }
}

/// Returns a rate with commas between thousands, as in `62,002/s`, or the words for a very low rate.
fn rate(per_second: f64) -> String {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rate is positive, and shown to people"
    )]
    let rounded = per_second.round() as u64;
    if rounded == 0 { "less than 1/s".to_owned() } else { format!("{}/s", HumanCount(rounded)) }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl MeterLines {
    /// Begins to measure now. `done` is the amount that is done already.
    fn begin_at(&mut self, done: u64) {
        (self.begin, self.done, self.next) = (Instant::now(), done, LINES);
    }

    /// Estimates how long the rest takes, at the mean speed since the measurement began.
    #[allow(clippy::cast_precision_loss, reason = "an estimate for people")]
    fn left(&self, elapsed: Duration, done: u64, length: u64) -> Duration {
        elapsed.mul_f64((length - done) as f64 / (done - self.done) as f64)
    }

    fn at(&mut self, done: u64, length: u64) {
        let elapsed = self.begin.elapsed();
        if elapsed < self.next || done <= self.done || done >= length {
            return;
        }
        self.next = elapsed + LINES;
        let left = self.left(elapsed, done, length);
        let done = (self.show)(done, length);
        // If standard error is closed, nobody can read the line.
        let _ = writeln!(io::stderr(), "{done}, about {} left", HumanDuration(left));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_the_objects_once() {
        let shown = |meter: &Meter| (meter.lines.as_ref().unwrap().show)(1, 3);
        assert_eq!(shown(&Meter::objects(true)), "1 of 3 objects");
        assert_eq!(shown(&Meter::bytes(true, 3)), "1 B of 3 B");
    }

    #[test]
    #[cfg(feature = "reencrypt")]
    fn the_time_of_a_wait_does_not_count_for_the_rest() {
        let mut meter = Meter::objects(true);
        let minute = Duration::from_mins(1);
        meter.of(1, 11);
        meter.lines.as_mut().unwrap().begin -= minute;
        meter.waits();
        let lines = meter.lines.as_ref().unwrap();
        assert!(lines.begin.elapsed() < minute && lines.next == LINES);
        assert_eq!(lines.left(Duration::from_secs(10), 6, 11), Duration::from_secs(10), "five were written in 10 s");
    }

    #[test]
    fn one_object_is_no_objects() {
        assert_eq!([0, 1, 2_000].map(objects), ["0 objects", "1 object", "2,000 objects"]);
    }

    #[test]
    fn a_rate_has_commas_between_thousands() {
        assert_eq!([0.4, 999.0, 62_001.7].map(rate), ["less than 1/s", "999/s", "62,002/s"]);
    }
}
