//! The keyring: the KEKs by version. Exactly one of them is primary.
//!
//! ```text
//! change, merge, restore -> ring -> home, node, past, recovery, key -> key_id, state, time
//! record, mark -> ring, numbers;   ledger -> listed_snapshot, unused
//! ```
//!
//! Pure: there is no I/O and no clock, and a time comes in as an argument. Every change returns a new [`Keyring`]. The
//! record ([`record`]) is its bytes. The mark ([`mark`]) says which record this node saw last, and the ledger
//! ([`ledger`]) which backups count. Recovery blobs are carried as data. Invariants: exactly one key is primary; a
//! (seq, C) is never used for another key; a keyring names the records before it. Source: `docs/formats.md`.

mod change;
pub mod home;
mod key;
pub mod key_id;
pub mod ledger;
pub mod listed_snapshot;
pub mod mark;
pub mod merge;
pub mod node;
mod numbers;
pub mod past;
pub mod record;
pub mod recovery;
pub mod restore;
mod ring;
pub mod state;
#[cfg(test)]
pub mod testing;
pub mod time;
pub mod unused;

pub use self::{
    change::{ChangeKeyError, ChangePrimaryError, ChangeRecipientError, MakeKeyError, RewrapError, UnknownKey},
    key::{Entry, Key, KeyError},
    numbers::{GENERATION_MAX, read_generation},
    ring::Keyring,
};
