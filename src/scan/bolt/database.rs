//! A database file: its meta page, its pages, and a record of which pages were used, so that a page that two branches
//! name is reported as damage.
//!
//! Invariant: at most as many continuation pages are read as the file has pages.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{
    bounds::Bounds,
    damage::{BoltError, PageDamage, PageError},
    meta::{HEADER, META, MetaPage},
    page::{ELEMENT, Header, PageKind, children, pages_needed},
    page_set::PageSet,
    subtree::Subtree,
    window::length,
};

/// The greatest depth of a tree. The pages of a deeper tree would not fit into an address space.
const DEPTH_MAX: usize = 32;

/// A database file. Several readers can read its pages at the same time.
#[derive(Debug)]
pub struct Database {
    pub(super) file: Arc<File>,
    pub(super) meta: MetaPage,
    /// The bytes of the file that belong to the database.
    pub(super) size: u64,
    /// The pages that were read as the first page of a branch or leaf.
    begun: PageSet,
    /// The pages that a branch or leaf spans beyond its first page.
    spanned: PageSet,
    /// The pages that two branches or leaves span.
    shared: PageSet,
    /// How many continuation pages may still be read. Each page belongs to one branch or leaf, so the file's number of
    /// pages is the limit.
    unspanned: AtomicU64,
    /// Locked by the thread that has a large page in memory.
    turn: Mutex<()>,
    /// The number of the damaged meta page, if one is damaged. Then the changes of the last transaction may be missing.
    pub damaged_meta: Option<u64>,
}

impl Database {
    /// Reads the meta pages in the first `size` bytes of `file`.
    ///
    /// # Errors
    /// When the file cannot be read, or is no database.
    pub fn open(file: File, size: u64) -> Result<Self, BoltError> {
        let meta_at = |offset: u64, number| {
            let mut bytes = [0; HEADER + META];
            match file.read_exact_at(&mut bytes, offset) {
                Ok(()) => Ok(MetaPage::parse(&bytes, number)),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
                Err(error) => Err(error),
            }
        };
        let first = meta_at(0, 0)?;
        let second = match first {
            Some(meta) => meta_at(meta.page_size, 1)?.filter(|second| second.page_size == meta.page_size),
            None => (9..=24)
                .map(|shift| 1 << shift)
                .find_map(|size| meta_at(size, 1).ok().flatten().filter(|meta| meta.page_size == size)),
        };
        let (meta, damaged_meta) = match (first, second) {
            (Some(first), Some(second)) if first.txid > second.txid => (first, None),
            (Some(_), Some(second)) => (second, None),
            (Some(first), None) => (first, Some(1)),
            (None, Some(second)) => (second, Some(0)),
            (None, None) => return Err(BoltError::Foreign),
        };
        let in_file = size.div_ceil(meta.page_size);
        let count = meta.pages.min(in_file);
        let pages = || PageSet::new(count);
        let unspanned = AtomicU64::new(count);
        let (begun, spanned, shared, turn) = (pages(), pages(), pages(), Mutex::default());
        let file = Arc::new(file);
        Ok(Self { file, meta, size, begun, spanned, shared, unspanned, turn, damaged_meta })
    }

    /// Returns the open file.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Returns the length of the database, as its meta page gives it. A shorter file was cut off.
    pub fn length(&self) -> u64 {
        self.meta.pages.saturating_mul(self.meta.page_size)
    }

    /// Waits until no other thread has a large page in memory.
    pub(super) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the number of pages in the file.
    pub(super) fn page_count(&self) -> usize {
        usize::try_from(self.pages_in_file()).unwrap_or(usize::MAX)
    }

    fn pages_in_file(&self) -> u64 {
        self.meta.pages.min(self.size.div_ceil(self.meta.page_size))
    }

    /// Returns the tree of all buckets.
    pub(super) fn root(&self) -> Subtree {
        self.tree(self.meta.root)
    }

