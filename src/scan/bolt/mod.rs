//! A read-only reader of bbolt, the file format of etcd's database: pages, trees of pages, buckets. It trusts nothing
//! that it reads.
//!
//! ```text
//! bucket -> reader -> database, window, subtree, visitor -> leaf, page -> meta -> bounds, damage, bytes, page_set
//! ```
//!
//! Source: `go.etcd.io/bbolt`, `internal/common` (page.go, meta.go, inode.go); `docs/scan.md` draws the bytes. It reads
//! with `pread` into its own buffers, so that a file that shrinks during the scan is an error rather than a signal.
//! Invariants: no page is used twice; a page is at the place that its number says; keys ascend, and lie between those
//! of the pages above; everything that breaks one of these rules is reported with its page, and the rest is read.

mod bounds;
mod bucket;
mod bytes;
mod damage;
mod database;
mod leaf;
mod meta;
mod page;
mod page_set;
mod reader;
mod subtree;
mod visitor;
mod window;

pub use bounds::{BoundKey, Bounds};
pub use bucket::find_bucket;
pub use damage::{BoltError, DamageList, PageDamage, PageError};
pub use database::Database;
pub use leaf::{Element, Leaf};
pub use reader::TreeReader;
pub use subtree::Subtree;
pub use visitor::LeafVisitor;
