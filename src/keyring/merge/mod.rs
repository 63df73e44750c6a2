//! Merges several records of one keyring, for example after a fork or a rollback. No key that one of them contains is
//! lost.
//!
//! Pure. The rules:
//!
//! - The newest key that a backup contains, and that no record disables or calls compromised, becomes primary. If there
//!   is no such key, a new key becomes primary, and the caller backs it up first.
//! - Every other key is decrypt-only. It is disabled only if every record that lists it says so.
//! - If one record has the bytes of a key and another has its tomb, the bytes are kept, because restored data may need
//!   them. An operator can decide otherwise by naming the key.
//! - If this node's mark has seen a key that is in no record, there is no merge.
//! - From a record under an earlier root key only the bytes of keys are taken, because anybody who kept that root key
//!   could have made the record.
//!
//! Source: `docs/formats.md`, "Merging".

mod check;
mod merged;
mod sources;
#[cfg(test)]
mod tests;

pub use self::{
    check::{MergeError, NamedWrongly},
    merged::{Merge, MergeRow, merge},
    sources::{Greatest, MergeSource, Sources, Weight, Wishes},
};
