//! The states of a key, and how one leads to another. `docs/hierarchy.md` has the same tables.

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

/// What is done with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// It shall wrap from now on.
    Promote,
    /// Another was promoted.
    Demote,
    /// It shall not even unwrap.
    Disable,
    /// It shall unwrap again.
    Enable,
    /// Its bytes shall be gone.
    Destroy,
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// It goes on in this state.
    Becomes(State),
    /// A tomb remains of it.
    Tomb,
}

/// The life of a key; what is not here is refused. A new key is pending.
pub const LIFE: [(State, Verb, Fate); 6] = [
    (State::Pending, Verb::Promote, Fate::Becomes(State::Primary)),
    (State::Pending, Verb::Disable, Fate::Becomes(State::Disabled)),
    (State::Primary, Verb::Demote, Fate::Becomes(State::DecryptOnly)),
    (State::DecryptOnly, Verb::Disable, Fate::Becomes(State::Disabled)),
    (State::Disabled, Verb::Enable, Fate::Becomes(State::DecryptOnly)),
    (State::Disabled, Verb::Destroy, Fate::Tomb),
];

/// What a key becomes that comes out of a backup or another lineage, unless it is chosen to be primary. None stays pending: it may
/// have been promoted after the backup was made.
pub const RETURN: [(State, State); 4] = [
    (State::Pending, State::DecryptOnly),
    (State::Primary, State::DecryptOnly),
    (State::DecryptOnly, State::DecryptOnly),
    (State::Disabled, State::Disabled),
];

impl State {
    const ALL: [Self; 4] = [Self::Pending, Self::Primary, Self::DecryptOnly, Self::Disabled];

    /// Whether Decrypt may use the key. A pending key may: a node that lags behind may need it.
    pub fn unwraps(self) -> bool {
        self != Self::Disabled
    }

    /// What becomes of a key in this state when this is done with it; none if it must not be.
    pub fn after(self, verb: Verb) -> Option<Fate> {
        LIFE.iter().find(|(state, done, _)| (*state, *done) == (self, verb)).map(|(_, _, fate)| *fate)
    }

    /// What a key in this state becomes when it is restored or merged.
    pub fn returned(self) -> Self {
        RETURN.iter().find(|(state, _)| *state == self).map_or(self, |(_, returned)| *returned)
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

impl Verb {
    /// `promoted`, as in "cannot be promoted".
    pub fn participle(self) -> &'static str {
        match self {
            Self::Promote => "promoted",
            Self::Demote => "demoted",
            Self::Disable => "disabled",
            Self::Enable => "enabled",
            Self::Destroy => "destroyed",
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Becomes(state) => state.as_str(),
            Self::Tomb => "destroyed",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_has_the_same_tables() {
        let life = LIFE.map(|(state, verb, fate)| format!("| {state} | {} | {fate} |", verb.participle()));
        assert_eq!(rows("| from | when it is | to |"), life);
        let returned = RETURN.map(|(state, returned)| format!("| {state} | {returned} |"));
        assert_eq!(rows("| in the record | restored or merged |"), returned);
    }

    /// The rows of the document's table with this head.
    fn rows(head: &str) -> Vec<&'static str> {
        let page = include_str!("../../docs/hierarchy.md");
        page.lines().skip_while(|line| *line != head).skip(2).take_while(|line| line.starts_with('|')).collect()
    }
}
