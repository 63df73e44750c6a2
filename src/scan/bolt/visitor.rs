//! Receives the leaves of a tree, and what is damaged in it.

use super::{
    damage::{DamageList, PageDamage},
    leaf::Leaf,
};

/// Is called with every leaf of a tree, and with all damage.
pub trait LeafVisitor {
    /// Takes a leaf whose keys are in order and within its bounds.
    fn leaf(&mut self, page: u64, leaf: &Leaf<'_>);
    /// Returns the list of what could not be read.
    fn damages(&mut self) -> &mut DamageList;
    /// Takes something that could not be read.
    fn damage(&mut self, damage: PageDamage) {
        self.damages().push(damage);
    }
}
