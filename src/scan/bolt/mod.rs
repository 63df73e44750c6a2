//! A read-only reader of bbolt, the file format below etcd: pages, trees, buckets. It believes nothing that it reads.
//!
//! Source: `go.etcd.io/bbolt`, `internal/common` (page.go, meta.go, inode.go); the bytes are drawn in `docs/scan.md`. Reads with
//! pread into buffers of its own, so that a file that shrinks meanwhile is an error rather than a signal. Invariants: no page
//! is used twice, a page stands where its number says, keys rise and stay between those of the pages above, and whatever is
//! wrong is reported with its page while the rest is read.

mod page;

use std::{
    collections::{BTreeMap, HashMap},
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicU64, Ordering},
};

pub use page::{Bounds, Element, Key, Leaf, Reason};
use page::{HEADER, Header, META, Meta, PageKind, u64_at};

/// Bytes of a bucket's own head in its value: the number of its root, and a counter.
const BUCKET: usize = 16;

/// Deeper than any tree of pages that an address space has room for.
const DEPTH_MAX: usize = 32;

/// Of neighbouring pages, as many are read at once as fit in a cache of the processor, gaps of a few pages included.
const WINDOW_PAGES: u64 = 32;
const GAP_PAGES: u64 = 16;

/// A page that could not be read, or a part of one, and between which keys something is missing for it.
#[derive(Debug)]
pub struct PageDamage {
    /// Its number.
    pub page: u64,
    /// What is wrong.
    pub reason: Reason,
    /// The keys that may be missing; none where only one element is.
    pub bounds: Option<Bounds>,
}

