//! A buffer of neighbouring pages, which are read in one call.

use std::{fs::File, os::unix::fs::FileExt};

/// The greatest number of pages in a window. A window fits into a cache of the processor.
const WINDOW_PAGES: u64 = 32;

/// The greatest number of bytes in a window, however large pages are.
const WINDOW_BYTES: u64 = 2 << 20;

/// The greatest number of pages that are read for nothing between two wanted ones.
const GAP_PAGES: u64 = 16;

/// Neighbouring pages of a file in memory.
#[derive(Default)]
pub struct Window {
    first: u64,
    bytes: Vec<u8>,
    filled: usize,
}

/// Returns the first and the last page to read. `wanted` are the pages that are needed next; those that lie close
/// before the first of them are read with it. Returns `None` if pages are too large to read several at once.
pub fn neighbours(wanted: impl Iterator<Item = u64>, page_size: u64) -> Option<(u64, u64)> {
    let most = WINDOW_PAGES.min(WINDOW_BYTES / page_size);
    if most < 2 {
        return None;
    }
    let mut range = None;
    for page in wanted {
        range = match range {
            None => Some((page, page)),
            Some((first, last)) if page < first && first - page <= GAP_PAGES && last - page < most => {
                Some((page, last))
            }
            Some(_) => break,
        };
    }
    range
}

impl Window {
    /// Whether the window contains a page.
    pub fn contains(&self, page: u64, page_size: u64) -> bool {
        self.from(page, page_size).is_some()
    }

    /// Returns the bytes of a page and of all pages after it. Returns `None` if the window does not contain all of the
    /// page.
    pub fn from(&self, page: u64, page_size: u64) -> Option<&[u8]> {
        let offset = usize::try_from(page.checked_sub(self.first)?.checked_mul(page_size)?).ok()?;
        self.bytes[..self.filled].get(offset..).filter(|bytes| bytes.len() >= length(1, page_size))
    }

    /// Reads `pages` pages from `first` on, or as many as the file has.
    pub fn fill(&mut self, file: &File, page_size: u64, first: u64, pages: u64) {
        let wanted = length(pages, page_size);
        if self.bytes.len() < wanted {
            self.bytes.resize(wanted, 0);
        }
        (self.first, self.filled) = (first, 0);
        while self.filled < wanted {
            let offset = first * page_size + self.filled as u64;
            match file.read_at(&mut self.bytes[self.filled..wanted], offset) {
                Ok(0) | Err(_) => break,
                Ok(read) => self.filled += read,
            }
        }
    }
}

/// Returns the length of `span` pages in bytes. A span has been checked against the length of the file.
pub fn length(span: u64, page_size: u64) -> usize {
    usize::try_from(span.saturating_mul(page_size)).unwrap_or(usize::MAX)
}
