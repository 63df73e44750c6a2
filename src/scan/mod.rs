//! What is in etcd: which object is under which provider and key, told from etcd's own bytes.
//!
//! ```text
//! snapshot file -> bolt -> revision ─┐
//!                                    ├─> tally (values, names, judge) -> report
//! live etcd     -> live ─────────────┘       └──> needs
//! ```
//!
//! Read-only. Holds no key and cannot decrypt: a value is told from its prefix and its shape. Knows keys by name alone, and a
//! configuration without its secrets. Invariant: what could not be read is in the report, and makes it incomplete; nothing that is
//! in the report was guessed. `docs/scan.md` explains the report, and draws the formats.

mod bolt;
pub mod coverage;
#[cfg(any(test, fuzzing))]
pub mod forge;
pub mod judge;
pub mod live;
pub mod manifest;
pub mod names;
pub mod needs;
pub mod report;
mod revision;
pub mod snapshot;
pub mod tally;
pub mod value;

use bolt::PageDamage;
use report::{Incomplete, Source};
use tally::Tallied;

/// Takes how much is done, of how much; of the latter nothing is known where it is zero.
pub type Progress<'a> = &'a mut dyn FnMut(u64, u64);

/// What a scan found.
pub struct Scan {
    /// Where.
    pub source: Source,
    /// What was counted.
    pub tallied: Tallied,
    /// What could not be read.
    damage: Vec<PageDamage>,
    /// Why something may be missing in what was read.
    pub incomplete: Vec<Incomplete>,
    /// Values of keys that do not lie below the prefix.
    pub outside: u64,
    /// Whether a key below the prefix was met, if only its deletion.
    pub is_used: bool,
}

impl Scan {
    /// Why something may be missing, of a scan of the keys below `prefix`.
    fn reasons(&self, prefix: &str) -> Vec<Incomplete> {
        let mut reasons = self.incomplete.clone();
        if self.tallied.has_rest {
            reasons.push(Incomplete::Groups);
        }
        if !self.is_used {
            reasons.push(Incomplete::Nothing { prefix: prefix.to_owned() });
        }
        reasons
    }
}