/// Why a file is not read at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BoltError {
    /// The first pages cannot be read.
    #[error("reading failed: {0}")]
    Read(#[from] io::Error),
    /// Neither of the two meta pages is one.
    #[error("not a database of etcd, or both of its meta pages are damaged")]
    Foreign,
    /// There is no bucket of this name.
    #[error("the database has no bucket {0:?}")]
    NoBucket(&'static str),
    /// The page that would name it cannot be read.
    #[error("the bucket {name:?} cannot be found: page {page}: {reason}")]
    LostBucket {
        /// Which bucket.
        name: &'static str,
        /// Which page.
        page: u64,
        /// What is wrong with the page.
        reason: Reason,
    },
}

/// A database file, of which the pages can be read by several [`Reader`]s at once.
#[derive(Debug)]
pub struct Database {
    file: File,
    meta: Meta,
    /// The bytes of the file that are the database's.
    size: u64,
    /// Pages where something begins that was read.
    begun: Marks,
    /// Pages into which something that was read reaches, and those into which two such things do.
    spanned: Marks,
    shared: Marks,
    /// The meta page that is damaged, if one is: what the last transaction wrote may then be missing.
    pub damaged_meta: Option<u64>,
}

impl Database {
    /// Reads where everything is in the first `size` bytes of `file`.
    ///
    /// # Errors
    /// When the file cannot be read, or is no database.
    pub fn open(file: File, size: u64) -> Result<Self, BoltError> {
        let meta_at = |offset: u64, number| {
            let mut bytes = [0; HEADER + META];
            match file.read_exact_at(&mut bytes, offset) {
                Ok(()) => Ok(Meta::parse(&bytes, number)),
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
        let marks = || Marks::new(meta.pages.min(in_file));
        Ok(Self { begun: marks(), spanned: marks(), shared: marks(), file, meta, size, damaged_meta })
    }

    /// How many bytes the database says that it has; a file that has fewer was cut off.
    pub fn length(&self) -> u64 {
        self.meta.pages.saturating_mul(self.meta.page_size)
    }

    /// The tree of all buckets.
    fn root(&self) -> Subtree {
        self.tree(self.meta.root)
    }

    /// The tree whose root is the page `root`, as high as most of the ways down from there are long.
    fn tree(&self, root: u64) -> Subtree {
        let mut heights = HashMap::new();
        let mut votes = BTreeMap::new();
        for (_, child) in self.branch(root).unwrap_or_default() {
            *votes.entry(self.height(child, DEPTH_MAX, &mut heights)).or_insert(0) += 1;
        }
        votes.remove(&None);
        let most = votes.into_iter().max_by_key(|(_, votes)| *votes).and_then(|(height, _)| height);
        Subtree { page: root, height: most.map_or(0, |height| height + 1), bounds: Bounds::default() }
    }

    /// How far a page is above the leaves by the first way down that can be read; none if there is no such way.
    /// `heights` has those of pages that were looked at before, none for those above this one.
    fn height(&self, page: u64, depth: usize, heights: &mut HashMap<u64, Option<usize>>) -> Option<usize> {
        if let Some(known) = heights.get(&page) {
            return *known;
        }
        heights.insert(page, None);
        let below = self.branch(page)?;
        let depth = depth.checked_sub(1)?;
        let mut way_down = || below.iter().find_map(|(_, child)| self.height(*child, depth, heights));
        let height = if below.is_empty() { Some(0) } else { way_down().map(|height| height + 1) };
        heights.insert(page, height);
        height
    }

    /// The first keys and numbers of the pages below a page, no one below a leaf; none if it cannot be read.
    fn branch(&self, page: u64) -> Option<Vec<(Vec<u8>, u64)>> {
        let mut bytes = Vec::new();
        let header = self.read_head(page, &mut bytes).ok()?;
        if header.kind == PageKind::Leaf {
            return Some(Vec::new());
        }
        self.read_rest(page, header.span, &mut bytes).ok()?;
        let below = page::children(&bytes, header.count, &Bounds::default()).ok()?;
        Some(below.into_iter().map(|(key, page)| (key.to_vec(), page)).collect())
    }

    /// Reads the first of the pages that something spans.
    fn read_head(&self, number: u64, bytes: &mut Vec<u8>) -> Result<Header, Reason> {
        self.meta.check_number(number)?;
        let offset = number.checked_mul(self.meta.page_size).ok_or(Reason::Short)?;
        bytes.resize(length(1, self.meta.page_size), 0);
        self.file.read_exact_at(bytes, offset).map_err(read_error)?;
        Header::parse(bytes, number, &self.meta, self.size)
    }

    /// Reads the others.
    fn read_rest(&self, number: u64, span: u64, bytes: &mut Vec<u8>) -> Result<(), Reason> {
        let head = bytes.len();
        bytes.resize(length(span, self.meta.page_size), 0);
        self.file.read_exact_at(&mut bytes[head..], number * self.meta.page_size + head as u64).map_err(read_error)
    }

    /// Marks the pages behind the first one of `span`.
    fn mark_spanned(&self, first: u64, span: u64) {
        for page in (first + 1..first + span).filter(|page| !self.spanned.mark(*page)) {
            self.shared.mark(page);
        }
    }

    /// Pages that are parts of two things that were read: one has overwritten a part of the other, and nobody can tell which.
    pub fn overlaps(&self) -> impl Iterator<Item = PageDamage> + '_ {
        let is_overlap = |page: &u64| self.shared.has(*page) || self.begun.has(*page) && self.spanned.has(*page);
        let pages = (0..).step_by(64).take(self.begun.0.len()).flat_map(|first| first..first + 64);
        pages.filter(is_overlap).map(|page| PageDamage { page, reason: Reason::Twice, bounds: None })
    }
}

/// A bit for each page.
#[derive(Debug)]
struct Marks(Vec<AtomicU64>);

impl Marks {
    fn new(pages: u64) -> Self {
        let words = usize::try_from(pages.div_ceil(64)).unwrap_or(usize::MAX);
        Self((0..words).map(|_| AtomicU64::new(0)).collect())
    }

    /// Marks a page that was not marked before, and that there is.
    fn mark(&self, page: u64) -> bool {
        let bit = 1 << (page % 64);
        self.word(page).is_some_and(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0)
    }

    fn has(&self, page: u64) -> bool {
        self.word(page).is_some_and(|word| word.load(Ordering::Relaxed) >> (page % 64) & 1 == 1)
    }

    fn word(&self, page: u64) -> Option<&AtomicU64> {
        usize::try_from(page / 64).ok().and_then(|word| self.0.get(word))
    }

    fn clear(&self) {
        self.0.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }
}

/// A page with all below it, and which keys belong there.
#[derive(Debug, Clone)]
pub struct Subtree {
    page: u64,
    /// How far the page is above the leaves, which all are at one depth.
    height: usize,
    bounds: Bounds,
}

/// Whoever looks at the leaves of a tree.
pub trait Visitor {
    /// A leaf whose keys are in order and where they belong.
    fn leaf(&mut self, page: u64, leaf: &Leaf<'_>);
    /// Something that could not be read.
    fn damage(&mut self, damage: PageDamage);
}

/// Reads the pages of a database, several neighbours at once.
pub struct Reader<'a> {
    database: &'a Database,
    window: Window,
    /// A page that is not wholly in the window.
    single: Vec<u8>,
}

#[derive(Default)]
struct Window {
    first: u64,
    bytes: Vec<u8>,
    filled: usize,
}

impl<'a> Reader<'a> {
    /// Begins to read.
    pub fn new(database: &'a Database) -> Self {
        Self { database, window: Window::default(), single: Vec::new() }
    }

    /// The values of the bucket `name` as a tree, and those that are kept in place of one.
    ///
    /// # Errors
    /// When there is no such bucket that can be read.
    pub fn bucket(&mut self, name: &'static str, visitor: &mut impl Visitor) -> Result<Option<Subtree>, BoltError> {
        let mut found = FindBucket { name: name.as_bytes(), found: None, damage: Vec::new() };
        // Each bucket is looked for from the root, which is thus used more than once.
        let Database { begun, spanned, shared, .. } = self.database;
        [begun, spanned, shared].into_iter().for_each(Marks::clear);
        self.descend(&self.database.root(), &mut found);
        if found.found.is_none()
            && let Some(PageDamage { page, reason, .. }) = found.damage.pop()
        {
            return Err(BoltError::LostBucket { name, page, reason });
        }
        found.damage.into_iter().for_each(|damage| visitor.damage(damage));
        match found.found {
            None => Err(BoltError::NoBucket(name)),
            Some((_, Bucket::Tree(page))) => Ok(Some(self.database.tree(page))),
            Some((page, Bucket::Inline(bytes))) => {
                visit_inline(page, &bytes, visitor);
                Ok(None)
            }
        }
    }

    /// Cuts a tree into parts that are worth a thread's attention, in the order of their keys: the branches right above the leaves.
    pub fn parts(&mut self, tree: Subtree, visitor: &mut impl Visitor) -> Vec<Subtree> {
        let mut level = vec![tree];
        while level.first().is_some_and(|part| part.height > 1) {
            level = level.iter().flat_map(|part| self.children_or_none(part, visitor)).collect();
        }
        level
    }

    /// Visits the leaves below `tree`, the greatest keys first.
    pub fn descend(&mut self, tree: &Subtree, visitor: &mut impl Visitor) {
        if tree.height > 0 {
            let children = self.children_or_none(tree, visitor);
            return self.descend_children(&children, visitor);
        }
        let (count, bytes) = match self.page(tree, PageKind::Leaf) {
            Ok(page) => page,
            Err(damage) => return visitor.damage(*damage),
        };
        match Leaf::check(bytes, count, &tree.bounds) {
            Ok(leaf) => visitor.leaf(tree.page, &leaf),
            Err(reason) => visitor.damage(tree.misplaced(reason, bytes, PageKind::Leaf, count)),
        }
    }

    fn descend_children(&mut self, children: &[Subtree], visitor: &mut impl Visitor) {
        for (at, child) in children.iter().enumerate().rev() {
            if !self.window.has(child.page, self.database.meta.page_size) {
                self.look_ahead(children[..=at].iter().rev().map(|child| child.page));
            }
            self.descend(child, visitor);
        }
    }

    /// Reads a page together with those that will be wanted next, as far as they lie right before it.
    fn look_ahead(&mut self, wanted: impl Iterator<Item = u64>) {
        let (mut first, mut last) = (u64::MAX, 0);
        for page in wanted {
            if first == u64::MAX {
                (first, last) = (page, page);
            } else if page < first && first - page <= GAP_PAGES && last - page < WINDOW_PAGES {
                first = page;
            } else {
                break;
            }
        }
        if first >= 2 && last < self.database.meta.pages {
            self.window.fill(self.database, first, last - first + 1);
        }
    }

    fn children_or_none(&mut self, tree: &Subtree, visitor: &mut impl Visitor) -> Vec<Subtree> {
        self.children(tree).unwrap_or_else(|damage| {
            visitor.damage(*damage);
            Vec::new()
        })
    }

    fn children(&mut self, tree: &Subtree) -> Result<Vec<Subtree>, Box<PageDamage>> {
        let (count, bytes) = self.page(tree, PageKind::Branch)?;
        let children = page::children(bytes, count, &tree.bounds)
            .map_err(|reason| Box::new(tree.misplaced(reason, bytes, PageKind::Branch, count)))?;
        let mut high = tree.bounds.high;
        let mut subtrees: Vec<Subtree> = children
            .into_iter()
            .rev()
            .map(|(key, page)| {
                let low = Key::new(key);
                let bounds = Bounds { low, high: std::mem::replace(&mut high, low) };
                Subtree { page, height: tree.height - 1, bounds }
            })
            .collect();
        subtrees.reverse();
        Ok(subtrees)
    }

    /// How many elements the root of `tree` has, and its bytes with all that it spans; it is used from now on.
    fn page(&mut self, tree: &Subtree, kind: PageKind) -> Result<(usize, &[u8]), Box<PageDamage>> {
        let (database, page, page_size) = (self.database, tree.page, self.database.meta.page_size);
        let damage = |reason| Box::new(tree.damage(reason));
        let (header, is_in_window) = self.look_at(page).map_err(damage)?;
        let head = if is_in_window { self.window.from(page, page_size).unwrap_or_default() } else { &self.single };
        // Of the first page alone, whatever else the window has: what is told of a file must not depend on that.
        tree.check(&header, kind, &head[..length(1, page_size).min(head.len())])?;
        if !database.begun.mark(page) {
            return Err(damage(Reason::Twice));
        }
        let bytes = if is_in_window {
            self.window.from(page, page_size).unwrap_or_default()
        } else {
            database.read_rest(page, header.span, &mut self.single).map_err(damage)?;
            &self.single
        };
        let bytes = &bytes[..length(header.span, page_size).min(bytes.len())];
        if header.span > page::pages_needed(bytes, kind, header.count, page_size).map_err(damage)? {
            return Err(damage(Reason::Span { pages: header.span }));
        }
        database.mark_spanned(page, header.span);
        Ok((header.count, bytes))
    }

    /// The header of a page, and whether the window has all that it spans; otherwise its first page is read.
    fn look_at(&mut self, number: u64) -> Result<(Header, bool), Reason> {
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

impl Subtree {
    fn damage(&self, reason: Reason) -> PageDamage {
        PageDamage { page: self.page, reason, bounds: Some(self.bounds) }
    }

    /// Whether a page of this kind is in its place here, as far as its first bytes tell.
    ///
    /// Where two lead to one page, its first key belongs there in one of them: that one has it, whoever comes first.
    fn check(&self, header: &Header, kind: PageKind, bytes: &[u8]) -> Result<(), Box<PageDamage>> {
        let damage = |reason| Err(Box::new(self.damage(reason)));
        if header.kind != kind {
            return damage(Reason::Height);
        }
        if header.count == 0 {
            // Only the root of an empty tree has no element.
            let may_be = self.bounds == Bounds::default() && kind == PageKind::Leaf;
            return if may_be { Ok(()) } else { damage(Reason::Empty) };
        }
        match page::key_of(bytes, kind, 0) {
            Some(first) if !self.bounds.contain(first) => {
                Err(Box::new(self.misplaced(Reason::Bounds, bytes, kind, header.count)))
            }
            None if header.span == 1 => damage(Reason::Element { index: 0 }),
            // It may stand behind the first of the pages that are spanned.
            None | Some(_) => Ok(()),
        }
    }

    /// That this page is not read, with what may be missing if its keys lie elsewhere.
    fn misplaced(&self, reason: Reason, bytes: &[u8], kind: PageKind, count: usize) -> PageDamage {
        match reason {
            Reason::Bounds => {
                let bounds = Some(page::widened(&self.bounds, bytes, kind, count));
                PageDamage { page: self.page, reason, bounds }
            }
            reason => self.damage(reason),
        }
    }
}

fn read_error(error: io::Error) -> Reason {
    if error.kind() == io::ErrorKind::UnexpectedEof { Reason::Short } else { Reason::Read(error) }
}

/// Bytes of `span` pages; a span has been checked against the file.
fn length(span: u64, page_size: u64) -> usize {
    usize::try_from(span.saturating_mul(page_size)).unwrap_or(usize::MAX)
}

impl Window {
    fn has(&self, page: u64, page_size: u64) -> bool {
        self.from(page, page_size).is_some()
    }

    /// All that the window has from the beginning of a page on, that page at the least.
    fn from(&self, page: u64, page_size: u64) -> Option<&[u8]> {
        let offset = usize::try_from(page.checked_sub(self.first)?.checked_mul(page_size)?).ok()?;
        self.bytes[..self.filled].get(offset..).filter(|bytes| bytes.len() >= length(1, page_size))
    }

    /// Reads as much of it as there is; what is missing will be missed when it is wanted.
    fn fill(&mut self, database: &Database, first: u64, pages: u64) {
        let page_size = database.meta.page_size;
        let wanted = length(pages, page_size);
        if self.bytes.len() < wanted {
            self.bytes.resize(wanted, 0);
        }
        (self.first, self.filled) = (first, 0);
        while self.filled < wanted {
            let offset = first * page_size + self.filled as u64;
            match database.file.read_at(&mut self.bytes[self.filled..wanted], offset) {
                Ok(0) | Err(_) => break,
                Ok(read) => self.filled += read,
            }
        }
    }
}

/// Where a bucket's values are.
enum Bucket {
    Tree(u64),
    /// In place of a tree: a page of its own size.
    Inline(Box<[u8]>),
}

struct FindBucket {
    name: &'static [u8],
    found: Option<(u64, Bucket)>,
    damage: Vec<PageDamage>,
}

impl Visitor for FindBucket {
    fn leaf(&mut self, page: u64, leaf: &Leaf<'_>) {
        let name = self.name;
        for element in leaf.backwards().filter(|element| element.key == name) {
            let bucket = element.is_bucket.then(|| u64_at(element.value, 0)).flatten().map(|root| match root {
                0 => Bucket::Inline(element.value[BUCKET.min(element.value.len())..].into()),
                root => Bucket::Tree(root),
            });
            match bucket {
                Some(bucket) => self.found = Some((page, bucket)),
                None => self.damage(PageDamage {
                    page,
                    reason: Reason::Kind { index: element.index, found: "a value", expected: "a bucket" },
                    bounds: None,
                }),
            }
        }
    }

    fn damage(&mut self, damage: PageDamage) {
        self.damage.push(damage);
    }
}

/// Visits the page that stands in a bucket's value; `page` is the one that it stands in.
fn visit_inline(page: u64, bytes: &[u8], visitor: &mut impl Visitor) {
    let bounds = Bounds::default();
    let leaf = page::inline_count(bytes).and_then(|count| Leaf::check(bytes, count, &bounds));
    match leaf {
        Ok(leaf) => visitor.leaf(page, &leaf),
        Err(reason) => visitor.damage(PageDamage { page, reason, bounds: Some(Bounds::default()) }),
    }
}
