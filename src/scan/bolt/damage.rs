//! What can be wrong with a database file and with its pages.

use std::io;

use super::bounds::Bounds;

/// A page, or a part of one, that could not be read.
#[derive(Debug)]
pub struct PageDamage {
    /// The number of the page.
    pub page: u64,
    /// What is wrong with it.
    pub error: PageError,
    /// The keys that may be missing because of it. `None` if nothing else is missing.
    pub bounds: Option<Bounds>,
}

/// How much damage is kept. All of it is counted.
const KEPT: usize = 1000;

/// All damage that was met: how much, and the first of it. A branch of a few bytes a child can name very many pages
/// that do not exist, and must not be able to fill the memory.
#[derive(Debug, Default)]
pub struct DamageList {
    kept: Vec<PageDamage>,
    count: u64,
}

impl DamageList {
    /// Adds one piece of damage.
    pub fn push(&mut self, damage: PageDamage) {
        self.count += 1;
        if self.kept.len() < KEPT {
            self.kept.push(damage);
        }
    }

    /// Adds all damage of another list.
    pub fn append(&mut self, other: Self) {
        self.count += other.count;
        self.kept.extend(other.kept.into_iter().take(KEPT - self.kept.len()));
    }

    /// Takes the last damage that was kept out of the list.
    pub fn pop(&mut self) -> Option<PageDamage> {
        self.kept.pop()
    }

    /// Returns how much damage was met.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Iterates over the damage that was kept.
    pub fn iter(&self) -> impl Iterator<Item = &PageDamage> {
        self.kept.iter()
    }
}

/// What is wrong with a page.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// The database has no page of this number.
    #[error("not one of the pages 2 to {last}")]
    Outside {
        /// The last page of the database.
        last: u64,
    },
    /// The file ends before the page does.
    #[error("the file ends before the page does")]
    Short,
    /// The system could not read it.
    #[error("reading failed: {0}")]
    Read(#[source] io::Error),
    /// Its header names another page.
    #[error("its header names page {found}")]
    Number {
        /// The page that the header names.
        found: u64,
    },
    /// It is neither a branch nor a leaf.
    #[error("its flags are {found:#06x}, expected those of a branch or a leaf")]
    Flags {
        /// The flags in its header.
        found: u16,
    },
    /// It says that it spans more pages than it can or needs to.
    #[error("it spans {pages} pages, more than there can be or than its elements need")]
    Span {
        /// How many pages it says that it spans.
        pages: u64,
    },
    /// It, or a part of it, belongs to another page that was read.
    #[error("it is used twice")]
    Twice,
    /// One of its elements lies outside of it.
    #[error("element {index} lies outside the page")]
    Element {
        /// The element, counted from zero.
        index: usize,
    },
    /// The keys of its elements do not ascend.
    #[error("key {index} is not greater than the one before")]
    Order {
        /// The first element whose key is too small, counted from zero.
        index: usize,
    },
    /// Its keys belong to other pages.
    #[error("its keys are not between those of the pages beside it")]
    Bounds,
    /// It has no element, and is not the root of an empty tree.
    #[error("it has no element")]
    Empty,
    /// It is a branch where leaves are, or a leaf where branches are.
    #[error("it is at another depth than the pages beside it")]
    Height,
    /// One of its elements is a bucket where a value is expected, or the other way round.
    #[error("element {index} is {found}, expected {expected}")]
    Kind {
        /// The element, counted from zero.
        index: usize,
        /// What it is.
        found: &'static str,
        /// What it must be.
        expected: &'static str,
    },
    /// A visitor cannot read the value of one of its elements.
    #[error("element {index}: {what}")]
    Value {
        /// The element, counted from zero.
        index: usize,
        /// What is wrong with the value.
        what: String,
    },
}

/// Why nothing of a file can be read.
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
        /// The page that cannot be read.
        page: u64,
        /// What is wrong with the page.
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
