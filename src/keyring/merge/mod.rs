//! Merges several records of one keyring, for example after a fork or a rollback. No key that any of them holds is lost.
//!
//! Pure. The newest key becomes primary that a backup holds and that no record disables or calls compromised; if there is none, a
//! fresh one, which the caller backs up first. Every other key only unwraps, and is disabled if all that list it say so. Key bytes beat a tomb,
//! as restored data may need them, unless an operator names the key. A key that this node's mark has seen and no record holds stops
//! the merge. A record under an earlier root key gives key bytes and nothing else: whoever kept that root key could have made it.
//! Source: `docs/formats.md`, "Merging".

mod check;
mod merged;
mod sources;
#[cfg(test)]
mod tests;

pub use self::{
    check::MergeError,
    merged::{Merge, Row, merge},
    sources::{Source, Sources, Weight, Wishes},
};
