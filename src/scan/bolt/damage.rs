//! The damage that a database file and its pages can have, and a list of limited length for it.

use std::io;

use super::bounds::Bounds;

/// A page, or a part of one, that could not be read.
#[derive(Debug)]
pub struct PageDamage {
    /// The number of the page.
    pub page: u64,
    /// The reason why the page was refused.
    pub error: PageError,
    /// The range of keys that may be missing because of the damage. `None` if no further key is missing.
    pub bounds: Option<Bounds>,
}

/// The greatest number of damages that are kept. All are counted.
const KEPT: usize = 1000;

/// The damages that were met: their number, and the first of them. A branch can name very many pages that do not exist,
/// with a few bytes for each, and must not be able to fill the memory.
#[derive(Debug, Default)]
pub struct DamageList {
    kept: Vec<PageDamage>,
    count: u64,
}

impl DamageList {
    /// Adds a damage to the list.
    pub fn push(&mut self, damage: PageDamage) {
        self.count += 1;
        if self.kept.len() < KEPT {
            self.kept.push(damage);
        }
    }

    /// Adds all damages of another list.
    pub fn append(&mut self, other: Self) {
        self.count += other.count;
        self.kept.extend(other.kept.into_iter().take(KEPT - self.kept.len()));
    }

    /// Removes the last damage that was kept, and returns it.
    pub fn pop(&mut self) -> Option<PageDamage> {
        self.kept.pop()
    }

    /// Returns the number of damages that were met.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Iterates over the damages that were kept.
    pub fn iter(&self) -> impl Iterator<Item = &PageDamage> {
        self.kept.iter()
    }
}

/// Why a page was refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// The database has no page with this number.
    #[error("not one of the pages 2 to {last}")]
    Outside {
        /// The number of the last page of the database.
        last: u64,
    },
    /// The file ends before the page does.
    #[error("the file ends before the page does")]
    Short,
    /// The system could not read the page.
    #[error("reading failed: {0}")]
    Read(#[source] io::Error),
    /// The header of the page contains another page number.
    #[error("its header names page {found}")]
    Number {
        /// The number in the header.
        found: u64,
    },
    /// The page is neither a branch nor a leaf.
    #[error("its flags are {found:#06x}, expected those of a branch or a leaf")]
    Flags {
        /// The flags in the header of the page.
        found: u16,
    },
    /// The page claims to span more pages than it can or needs to.
    #[error("it spans {pages} pages, more than there can be or than its elements need")]
    Span {
        /// The number of pages that it claims to span.
        pages: u64,
    },
    /// The page, or a part of it, also belongs to another page that was read.
    #[error("it is used twice")]
    Twice,
    /// An element of the page lies outside of it.
    #[error("element {index} lies outside the page")]
    Element {
        /// The index of the element, from zero.
        index: usize,
    },
    /// The keys in the page do not ascend.
    #[error("key {index} is not greater than the one before")]
    Order {
        /// The index of the first element whose key is too small, from zero.
        index: usize,
    },
    /// The keys in the page belong to other pages.
    #[error("its keys are not between those of the pages beside it")]
    Bounds,
    /// The page has no element, and is not the root of an empty tree.
    #[error("it has no element")]
    Empty,
    /// The page is a branch where leaves are expected, or a leaf where branches are expected.
    #[error("it is at another depth than the pages beside it")]
    Height,
    /// An element is a bucket where a value is expected, or the other way round.
    #[error("element {index} is {found}, expected {expected}")]
    Kind {
        /// The index of the element, from zero.
        index: usize,
        /// The kind of the element.
        found: &'static str,
        /// The expected kind.
        expected: &'static str,
    },
    /// A visitor could not read the value of an element.
    #[error("element {index}: {what}")]
    Value {
        /// The index of the element, from zero.
        index: usize,
        /// The visitor's reason.
        what: String,
    },
}

/// Why nothing in a file can be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BoltError {
    /// The system cannot read the first pages.
    #[error("reading failed: {0}")]
    Read(#[from] io::Error),
    /// Neither of the first two pages is a meta page.
    #[error("not a database of etcd, or both of its meta pages are damaged")]
    Foreign,
    /// The database has no bucket of this name.
    #[error("the database has no bucket {0:?}")]
    NoBucket(&'static str),
    /// A page that may name the bucket cannot be read.
    #[error("the bucket {name:?} cannot be found: page {page}: {error}")]
    LostBucket {
        /// The name of the bucket.
        name: &'static str,
        /// The number of the page that cannot be read.
        page: u64,
        /// The reason why the page was refused.
        error: PageError,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_damage_is_counted_and_the_first_of_it_is_kept() {
        let list = |pages: std::ops::Range<u64>| {
            let mut list = DamageList::default();
            pages.for_each(|page| list.push(PageDamage { page, error: PageError::Short, bounds: None }));
            list
        };
        let mut all = list(0..700);
        all.append(list(700..3000));
        assert_eq!(all.count(), 3000);
        assert!(all.iter().map(|damage| damage.page).eq(0..KEPT as u64));
    }
}
