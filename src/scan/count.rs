//! Formats a number for people.

use std::fmt::{self, Display, Formatter};

/// A number that is shown with a comma between thousands: `1,234,567`.
#[derive(Debug, Clone, Copy)]
pub struct Count(pub u64);

impl Count {
    /// Returns the number with its noun: `1 object`, or `2,000 objects`.
    pub fn of(self, noun: &str) -> String {
        if self.0 == 1 { format!("1 {noun}") } else { format!("{self} {noun}s") }
    }
}

impl Display for Count {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        for (index, digit) in digits.char_indices() {
            if index > 0 && (digits.len() - index).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        let shown = [0, 7, 999, 1_000, 12_345, 999_999, 1_000_000, u64::MAX].map(|count| Count(count).to_string());
        let expected = ["0", "7", "999", "1,000", "12,345", "999,999", "1,000,000", "18,446,744,073,709,551,615"];
        assert_eq!(shown, expected);
        assert_eq!([0, 1, 2_000].map(|count| Count(count).of("key")), ["0 keys", "1 key", "2,000 keys"]);
    }
}
