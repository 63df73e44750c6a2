//! The states of a key, and the verbs that lead from one to another. `docs/hierarchy.md` has the same tables.

use std::fmt;

/// The state of a key. A destroyed key has no state: only its tomb is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// The key is made, and not yet announced. It does not wrap.
    Pending,
    /// The key wraps. Exactly one key is primary.
    Primary,
    /// The key wrapped earlier, and still unwraps.
    DecryptOnly,
    /// The key neither wraps nor unwraps. Its bytes are kept.
    Disabled,
}

/// A change of a key's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Make the key primary: it wraps from now on.
    Promote,
    /// Make the key decrypt-only, because another key was promoted.
    Demote,
    /// Disable the key: it does not even unwrap.
    Disable,
    /// Enable the key: it unwraps again.
    Enable,
    /// Destroy the key: its bytes are removed.
    Destroy,
}

/// The result of a verb: another state, or the tomb.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    /// The key is in this state.
    Becomes(State),
    /// The key is destroyed, and only its tomb is left.
    Tomb,
}

/// The transitions of a key: state, verb, and the next state or the tomb. A transition that is not listed is refused. A
/// new key is pending. A compromised key never becomes [`FORBIDDEN_IF_COMPROMISED`].
pub const TRANSITIONS: [(State, Verb, Fate); 6] = [
    (State::Pending, Verb::Promote, Fate::Becomes(State::Primary)),
    (State::Pending, Verb::Disable, Fate::Becomes(State::Disabled)),
    (State::Primary, Verb::Demote, Fate::Becomes(State::DecryptOnly)),
    (State::DecryptOnly, Verb::Disable, Fate::Becomes(State::Disabled)),
    (State::Disabled, Verb::Enable, Fate::Becomes(State::DecryptOnly)),
    (State::Disabled, Verb::Destroy, Fate::Tomb),
];

/// The state that a compromised key never enters, because somebody else may know it.
pub const FORBIDDEN_IF_COMPROMISED: State = State::Primary;

/// The state of a key after a restore or a merge, unless it is chosen to be primary. No key stays pending: it may have
/// been promoted after the backup was made.
pub const AFTER_RESTORE: [(State, State); 4] = [
    (State::Pending, State::DecryptOnly),
    (State::Primary, State::DecryptOnly),
    (State::DecryptOnly, State::DecryptOnly),
    (State::Disabled, State::Disabled),
];

impl State {
    const ALL: [Self; 4] = [Self::Pending, Self::Primary, Self::DecryptOnly, Self::Disabled];

    /// Whether Decrypt may use the key. A pending key may be used, because a node that has not yet read of its
    /// promotion may need it.
    pub fn unwraps(self) -> bool {
        self != Self::Disabled
    }

    /// Returns the result of `verb` for a key in this state. Returns `None` if the verb is not allowed.
    pub fn after(self, verb: Verb) -> Option<Fate> {
        TRANSITIONS.iter().find(|(state, done, _)| (*state, *done) == (self, verb)).map(|(_, _, fate)| *fate)
    }

    /// Returns the state that a key in this state gets by a restore or a merge.
    pub fn returned(self) -> Self {
        AFTER_RESTORE.iter().find(|(state, _)| *state == self).map_or(self, |(_, returned)| *returned)
    }

    /// Returns the word for the state in the record, on the command line and in the logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Primary => "primary",
            Self::DecryptOnly => "decrypt-only",
            Self::Disabled => "disabled",
        }
    }

    /// Reads the word that [`as_str`](Self::as_str) returns.
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
    /// Returns the participle of the verb: `promoted`, as in "cannot be promoted".
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

impl Fate {
    /// Returns the word that the command line shows: the state, or `destroyed`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Becomes(state) => state.as_str(),
            Self::Tomb => "destroyed",
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../docs/hierarchy.md");

    #[test]
    fn the_document_has_the_same_tables() {
        let life = TRANSITIONS.map(|(state, verb, fate)| format!("| {state} | {} | {fate} |", verb.participle()));
        assert_eq!(rows("| from | when it is | to |"), life);
        let returned = AFTER_RESTORE.map(|(state, returned)| format!("| {state} | {returned} |"));
        assert_eq!(rows("| in the record | restored or merged |"), returned);
        let yes = |is| if is { "yes" } else { "no" };
        let uses = State::ALL.map(|state| {
            let wraps = if state == State::Primary { "yes; exactly one key is" } else { "no" };
            format!("| {state} | {wraps} | {} |", yes(state.unwraps()))
        });
        let shown = rows("| state | Encrypt | Decrypt | NIST SP 800-57 |");
        assert!(uses.iter().all(|row| shown.iter().any(|shown| shown.starts_with(row))), "{uses:?}");
        let never = format!("A compromised key never becomes {FORBIDDEN_IF_COMPROMISED}");
        assert!(PAGE.contains(&never), "{never}");
    }

    #[test]
    fn a_key_that_returns_is_decrypt_only_or_stays_disabled() {
        let returned = |state| if state == State::Disabled { State::Disabled } else { State::DecryptOnly };
        assert_eq!(State::ALL.map(State::returned), State::ALL.map(returned));
        // A merge changes no state that an earlier merge gave.
        assert!(State::ALL.map(State::returned).iter().all(|state| state.returned() == *state));
    }

    #[test]
    fn every_key_that_is_not_disabled_unwraps() {
        assert_eq!(State::ALL.map(State::unwraps), [true, true, true, false]);
    }

    /// Returns the rows of the table in the document that has this head.
    fn rows(head: &str) -> Vec<&'static str> {
        PAGE.lines().skip_while(|line| *line != head).skip(2).take_while(|line| line.starts_with('|')).collect()
    }
}
