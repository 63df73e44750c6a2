//! Points in time as the record writes them: `YYYY-MM-DDTHH:MM:SSZ`. They are shown to people, and no decision depends
//! on them.

use std::fmt;

const FORMAT: &str = "%Y-%m-%dT%H:%M:%SZ";

/// A point in time in UTC, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Time(jiff::Timestamp);

impl Time {
    /// Takes the second that contains `timestamp`.
    pub fn new(timestamp: jiff::Timestamp) -> Self {
        Self(jiff::Timestamp::from_second(timestamp.as_second()).unwrap_or(timestamp))
    }

    /// Reads exactly what [`Time`]'s `Display` writes.
    pub fn parse(text: &str) -> Option<Self> {
        let time = Self(text.parse().ok()?);
        (time.to_string() == text).then_some(time)
    }

    /// Returns the seconds since 1970, or 0 for an earlier time.
    pub fn seconds(self) -> u64 {
        u64::try_from(self.0.as_second()).unwrap_or(0)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.strftime(FORMAT).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_nothing_else() {
        let text = "2026-11-23T20:14:48Z";
        assert_eq!(Time::parse(text).unwrap().to_string(), text);
        for other in
            ["2026-11-23T20:14:48.5Z", "2026-11-23T20:14:48+00:00", "2026-11-23 20:14:48Z", "2026-13-01T00:00:00Z", ""]
        {
            assert_eq!(Time::parse(other), None, "{other:?}");
        }
        assert_eq!(Time::new(jiff::Timestamp::new(0, 999_999_999).unwrap()).to_string(), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn a_time_counts_its_seconds_from_1970() {
        for (text, seconds) in [("2026-11-23T20:14:48Z", 1_795_464_888), ("1969-12-31T23:59:59Z", 0)] {
            assert_eq!(Time::parse(text).unwrap().seconds(), seconds, "{text}");
        }
    }
}
