//! A store that keeps the record in memory, for tests. It can fail on request.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
};

use zeroize::Zeroizing;

use super::{Deadline, Held, KeyringStore, RecordVersion, StoreError, Swapped};

/// Keeps the record in memory. A clone is another handle on the same record.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Memory>>);

#[derive(Default)]
struct Memory {
    held: Option<Held>,
    /// The number of records that the store has held, from which versions are made.
    count: u64,
    /// The failures of the next swaps, in order.
    failures: VecDeque<LostAnswer>,
}

/// A swap that fails: the caller does not learn its outcome.
pub struct LostAnswer {
    /// Whether the store holds the new record afterwards.
    pub is_held: bool,
    /// The error that the caller gets.
    pub error: StoreError,
}

impl MemoryStore {
    /// Makes the next swap fail as `failure` says.
    pub fn fail(&mut self, failure: LostAnswer) {
        self.memory().failures.push_back(failure);
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap()
    }
}

impl Memory {
    fn put(&mut self, record: &[u8]) {
        self.count += 1;
        let version = RecordVersion(self.count.to_be_bytes().to_vec());
        self.held = Some(Held { bytes: Zeroizing::new(record.to_vec()), version });
    }
}

impl KeyringStore for MemoryStore {
    fn load(&mut self, _: Deadline) -> Result<Option<Held>, StoreError> {
        Ok(self.memory().held.clone())
    }

    fn swap(&mut self, old: Option<&RecordVersion>, new: &[u8]) -> Result<Swapped, StoreError> {
        let mut memory = self.memory();
        if memory.held.as_ref().map(|held| &held.version) != old {
            return Ok(Swapped::Lost);
        }
        if let Some(LostAnswer { is_held, error }) = memory.failures.pop_front() {
            if is_held {
                memory.put(new);
            }
            return Ok(Swapped::Unknown(error));
        }
        memory.put(new);
        Ok(Swapped::Done)
    }
}
