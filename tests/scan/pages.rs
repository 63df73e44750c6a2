//! Finds out which pages of a database are in use, and what each belongs to.
//!
//! The code is written from bbolt's own documentation, for whole files.

use std::collections::{BTreeMap, BTreeSet};

pub(super) const PAGE: usize = 4096;

const HEADER: usize = 16;
const ELEMENT: usize = 16;
const BRANCH: u16 = 1;

/// The use of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// One of the two meta pages.
    Meta,
    /// A free page.
    Free,
    /// A page of the tree that names all buckets.
    Root,
    /// A page of the bucket of keys. `head` is the first page of its run, and `is_top` tells whether the tree begins
    /// there.
    Key { head: u64, is_top: bool },
    /// A page of another bucket.
    Other,
}

/// All pages of a database.
pub(super) struct Pages<'a> {
    bytes: &'a [u8],
    uses: BTreeMap<u64, Use>,
}

impl<'a> Pages<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Self {
        let mut pages = Self { bytes, uses: BTreeMap::new() };
        assert_eq!(pages.u32(24), 4096, "the size of a page");
        let meta = if pages.u64(16 + 48) > pages.u64(PAGE + 16 + 48) { 0 } else { PAGE };
        let root = pages.u64(meta + 16 + 16);
        (0..pages.u64(meta + 16 + 40)).for_each(|page| _ = pages.uses.insert(page, Use::Free));
        (0..2).for_each(|page| _ = pages.uses.insert(page, Use::Meta));
        for (name, value) in pages.walk(root, |_, _| Use::Root) {
            match (pages.u64(value), name.as_slice()) {
                (0, _) => {}
                (top, b"key") => _ = pages.walk(top, |head, page| Use::Key { head, is_top: page == top }),
                (top, _) => _ = pages.walk(top, |_, _| Use::Other),
            }
        }
        pages
    }

    pub(super) fn count(&self) -> u64 {
        self.uses.len() as u64
    }

    pub(super) fn of(&self, page: u64) -> Use {
        self.uses[&page]
    }

    /// Returns the first pages of all runs in the bucket of keys.
    pub(super) fn heads(&self) -> BTreeSet<u64> {
        let heads = self.uses.values().filter_map(|used| match used {
            Use::Key { head, .. } => Some(*head),
            _ => None,
        });
        heads.collect()
    }

    /// Returns the range of a page's header and elements, which say where everything is in the page.
    pub(super) fn structure(&self, head: u64) -> std::ops::Range<usize> {
        let start = offset(head);
        let all = if self.is_branch(head) { PAGE } else { HEADER + ELEMENT * usize::from(self.elements(head)) };
        start..start + all
    }

    /// Returns the number of elements in the header of a page.
    pub(super) fn elements(&self, head: u64) -> u16 {
        self.u16(offset(head) + 10)
    }

    pub(super) fn is_branch(&self, head: u64) -> bool {
        self.u16(offset(head) + 8) == BRANCH
    }

    /// Notes the pages below `top`. Returns all keys, and the places of their values.
    fn walk(&mut self, top: u64, used: impl Fn(u64, u64) -> Use + Copy) -> Vec<(Vec<u8>, usize)> {
        let start = offset(top);
        (top..=top + u64::from(self.u32(start + 12))).for_each(|page| _ = self.uses.insert(page, used(top, page)));
        let elements = (0..usize::from(self.elements(top))).map(|index| start + HEADER + index * ELEMENT);
        let elements: Vec<usize> = elements.collect();
        if self.is_branch(top) {
            return elements.into_iter().flat_map(|at| self.walk(self.u64(at + 8), used)).collect();
        }
        let pair = |at: usize| {
            let key = at + self.u32(at + 4) as usize;
            let value = key + self.u32(at + 8) as usize;
            (self.bytes[key..value].to_vec(), value)
        };
        elements.into_iter().map(pair).collect()
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes(self.bytes[at..at + 2].try_into().unwrap())
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().unwrap())
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().unwrap())
    }
}

/// Returns the place of a page in the file.
pub(super) fn offset(page: u64) -> usize {
    usize::try_from(page).unwrap() * PAGE
}
