//! Receives the leaves of a tree, and what is damaged in it.

use super::{damage::PageDamage, leaf::Leaf};

/// Is called with every leaf of a tree, and with all damage.
pub trait LeafVisitor {
    /// Takes a leaf whose keys are in order and within its bounds.
    fn leaf(&mut self, page: u64, leaf: &Leaf<'_>);
    /// Takes something that could not be read.
    fn damage(&mut self, damage: PageDamage);
}