    /// Returns the tree whose root is the page `root`. Its height is the depth that most children of the root agree on.
    pub(super) fn tree(&self, root: u64) -> Subtree {
        let mut heights = HashMap::new();
        let mut votes = BTreeMap::new();
        for child in self.child_numbers(root).unwrap_or_default() {
            *votes.entry(self.height(child, DEPTH_MAX, &mut heights)).or_insert(0) += 1;
        }
        // The search for the height has read pages that the readers will read again.
        self.allow_spans();
        votes.remove(&None);
        let most = votes.into_iter().max_by_key(|(_, votes)| *votes).and_then(|(height, _)| height);
        Subtree { page: root, height: most.map_or(0, |height| height + 1), bounds: Bounds::default() }
    }

    /// Returns the height of a page above the leaves, along the first path to a leaf that can be read. Returns `None`
    /// if there is no such path.
    ///
    /// `heights` contains the result for each page of the file that was visited before. While a page is being searched,
    /// its result is `None`, so that a search through a circle of pages ends.
    fn height(&self, page: u64, depth: usize, heights: &mut HashMap<u64, Option<usize>>) -> Option<usize> {
        if page >= self.pages_in_file() {
            return None;
        }
        if let Some(known) = heights.get(&page) {
            return *known;
        }
        heights.insert(page, None);
        let below = self.child_numbers(page)?;
        let depth = depth.checked_sub(1)?;
        let mut way_down = || below.iter().find_map(|child| self.height(*child, depth, heights));
        let height = if below.is_empty() { Some(0) } else { way_down().map(|height| height + 1) };
        heights.insert(page, height);
        height
    }

    /// Returns the numbers of the pages below a page: an empty list for a leaf, `None` if the page cannot be read.
    fn child_numbers(&self, page: u64) -> Option<Vec<u64>> {
        let mut bytes = Vec::new();
        let header = self.read_head(page, &mut bytes).ok()?;
        if header.kind == PageKind::Leaf {
            return Some(Vec::new());
        }
        self.read_rest(page, &header, &mut bytes).ok()?;
        let below = children(&bytes, header.count, &Bounds::default()).ok()?;
        Some(below.into_iter().map(|(_, page)| page).collect())
    }

    /// Reads the first page of a branch or leaf, which may span several.
    pub(super) fn read_head(&self, number: u64, bytes: &mut Vec<u8>) -> Result<Header, PageError> {
        self.meta.check_number(number)?;
        let offset = number.checked_mul(self.meta.page_size).ok_or(PageError::Short)?;
        bytes.resize(length(1, self.meta.page_size), 0);
        self.file.read_exact_at(bytes, offset).map_err(read_error)?;
        Header::parse(bytes, number, &self.meta, self.size)
    }

    /// Reads the other pages that a branch or leaf spans, after its first page in `bytes`. Reads the heads of its
    /// elements first: they show how many pages it can need. If it claims more, it is refused before the pages are
    /// read.
    pub(super) fn read_rest(&self, number: u64, header: &Header, bytes: &mut Vec<u8>) -> Result<(), PageError> {
        let Header { kind, count, span } = *header;
        let heads = ((HEADER + count * ELEMENT) as u64).div_ceil(self.meta.page_size).clamp(1, span);
        self.read_more(number, heads, bytes)?;
        if span > pages_needed(bytes, kind, count, self.meta.page_size)? {
            return Err(PageError::Span { pages: span });
        }
        self.read_more(number, span, bytes)
    }

