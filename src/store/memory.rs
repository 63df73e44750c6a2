//! The record in memory, for tests: it can fail on request, and lists the calls that it received.

use std::collections::VecDeque;

use zeroize::Zeroizing;

use super::{Deadline, Held, KeyringStore, RecordVersion, StoreError, Swapped};

/// Keeps the record in memory.
#[derive(Default)]
pub struct MemoryStore {
    held: Option<Held>,
    /// How many records it has held.
    count: u64,
    /// What the next swaps do instead.
    failures: VecDeque<LostAnswer>,
}

/// What a swap does instead of what it should.
pub struct LostAnswer {
    /// Whether the new record is held afterwards.
    pub is_held: bool,
    /// Why the caller does not learn the outcome.
    pub error: StoreError,
}

impl MemoryStore {
    /// Lets the next swap fail.
    pub fn fail(&mut self, failure: LostAnswer) {
        self.failures.push_back(failure);
    }

    fn put(&mut self, record: &[u8]) {
        self.count += 1;
        let version = RecordVersion(self.count.to_be_bytes().to_vec());
        self.held = Some(Held { bytes: Zeroizing::new(record.to_vec()), version });
    }
}

impl KeyringStore for MemoryStore {
    fn load(&mut self, _: Deadline) -> Result<Option<Held>, StoreError> {
        Ok(self.held.clone())
    }

    fn swap(&mut self, old: Option<&RecordVersion>, new: &[u8]) -> Result<Swapped, StoreError> {
        if self.held.as_ref().map(|held| &held.version) != old {
            return Ok(Swapped::Lost);
        }
        if let Some(LostAnswer { is_held, error }) = self.failures.pop_front() {
            if is_held {
                self.put(new);
            }
            return Ok(Swapped::Unknown(error));
        }
        self.put(new);
        Ok(Swapped::Done)
    }
}
