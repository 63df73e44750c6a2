//! Tests that scan forged databases, whole and damaged.

mod changes;
mod ended;
mod files;
mod scanned;
mod trees;
