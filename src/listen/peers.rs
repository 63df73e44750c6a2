//! The users whose processes may call the plugin.

use std::collections::BTreeSet;

/// The users whose processes may call, by uid.
#[derive(Debug, Clone)]
pub struct Peers(BTreeSet<u32>);

impl Peers {
    /// Allows root, the plugin's own user, and `others`.
    pub fn new(others: impl IntoIterator<Item = u32>) -> Self {
        Self(others.into_iter().chain([0, rustix::process::geteuid().as_raw()]).collect())
    }

    /// Allows nobody, so that a test can be a refused peer.
    #[cfg(test)]
    pub(super) fn nobody() -> Self {
        Self(BTreeSet::new())
    }

    /// Whether the processes of this user may call.
    pub(super) fn admit(&self, uid: u32) -> bool {
        self.0.contains(&uid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_our_own_user_may_always_call() {
        let Peers(peers) = Peers::new([1001, 1002]);
        let ours = rustix::process::geteuid().as_raw();
        assert_eq!(peers, BTreeSet::from([0, ours, 1001, 1002]));
    }
}
