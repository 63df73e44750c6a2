//! Reads trees of pages, and hands their leaves to a visitor. Each thread has its own reader.
//!
//! Invariant: a damaged page is reported and skipped, and the rest of the tree is read. No page is read twice, and a
//! file of any contents needs bounded memory and time. Source: bbolt, `internal/common/page.go`.

use std::{mem, sync::MutexGuard};

use super::{
    bounds::{BoundKey, Bounds},
    damage::{PageDamage, PageError},
    database::Database,
    leaf::Leaf,
    page::{Header, PageKind, children, pages_needed},
    subtree::Subtree,
    visitor::LeafVisitor,
    window::{Window, length, neighbours},
};

/// The limit in bytes above which a page is large: its memory is freed after use, and only one thread has such memory
/// at a time.
const LARGE: usize = 1 << 20;

/// A page that was read: the number of its elements, its bytes, and the right to keep a large page in memory.
type ReadPage<'r, 'a> = (usize, &'r [u8], Option<MutexGuard<'a, ()>>);

/// Reads the pages of a database, several neighbouring pages at once.
pub struct TreeReader<'a> {
    pub(super) database: &'a Database,
    window: Window,
    /// The page that was read last, if it does not fit into the window.
    single: Vec<u8>,
}

impl<'a> TreeReader<'a> {
    /// Makes a reader of `database`.
    pub fn new(database: &'a Database) -> Self {
        Self { database, window: Window::default(), single: Vec::new() }
    }

    /// Splits a tree into parts for several threads, in the order of their keys: the branches directly above the
    /// leaves. A level of a tree has at most as many pages as the file. If branches name more pages than that, they
    /// name some twice. The surplus is reported as damage.
    pub fn parts(&mut self, tree: Subtree, visitor: &mut impl LeafVisitor) -> Vec<Subtree> {
        let mut level = vec![tree];
        while level.first().is_some_and(|part| part.height > 1) {
            let mut below = Vec::new();
            for part in &level {
                let children = self.readable_children(part, visitor);
                let room = self.database.page_count().saturating_sub(below.len());
                children.iter().skip(room).for_each(|child| visitor.damage(child.damage(PageError::Twice)));
                below.extend(children.into_iter().take(room));
            }
            level = below;
        }
        level
    }

    /// Visits the leaves below `tree`, the greatest keys first.
    pub fn descend(&mut self, tree: &Subtree, visitor: &mut impl LeafVisitor) {
        if tree.height > 0 {
            let children = self.readable_children(tree, visitor);
            return self.descend_children(&children, visitor);
        }
        let start = tree.page.saturating_mul(self.database.meta.page_size);
        let (count, bytes, _turn) = match self.page(tree, PageKind::Leaf) {
            Ok(page) => page,
            Err(damage) => return visitor.damage(*damage),
        };
        match Leaf::check(start, bytes, count, &tree.bounds) {
            Ok(leaf) => visitor.leaf(tree.page, &leaf),
            Err(error) => visitor.damage(tree.misplaced(error, bytes, PageKind::Leaf, count)),
        }
        self.give_back();
    }

    /// Frees the memory of a large page.
    fn give_back(&mut self) {
        if self.single.capacity() > LARGE {
            self.single = Vec::new();
        }
    }

    fn descend_children(&mut self, children: &[Subtree], visitor: &mut impl LeafVisitor) {
        for (at, child) in children.iter().enumerate().rev() {
            if !self.window.contains(child.page, self.database.meta.page_size) {
                self.look_ahead(children[..=at].iter().rev().map(|child| child.page));
            }
            self.descend(child, visitor);
        }
    }

    /// Reads the first wanted page, together with the next wanted pages that lie close before it.
    fn look_ahead(&mut self, wanted: impl Iterator<Item = u64>) {
        let Database { file, meta, .. } = self.database;
        if let Some((first, last)) = neighbours(wanted, meta.page_size)
            && first >= 2
            && last < meta.pages
        {
            self.window.fill(file, meta.page_size, first, last - first + 1);
        }
    }

    /// Returns the children of `tree`. If it cannot be read, reports the damage to the visitor, and returns no
    /// children.
    fn readable_children(&mut self, tree: &Subtree, visitor: &mut impl LeafVisitor) -> Vec<Subtree> {
        self.children(tree).unwrap_or_else(|damage| {
            visitor.damage(*damage);
            Vec::new()
        })
    }

    /// Reads a branch, and returns its children with their bounds.
    fn children(&mut self, tree: &Subtree) -> Result<Vec<Subtree>, Box<PageDamage>> {
        let (count, bytes, _turn) = self.page(tree, PageKind::Branch)?;
        let children = children(bytes, count, &tree.bounds)
            .map_err(|error| Box::new(tree.misplaced(error, bytes, PageKind::Branch, count)))?;
        let mut high = tree.bounds.high;
        let mut subtrees: Vec<Subtree> = children
            .into_iter()
            .rev()
            .map(|(key, page)| {
                let low = BoundKey::new(key);
                let bounds = Bounds { low, high: mem::replace(&mut high, low) };
                Subtree { page, height: tree.height - 1, bounds }
            })
            .collect();
        subtrees.reverse();
        self.give_back();
        Ok(subtrees)
    }

    /// Reads the first page of `tree` and all pages that it spans, and marks them as used.
    fn page(&mut self, tree: &Subtree, kind: PageKind) -> Result<ReadPage<'_, 'a>, Box<PageDamage>> {
        let (database, page, page_size) = (self.database, tree.page, self.database.meta.page_size);
        let damage = |error| Box::new(tree.damage(error));
        let (header, is_in_window) = self.read_header(page).map_err(damage)?;
        let head = if is_in_window { self.window.from(page, page_size).unwrap_or_default() } else { &self.single };
        // The check sees only one page, even if the window has more: a report must not depend on the contents of the
        // window.
        tree.check(&header, kind, &head[..length(1, page_size).min(head.len())])?;
        if !database.begin(page) {
            return Err(damage(PageError::Twice));
        }
        let turn = (length(header.span, page_size) > LARGE).then(|| database.turn());
        let bytes = if is_in_window {
            self.window.from(page, page_size).unwrap_or_default()
        } else {
            database.read_rest(page, &header, &mut self.single).map_err(damage)?;
            &self.single
        };
        let bytes = &bytes[..length(header.span, page_size).min(bytes.len())];
        if header.span > pages_needed(bytes, kind, header.count, page_size).map_err(damage)? {
            return Err(damage(PageError::Span { pages: header.span }));
        }
        database.span(page, header.span);
        Ok((header.count, bytes, turn))
    }

    /// Returns the header of a page, and whether the window contains all pages that it spans. If not, its first page is
    /// now in `single`.
    fn read_header(&mut self, number: u64) -> Result<(Header, bool), PageError> {
        let Database { meta, size, .. } = self.database;
        if let Some(bytes) = self.window.from(number, meta.page_size) {
            let header = Header::parse(bytes, number, meta, *size)?;
            if length(header.span, meta.page_size) <= bytes.len() {
                return Ok((header, true));
            }
        }
        let header = self.database.read_head(number, &mut self.single)?;
        Ok((header, false))
    }
}
