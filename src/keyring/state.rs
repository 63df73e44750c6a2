//! The states of a key. `docs/hierarchy.md` has the same table.

use std::fmt;

/// Where a key is in its life. A destroyed key is no state of a key: it is a tomb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Made, and not yet announced.
    Pending,
    /// Wraps; exactly one.
    Primary,
    /// Wrapped once, and still unwraps.
    DecryptOnly,
    /// Neither wraps nor unwraps; its bytes are kept.
    Disabled,
}

impl State {
    const ALL: [Self; 4] = [Self::Pending, Self::Primary, Self::DecryptOnly, Self::Disabled];

    /// Whether Decrypt may use the key. A pending key may: a node that lags behind may need it.
    pub fn unwraps(self) -> bool {
        self != Self::Disabled
    }

    /// The word in the record, the command line and the logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Primary => "primary",
            Self::DecryptOnly => "decrypt-only",
            Self::Disabled => "disabled",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == word)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}
