//! A page together with all pages below it: its expected height, and the range of keys that belongs to it.

use super::{
    bounds::Bounds,
    damage::{PageDamage, PageError},
    page::{Header, PageKind, key_of, widened},
};

/// A page together with all pages below it.
#[derive(Debug, Clone)]
pub struct Subtree {
    /// The number of the page.
    pub(super) page: u64,
    /// The height of the page above the leaves. All leaves of a tree are at the same depth.
    pub(super) height: usize,
    /// The range of keys that belong to the subtree.
    pub(super) bounds: Bounds,
}

impl Subtree {
    /// Reports that the page cannot be read, so that everything below it may be missing.
    pub(super) fn damage(&self, error: PageError) -> PageDamage {
        PageDamage { page: self.page, error, bounds: Some(self.bounds) }
    }

    /// Checks whether a page of this kind belongs here, according to its first page, `bytes`.
    ///
    /// If two branches name the same page, the page belongs to the branch whose bounds contain its first key, even if
    /// the other branch is read first.
    pub(super) fn check(&self, header: &Header, kind: PageKind, bytes: &[u8]) -> Result<(), Box<PageDamage>> {
        let damage = |error| Err(Box::new(self.damage(error)));
        if header.kind != kind {
            return damage(PageError::Height);
        }
        if header.count == 0 {
            let is_empty_tree = self.bounds == Bounds::default() && kind == PageKind::Leaf;
            return if is_empty_tree { Ok(()) } else { damage(PageError::Empty) };
        }
        match key_of(bytes, kind, 0) {
            Some(first) if !self.bounds.contain(first) => {
                Err(Box::new(self.misplaced(PageError::Bounds, bytes, kind, header.count)))
            }
            None if header.span == 1 => damage(PageError::Element { index: 0 }),
            // If the page spans several, its first key may be after the first page.
            None | Some(_) => Ok(()),
        }
    }

    /// Reports that the page is not read. If its keys belong elsewhere, keys outside of these bounds may be missing,
    /// too.
    pub(super) fn misplaced(&self, error: PageError, bytes: &[u8], kind: PageKind, count: usize) -> PageDamage {
        match error {
            PageError::Bounds => {
                let bounds = Some(widened(&self.bounds, bytes, kind, count));
                PageDamage { page: self.page, error, bounds }
            }
            error => self.damage(error),
        }
    }
}
