//! Which of claviger's keys the live values in some places need. The keeper asks before it gives a key up or replaces a
//! keyring.
//!
//! ```text
//! read -> needed, left -> locked
//! ```
//!
//! Each place is read by the same scanner that `claviger scan` uses, and the figures of all places are added up. A
//! value needs the key whose commitment is in its wrapped seed, whatever its provider's name is. Older values that etcd
//! still has do not count.
//!
//! `claviger backup check` asks about one snapshot, and about the values that need no key of claviger's, too.
//!
//! Nothing here can prove that a key opens a value. Invariant: a key that a live value needs is in [`NeededKeys`], or
//! [`NeededKeys::check_complete`] says why it may be missing there.

mod left;
mod locked;
mod needed;
mod read;

pub use left::LeftValue;
pub use locked::{LockedValues, ValueLock};
pub use needed::{Need, NeededKeys, ScannedEtcd};
pub use read::{NeedsError, SnapshotNeeds, read_needs, read_snapshot};