    /// Reads further pages, until `bytes` contains `pages` pages from `number` on.
    fn read_more(&self, number: u64, pages: u64, bytes: &mut Vec<u8>) -> Result<(), PageError> {
        let begun = bytes.len();
        let more = pages.saturating_sub(begun as u64 / self.meta.page_size);
        let take = |left: u64| left.checked_sub(more);
        self.unspanned.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).map_err(|_| PageError::Twice)?;
        bytes.resize(length(pages, self.meta.page_size).max(begun), 0);
        self.file.read_exact_at(&mut bytes[begun..], number * self.meta.page_size + begun as u64).map_err(read_error)
    }

    /// Notes that the page `first` is used. Returns false if it was already used.
    pub(super) fn begin(&self, first: u64) -> bool {
        self.begun.insert(first)
    }

    /// Notes that the branch or leaf at `first` spans `span` pages.
    pub(super) fn span(&self, first: u64, span: u64) {
        for page in (first + 1..first + span).filter(|page| !self.spanned.insert(*page)) {
            self.shared.insert(page);
        }
    }

    /// Allows reading as many continuation pages as the file has pages.
    fn allow_spans(&self) {
        self.unspanned.store(self.pages_in_file(), Ordering::Relaxed);
    }

    /// Forgets which pages were used.
    pub(super) fn forget_use(&self) {
        [&self.begun, &self.spanned, &self.shared].into_iter().for_each(PageSet::clear);
        self.allow_spans();
    }

    /// Reports the pages that belong to two branches or leaves that were read. One of them has overwritten a part of
    /// the other; the pages do not show which.
    pub fn overlaps(&self) -> impl Iterator<Item = PageDamage> + '_ {
        let is_overlap =
            |page: &u64| self.shared.contains(*page) || self.begun.contains(*page) && self.spanned.contains(*page);
        let pages: BTreeSet<u64> = self.begun.pages().chain(self.shared.pages()).filter(is_overlap).collect();
        pages.into_iter().map(|page| PageDamage { page, error: PageError::Twice, bounds: None })
    }
}

fn read_error(error: io::Error) -> PageError {
    if error.kind() == io::ErrorKind::UnexpectedEof { PageError::Short } else { PageError::Read(error) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::{
        bolt::{damage::DamageList, leaf::Leaf, reader::TreeReader, visitor::LeafVisitor},
        forge::{self, Shape},
    };

    /// Collects the damage that a reader reports.
    #[derive(Default)]
    struct Seen(DamageList);

    impl Seen {
        fn errors(&self) -> Vec<String> {
            self.0.iter().map(|damage| damage.error.to_string()).collect()
        }
    }

    impl LeafVisitor for Seen {
        fn leaf(&mut self, _: u64, _: &Leaf<'_>) {}

        fn damages(&mut self) -> &mut DamageList {
            &mut self.0
        }
    }

    fn database() -> Database {
        let bytes = forge::database(Shape::default(), &[]);
        Database::open(forge::file(&bytes).unwrap(), bytes.len() as u64).unwrap()
    }

    #[test]
    fn a_file_that_the_system_does_not_read_is_refused_with_its_reason() {
        let directory = || File::open("/").unwrap();
        let refused = Database::open(directory(), 1 << 20).unwrap_err().to_string();
        assert!(refused.starts_with("reading failed: Is a directory"), "{refused}");
        let database = Database { file: Arc::new(directory()), ..database() };
        let refused = database.read_head(2, &mut Vec::new()).unwrap_err().to_string();
        assert!(refused.starts_with("reading failed: Is a directory"), "{refused}");
    }

    #[test]
    fn a_page_that_is_used_twice_is_refused() {
        let database = database();
        let mut seen = Seen::default();
        let mut reader = TreeReader::new(&database);
        reader.descend(&database.root(), &mut seen);
        assert_eq!(seen.errors(), Vec::<String>::new());
        reader.descend(&database.root(), &mut seen);
        assert_eq!(seen.errors(), ["it is used twice"]);
    }

    #[test]
    fn a_leaf_where_branches_are_is_refused() {
        let database = database();
        let tree = Subtree { height: 1, ..database.root() };
        let mut seen = Seen::default();
        TreeReader::new(&database).descend(&tree, &mut seen);
        assert_eq!(seen.errors(), ["it is at another depth than the pages beside it"]);
    }
}
