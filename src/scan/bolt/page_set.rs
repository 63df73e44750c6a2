//! A set of pages that several threads add to.

use std::sync::{
    OnceLock,
    atomic::{AtomicU64, Ordering},
};

/// The number of words in a chunk.
const CHUNK_WORDS: usize = 4096;

/// The number of pages in a chunk.
const CHUNK_PAGES: u64 = 64 * CHUNK_WORDS as u64;

/// A set of pages, one bit for each page of the database. The bits are in chunks of 32 KiB, each of which is made when
/// its first page is added: a sparse file of a few bytes can claim any number of pages.
#[derive(Debug)]
pub struct PageSet(Vec<OnceLock<Box<[AtomicU64]>>>);

impl PageSet {
    /// Makes an empty set for a database of `pages` pages.
    pub fn new(pages: u64) -> Self {
        let chunks = usize::try_from(pages.div_ceil(CHUNK_PAGES)).unwrap_or(usize::MAX);
        Self((0..chunks).map(|_| OnceLock::new()).collect())
    }

    /// Adds a page. Returns whether the page exists and was new.
    pub fn insert(&self, page: u64) -> bool {
        let Some(chunk) = self.chunk(page) else { return false };
        let words = chunk.get_or_init(|| (0..CHUNK_WORDS).map(|_| AtomicU64::new(0)).collect());
        let bit = 1 << (page % 64);
        words[word(page)].fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    /// Whether the set contains a page.
    pub fn contains(&self, page: u64) -> bool {
        let words = self.chunk(page).and_then(OnceLock::get);
        words.is_some_and(|words| words[word(page)].load(Ordering::Relaxed) >> (page % 64) & 1 == 1)
    }

    /// Returns the pages of the set, in ascending order.
    pub fn pages(&self) -> impl Iterator<Item = u64> + '_ {
        let chunks = (0..).step_by(64 * CHUNK_WORDS).zip(&self.0);
        let made = chunks.filter_map(|(first, chunk)| Some((first, chunk.get()?)));
        let words = made.flat_map(|(first, words): (u64, _)| (first..).step_by(64).zip(words.iter()));
        words.flat_map(|(first, word)| {
            let bits = word.load(Ordering::Relaxed);
            (0..64).filter(move |bit| bits >> bit & 1 == 1).map(move |bit| first + bit)
        })
    }

    /// Removes all pages from the set.
    pub fn clear(&self) {
        let words = self.0.iter().filter_map(OnceLock::get).flatten();
        words.for_each(|word| word.store(0, Ordering::Relaxed));
    }

    fn chunk(&self, page: u64) -> Option<&OnceLock<Box<[AtomicU64]>>> {
        usize::try_from(page / CHUNK_PAGES).ok().and_then(|chunk| self.0.get(chunk))
    }
}

/// Returns the index of a page's word in its chunk.
fn word(page: u64) -> usize {
    usize::try_from(page % CHUNK_PAGES / 64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_the_pages_that_were_added_and_no_memory_for_others() {
        let set = PageSet::new(1 << 40);
        let pages = [0, 1, 63, 64, CHUNK_PAGES - 1, CHUNK_PAGES, 1 << 39];
        assert!(pages.iter().all(|page| set.insert(*page)));
        assert!(pages.iter().all(|page| !set.insert(*page) && set.contains(*page)));
        assert_eq!(set.pages().collect::<Vec<_>>(), pages);
        assert!(!set.contains(2) && !set.contains(1 << 38));
        assert_eq!(set.0.iter().filter(|chunk| chunk.get().is_some()).count(), 3);
        set.clear();
        assert!(set.pages().next().is_none() && set.insert(64));
    }

    #[test]
    fn a_page_that_does_not_exist_is_never_new() {
        let set = PageSet::new(1);
        assert!(set.insert(0) && !set.insert(CHUNK_PAGES) && !set.insert(u64::MAX));
    }
}
