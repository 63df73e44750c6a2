//! Writes an error and its causes in one line.

use std::error::Error;

/// Joins an error and its causes in one line. Skips a cause whose text is already there.
pub fn causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let one = error.to_string();
        if !text.contains(&one) {
            text.push_str(": ");
            text.push_str(&one);
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Outer(&'static str, #[source] std::fmt::Error);

    #[test]
    fn each_cause_is_said_once() {
        let inner = std::fmt::Error;
        let said = inner.to_string();
        assert_eq!(causes(&inner), said);
        assert_eq!(causes(&Outer("connecting", inner)), format!("connecting: {said}"));
        let whole = format!("connecting failed: {said}");
        assert_eq!(causes(&Outer(whole.clone().leak(), inner)), whole);
    }
}
