//! Reads the bucket `meta`, which contains the revision up to which etcd compacted.

use super::super::{
    bolt::{DamageList, Leaf, LeafVisitor, PageDamage, PageError, TreeReader, find_bucket},
    revision::Revision,
};

/// The contents of the bucket `meta`.
#[derive(Default)]
pub struct MetaBucket {
    /// The revision up to which etcd compacted.
    pub compacted: Option<u64>,
    /// The damage in the bucket.
    pub damage: DamageList,
    /// Whether the bucket itself could not be found.
    pub is_lost: bool,
}

impl MetaBucket {
    /// Reads the bucket `meta`.
    pub fn read(reader: &mut TreeReader<'_>) -> Self {
        let mut meta = Self::default();
        match find_bucket(reader, "meta", &mut meta) {
            Ok(Some(tree)) => reader.descend(&tree, &mut meta),
            Ok(None) => {}
            Err(_) => meta.is_lost = true,
        }
        meta
    }
}

impl LeafVisitor for MetaBucket {
    fn leaf(&mut self, page: u64, leaf: &Leaf<'_>) {
        for element in leaf.backwards().filter(|element| element.key == b"finishedCompactRev") {
            if let Some(revision) = Revision::parse(element.value) {
                self.compacted = Some(revision.main);
            } else {
                let what = "finishedCompactRev is not a revision".to_owned();
                let error = PageError::Value { index: element.index, what };
                self.damage(PageDamage { page, error, bounds: None });
            }
        }
    }

    fn damages(&mut self) -> &mut DamageList {
        &mut self.damage
    }
}
