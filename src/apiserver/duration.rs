//! Durations as Go writes them: `3s`, `1m30s`, `1.5h`. Source: `time.ParseDuration`.

use std::time::Duration;

/// The units of time, each with its length in nanoseconds. Longer names come first.
const UNITS: [(&str, f64); 8] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

/// Reads a duration above zero. Returns `None` for anything else.
pub(super) fn positive_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (digits, unit_and_rest) = rest.split_at(number);
        let (unit, length) = UNITS.iter().find(|(unit, _)| unit_and_rest.starts_with(unit))?;
        if !digits.contains(|c: char| c.is_ascii_digit()) || digits.matches('.').count() > 1 {
            return None;
        }
        // Go parses `.5` and `1.`, as Rust does.
        let nanoseconds = digits.parse::<f64>().ok()? * length;
        let part = Duration::try_from_secs_f64(nanoseconds / 1e9).ok()?;
        // Rounds a fraction of a nanosecond up, because kube-apiserver accepts it as above zero.
        let part = if part.is_zero() && nanoseconds > 0.0 { Duration::from_nanos(1) } else { part };
        total = total.checked_add(part)?;
        rest = &unit_and_rest[unit.len()..];
    }
    (!total.is_zero()).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, milliseconds) in
            [("3s", 3000), ("1m30s", 90_000), ("1.5h", 5_400_000), (".5s", 500), ("1.s", 1000), ("+2ms", 2)]
        {
            assert_eq!(positive_duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        assert!(positive_duration("0.1ns").is_some());
        for wrong in ["", "3", "s", "0s", "-3s", "3 s", "1..5s", "3x", "1e3s", "9999999999999999999999h"] {
            assert_eq!(positive_duration(wrong), None, "{wrong}");
        }
    }
}
