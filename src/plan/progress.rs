//! The facts that one run of a rotation has seen ([`RotationProgress`]). They are kept in memory, and are empty at each
//! start, so that every wait begins anew.

use crate::keyring::key_id::KeyId;

use super::world::{ApiServers, Scanned, Ticks};

/// The facts that one run of a rotation has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct RotationProgress {
    /// The promoted key, and since when every node serves it as the primary key.
    pub(super) published: Option<(KeyId, Ticks)>,
    /// The result of the last scan.
    pub scanned: Option<Scanned>,
    /// The last count of the API servers.
    pub counted: Option<ApiServers>,
}

impl RotationProgress {
    /// Notes that every node was seen to serve `key` as the primary key. Only the first time counts.
    pub fn see_published(&mut self, key: KeyId, now: Ticks) {
        if self.published.is_none_or(|(before, _)| before != key) {
            self.published = Some((key, now));
        }
    }

    /// Begins every wait anew, because this machine was suspended.
    pub fn forget_waits(&mut self) {
        *self = Self::default();
    }

    /// Returns the moment since which every node serves `key` as the primary key.
    pub fn published(&self, key: KeyId) -> Option<Ticks> {
        self.published.filter(|(seen, _)| *seen == key).map(|(_, at)| at)
    }
}
