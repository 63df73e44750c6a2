//! Receives the leaves of a tree, and what is damaged in it.

use super::{
    damage::{DamageList, PageDamage},
    leaf::Leaf,
};

/// A visitor that gets every leaf of a tree, and all damage.
pub trait LeafVisitor {
    /// Takes a leaf whose keys are in order and within its bounds.
    fn leaf(&mut self, page: u64, leaf: &Leaf<'_>);
    /// Returns the list to which damage is added.
    fn damages(&mut self) -> &mut DamageList;
    /// Adds a damage to the list.
    fn damage(&mut self, damage: PageDamage) {
        self.damages().push(damage);
    }
}
