//! What one run of a rotation has seen. It is kept in memory, and begins empty at each start: then every wait begins
//! anew.

use crate::keyring::key_id::KeyId;

use super::world::{ApiServers, Scanned, Ticks};

/// What one run has seen.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct RotationProgress {
    /// Since when every node serves this key as the primary one.
    pub(super) published: Option<(KeyId, Ticks)>,
    /// The last scan.
    pub scanned: Option<Scanned>,
    /// The last count of the API servers.
    pub counted: Option<ApiServers>,
}

impl RotationProgress {
    /// Notes that every node was seen to serve `key` as the primary key. The first time counts.
    pub fn see_published(&mut self, key: KeyId, now: Ticks) {
        if self.published.is_none_or(|(before, _)| before != key) {
            self.published = Some((key, now));
        }
    }

    /// Begins every wait anew, because this machine was suspended.
    pub fn forget_waits(&mut self) {
        *self = Self::default();
    }

    /// Returns since when every node serves `key` as the primary one.
    pub fn published(&self, key: KeyId) -> Option<Ticks> {
        self.published.filter(|(seen, _)| *seen == key).map(|(_, at)| at)
    }
}
