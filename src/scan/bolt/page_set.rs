//! A set of pages that several threads add to.

use std::sync::atomic::{AtomicU64, Ordering};

/// A set of pages, one bit for each page of the database.
#[derive(Debug)]
pub struct PageSet(Vec<AtomicU64>);

impl PageSet {
    /// Makes an empty set for a database of `pages` pages.
    pub fn new(pages: u64) -> Self {
        let words = usize::try_from(pages.div_ceil(64)).unwrap_or(usize::MAX);
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    /// Adds a page. Returns whether the page exists and was new.
    pub fn insert(&self, page: u64) -> bool {
        let bit = 1 << (page % 64);
        self.word(page).is_some_and(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0)
    }

    /// Whether the set contains a page.
    pub fn contains(&self, page: u64) -> bool {
        self.word(page).is_some_and(|word| word.load(Ordering::Relaxed) >> (page % 64) & 1 == 1)
    }

    /// Returns the number of every page that there is a bit for.
    pub fn numbers(&self) -> impl Iterator<Item = u64> + use<> {
        (0..).step_by(64).take(self.0.len()).flat_map(|first| first..first + 64)
    }

    /// Removes all pages.
    pub fn clear(&self) {
        self.0.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }

    fn word(&self, page: u64) -> Option<&AtomicU64> {
        usize::try_from(page / 64).ok().and_then(|word| self.0.get(word))
    }
}
