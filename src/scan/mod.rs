//! What is in etcd: which object is under which provider and key. Read from etcd's own bytes, without any key.
//!
//! ```text
//! snapshot -> bolt, revision ─┐                         ┌─> tally -> judge, report, needs
//!                             ├─> summarizer ─> Object ─┤
//! live, lookup -> etcd ───────┘   (value, names, group) └─> any other Sink
//! ```
//!
//! Two readers, `snapshot` and `live`, hand every object to a [`object::Sink`]. The sink of `claviger scan` is the
//! tally, which counts. Another use of the objects is another sink, and changes nothing in the readers. `place` chooses
//! the reader. `lookup` reads single keys of a live etcd, and `compaction` asks which older revisions it
//! has.
//!
//! Nothing here writes, holds a key, or can decrypt: a value shows its provider and key in its prefix and its shape.
//! Invariant: what could not be read is in the report, and makes it incomplete; nothing in the report was guessed.
//! `docs/scan.md` explains the report, and draws the formats.

mod bolt;
pub mod compaction;
pub mod count;
mod fingerprint;
#[cfg(any(test, fuzzing))]
pub mod forge;
pub mod group;
mod headline;
pub mod judge;
pub mod live;
mod look;
pub mod lookup;
pub mod names;
pub mod needs;
pub mod object;
pub mod outcome;
mod page_reader;
pub mod place;
mod prefixes;
pub mod protobuf;
pub mod report;
mod revision;
mod smallest;
pub mod snapshot;
mod source;
pub mod stored;
pub mod summarizer;
pub mod tally;
pub mod value;

pub use source::{ScanSource, SourceKind};
