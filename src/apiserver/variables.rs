//! The variables of a command whose values are known. The total length of the values that they add is limited.

use std::{cell::Cell, collections::BTreeMap};

/// The greatest number of bytes that values may add to one command. Linux starts no command with longer arguments, so
/// no kube-apiserver runs with more. Without the limit, a few nested variables could fill any memory. Source:
/// execve(2), "Limits on size of arguments and environment".
const VALUES_MAX: usize = 6 << 20;

/// The variables of a command, with their values.
#[derive(Debug)]
pub(super) struct Variables {
    known: BTreeMap<String, String>,
    /// The number of bytes that values may still add.
    left: Cell<usize>,
}

impl Default for Variables {
    fn default() -> Self {
        Self { known: BTreeMap::new(), left: Cell::new(VALUES_MAX) }
    }
}

impl Variables {
    /// Sets a variable, or removes it if its value is not known.
    pub(super) fn set(&mut self, name: String, value: Option<String>) {
        match value {
            Some(value) => drop(self.known.insert(name, value)),
            None => drop(self.known.remove(&name)),
        }
    }

    /// Returns the value of a variable, to put it into a command. Returns `None` if the value is not known, or if the
    /// command would become longer than any that Linux starts.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        let value = self.known.get(name)?;
        self.left.set(self.left.get().checked_sub(value.len())?);
        Some(value.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_add_no_more_than_a_command_can_have() {
        let mut variables = Variables::default();
        variables.set("A".to_owned(), Some("x".repeat(1 << 20)));
        variables.set("B".to_owned(), Some("y".to_owned()));
        assert_eq!((0..1000).filter_map(|_| variables.value("A")).count(), 6);
        assert_eq!((variables.value("A"), variables.value("B")), (None, None), "nothing is left");
        assert_eq!(Variables::default().value("A"), None);
    }
}
