//! A read-only reader of bbolt, the file format below etcd: pages, trees, buckets. It believes nothing that it reads.
//!
//! Source: `go.etcd.io/bbolt`, `internal/common` (page.go, meta.go, inode.go); the bytes are drawn in `docs/scan.md`. Reads with
//! pread into buffers of its own, so that a file that shrinks meanwhile is an error rather than a signal. Invariants: no page
//! is used twice, a page stands where its number says, keys rise and stay between those of the pages above, and whatever is
//! wrong is reported with its page while the rest is read.

use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicU64, Ordering},
};

const HEADER: usize = 16;
const ELEMENT: usize = 16;
const META: usize = 64;
const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;

const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const META_FLAG: u16 = 4;

/// In the flags of a leaf's element.
const IS_BUCKET: u32 = 1;

/// Deeper than any tree of pages that an address space has room for.
const DEPTH_MAX: usize = 32;

/// The most that one page may span: far above every value that etcd takes (`--max-request-bytes`, 1.5 MiB by default).
const SPAN_MAX: u64 = 256 << 20;

/// Of neighbouring pages, as many are read at once as fit in a cache of the processor, gaps of a few pages included.
const WINDOW_PAGES: u64 = 64;
const GAP_PAGES: u64 = 16;

/// What is wrong with a page.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// It is not one of the database's.
    #[error("not one of the pages 2 to {last}")]
    Outside {
        /// The last one that there is.
        last: u64,
    },
    /// The file has no such bytes.
    #[error("the file ends before its end")]
    Short,
    /// The system's reason.
    #[error("reading failed: {0}")]
    Read(#[source] io::Error),
    /// Another page, or none.
    #[error("its header names page {found}")]
    Number {
        /// Which one.
        found: u64,
    },
    /// Neither branch nor leaf.
    #[error("its flags are {found:#06x}, expected those of a branch or a leaf")]
    Flags {
        /// Which ones.
        found: u16,
    },
    /// It reaches beyond the database, or further than any value.
    #[error("it spans {pages} pages, more than there can be")]
    Span {
        /// How many.
        pages: u64,
    },
    /// It, or a part of it, belongs to another page already.
    #[error("it is used twice")]
    Twice,
    /// An element points out of the page.
    #[error("element {index} lies outside the page")]
    Element {
        /// Counted from zero.
        index: usize,
    },
    /// An element's key is not greater than the one before.
    #[error("key {index} is not greater than the one before")]
    Order {
        /// Counted from zero.
        index: usize,
    },
    /// An element's key belongs to another page.
    #[error("its keys are not between those of the pages beside it")]
    Bounds,
    /// A branch without children.
    #[error("a branch without children")]
    Empty,
    /// Pages below pages without end.
    #[error("it lies too deep")]
    Depth,
    /// No page in a bucket's value, or a bucket where a value should be.
    #[error("element {index} is {found}, expected {expected}")]
    Kind {
        /// Counted from zero.
        index: usize,
        /// What it is.
        found: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// A value is not what it should be; whoever visits the leaves says so.
    #[error("element {index}: {what}")]
    Value {
        /// Counted from zero.
        index: usize,
        /// What it is.
        what: &'static str,
    },
}

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
}

/// From which key on (included) to which (excluded).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Included; none is the beginning.
    pub low: Option<Box<[u8]>>,
    /// Excluded; none is the end.
    pub high: Option<Box<[u8]>>,
}

impl Bounds {
    fn contain(&self, key: &[u8]) -> bool {
        self.low.as_deref().is_none_or(|low| low <= key) && self.high.as_deref().is_none_or(|high| key < high)
    }
}

/// One of the two pages that say where everything begins.
#[derive(Debug, Clone, Copy)]
struct Meta {
    page_size: u64,
    root: u64,
    pages: u64,
    txid: u64,
}

impl Meta {
    /// Reads the meta page `number` from its first bytes.
    fn parse(bytes: &[u8], number: u64) -> Option<Self> {
        let body = bytes.get(HEADER..HEADER + META)?;
        let meta = Self {
            page_size: u32_at(body, 8)?.into(),
            root: u64_at(body, 16)?,
            pages: u64_at(body, 40)?,
            txid: u64_at(body, 48)?,
        };
        let is_meta = u64_at(bytes, 0)? == number
            && u16_at(bytes, 8)? == META_FLAG
            && u32_at(body, 0)? == MAGIC
            && u32_at(body, 4)? == VERSION
            && u64_at(body, 56)? == fnv1a(&body[..56])
            // A transaction writes the page of its own parity: the other one is that of the transaction before.
            && meta.txid % 2 == number
            && (9..=24).contains(&meta.page_size.trailing_zeros())
            && meta.page_size.is_power_of_two();
        is_meta.then_some(meta)
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// A database file, of which the pages can be read by several [`Reader`]s at once.
#[derive(Debug)]
pub struct Database {
    file: File,
    meta: Meta,
    /// The bytes of the file that are the database's.
    size: u64,
    /// A bit for each page that has been used.
    used: Vec<AtomicU64>,
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
            None => (10..=24)
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
        let words = usize::try_from(meta.pages.min(in_file).div_ceil(64)).unwrap_or(usize::MAX);
        let used = (0..words).map(|_| AtomicU64::new(0)).collect();
        Ok(Self { file, meta, size, used, damaged_meta })
    }

    /// How many bytes the database says that it has; a file that has fewer was cut off.
    pub fn length(&self) -> u64 {
        self.meta.pages.saturating_mul(self.meta.page_size)
    }

    /// The tree of all buckets.
    pub fn root(&self) -> Subtree {
        Subtree { page: self.meta.root, bounds: Bounds::default() }
    }

    /// Marks a page and those that it spans; false if one of them was marked before.
    fn claim(&self, page: u64, span: u64) -> bool {
        (page..page + span).all(|page| {
            let bit = 1 << (page % 64);
            usize::try_from(page / 64)
                .ok()
                .and_then(|word| self.used.get(word))
                .is_some_and(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0)
        })
    }
}

/// A page with all below it, and which keys belong there.
#[derive(Debug, Clone)]
pub struct Subtree {
    page: u64,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PageKind {
    Branch,
    Leaf,
}

#[derive(Debug, Clone, Copy)]
struct Header {
    kind: PageKind,
    count: usize,
    span: u64,
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
        for word in &self.database.used {
            word.store(0, Ordering::Relaxed);
        }
        self.descend(&self.database.root(), &mut found);
        found.damage.into_iter().for_each(|damage| visitor.damage(damage));
        match found.found {
            None => Err(BoltError::NoBucket(name)),
            Some((_, Bucket::Tree(page))) => Ok(Some(Subtree { page, bounds: Bounds::default() })),
            Some((page, Bucket::Inline(bytes))) => {
                visit_inline(page, &bytes, visitor);
                Ok(None)
            }
        }
    }

    /// Cuts a tree into parts that are worth a thread's attention, in the order of their keys: the branches right above the leaves.
    pub fn parts(&mut self, tree: Subtree, visitor: &mut impl Visitor) -> Vec<Subtree> {
        let mut level = vec![tree];
        for _ in 0..DEPTH_MAX {
            let is_inner = level.iter().find_map(|part| self.is_above_branches(part.page)).unwrap_or(false);
            if !is_inner {
                break;
            }
            level = level.iter().flat_map(|part| self.children(part, visitor)).collect();
        }
        level
    }

    /// Visits the leaves below `tree`, the greatest keys first.
    pub fn descend(&mut self, tree: &Subtree, visitor: &mut impl Visitor) {
        self.descend_to(tree, 0, visitor);
    }

    fn descend_to(&mut self, tree: &Subtree, depth: usize, visitor: &mut impl Visitor) {
        let damage = |reason| PageDamage { page: tree.page, reason, bounds: Some(tree.bounds.clone()) };
        if depth >= DEPTH_MAX {
            return visitor.damage(damage(Reason::Depth));
        }
        match self.page(tree.page) {
            Err(reason) => visitor.damage(damage(reason)),
            Ok((Header { kind: PageKind::Leaf, count, .. }, bytes)) => match Leaf::check(bytes, count, &tree.bounds) {
                Ok(leaf) => visitor.leaf(tree.page, &leaf),
                Err(reason) => visitor.damage(damage(reason)),
            },
            Ok((Header { kind: PageKind::Branch, count, .. }, bytes)) => match children(bytes, count, &tree.bounds) {
                Err(reason) => visitor.damage(damage(reason)),
                Ok(children) => self.descend_children(&children, depth, visitor),
            },
        }
    }

    fn descend_children(&mut self, children: &[Subtree], depth: usize, visitor: &mut impl Visitor) {
        for (at, child) in children.iter().enumerate().rev() {
            if !self.window.has(child.page, self.database.meta.page_size) {
                self.look_ahead(children[..=at].iter().rev().map(|child| child.page));
            }
            self.descend_to(child, depth + 1, visitor);
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

    fn children(&mut self, tree: &Subtree, visitor: &mut impl Visitor) -> Vec<Subtree> {
        let read = self.page(tree.page).and_then(|(header, bytes)| match header.kind {
            PageKind::Branch => children(bytes, header.count, &tree.bounds),
            PageKind::Leaf => Err(Reason::Flags { found: LEAF }),
        });
        read.unwrap_or_else(|reason| {
            visitor.damage(PageDamage { page: tree.page, reason, bounds: Some(tree.bounds.clone()) });
            Vec::new()
        })
    }

    /// Whether a page is a branch above branches; nobody knows if it or all of its children cannot be read.
    fn is_above_branches(&self, page: u64) -> Option<bool> {
        let mut bytes = Vec::new();
        let header = self.read(page, &mut bytes).ok()?;
        if header.kind == PageKind::Leaf {
            return Some(false);
        }
        let below = children(&bytes, header.count, &Bounds::default()).ok()?;
        below.iter().find_map(|child| self.header(child.page).ok()).map(|header| header.kind == PageKind::Branch)
    }

    /// A page with all that it spans, used from now on.
    fn page(&mut self, number: u64) -> Result<(Header, &[u8]), Reason> {
        let page_size = self.database.meta.page_size;
        let in_window = self.window.from(number, page_size).and_then(|bytes| {
            let header = Header::parse(bytes, number, self.database).ok()?;
            (length(header.span, page_size) <= bytes.len()).then_some(header)
        });
        let header = if let Some(header) = in_window {
            header
        } else {
            let mut single = std::mem::take(&mut self.single);
            let header = self.read(number, &mut single);
            self.single = single;
            header?
        };
        if !self.database.claim(number, header.span) {
            return Err(Reason::Twice);
        }
        let bytes = match in_window {
            Some(_) => self.window.from(number, page_size).unwrap_or_default(),
            None => &self.single,
        };
        Ok((header, &bytes[..length(header.span, page_size).min(bytes.len())]))
    }

    /// Reads a page with all that it spans.
    fn read(&self, number: u64, bytes: &mut Vec<u8>) -> Result<Header, Reason> {
        let header = self.header(number)?;
        let page_size = self.database.meta.page_size;
        bytes.resize(length(header.span, page_size), 0);
        self.database.file.read_exact_at(bytes, number * page_size).map_err(read_error)?;
        Ok(header)
    }

    fn header(&self, number: u64) -> Result<Header, Reason> {
        let Database { file, meta, .. } = self.database;
        if number < 2 || number >= meta.pages {
            return Err(Reason::Outside { last: meta.pages.saturating_sub(1) });
        }
        let mut bytes = [0; HEADER];
        let offset = number.checked_mul(meta.page_size).ok_or(Reason::Short)?;
        file.read_exact_at(&mut bytes, offset).map_err(read_error)?;
        Header::parse(&bytes, number, self.database)
    }
}

fn read_error(error: io::Error) -> Reason {
    if error.kind() == io::ErrorKind::UnexpectedEof { Reason::Short } else { Reason::Read(error) }
}

/// Bytes of `span` pages; a span has been checked against the file.
fn length(span: u64, page_size: u64) -> usize {
    usize::try_from(span.saturating_mul(page_size)).unwrap_or(usize::MAX)
}

impl Header {
    /// Reads the header of the page `number`, and holds it against the database.
    fn parse(bytes: &[u8], number: u64, database: &Database) -> Result<Self, Reason> {
        let Database { meta, size, .. } = database;
        let field = || Some((u64_at(bytes, 0)?, u16_at(bytes, 8)?, u16_at(bytes, 10)?, u32_at(bytes, 12)?));
        let (found, flags, count, overflow) = field().ok_or(Reason::Short)?;
        if number < 2 || number >= meta.pages {
            return Err(Reason::Outside { last: meta.pages.saturating_sub(1) });
        }
        if found != number {
            return Err(Reason::Number { found });
        }
        let kind = match flags {
            BRANCH => PageKind::Branch,
            LEAF => PageKind::Leaf,
            found => return Err(Reason::Flags { found }),
        };
        let span = 1 + u64::from(overflow);
        if number + span > meta.pages || span.saturating_mul(meta.page_size) > SPAN_MAX {
            return Err(Reason::Span { pages: span });
        }
        if (number + span).saturating_mul(meta.page_size) > *size {
            return Err(Reason::Short);
        }
        Ok(Self { kind, count: count.into(), span })
    }
}

impl Window {
    fn has(&self, page: u64, page_size: u64) -> bool {
        self.from(page, page_size).is_some()
    }

    /// All that the window has from the beginning of a page on, a header at least.
    fn from(&self, page: u64, page_size: u64) -> Option<&[u8]> {
        let offset = usize::try_from(page.checked_sub(self.first)?.checked_mul(page_size)?).ok()?;
        self.bytes[..self.filled].get(offset..).filter(|bytes| bytes.len() >= HEADER)
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

/// The pages below a branch, each with the keys that belong there.
fn children(bytes: &[u8], count: usize, bounds: &Bounds) -> Result<Vec<Subtree>, Reason> {
    let element = |index: usize| {
        let start = HEADER + index * ELEMENT;
        let (pos, key_size) = (u32_at(bytes, start)?, u32_at(bytes, start + 4)?);
        Some((slice(bytes, start, pos, 0, key_size)?, u64_at(bytes, start + 8)?))
    };
    let elements = (0..count).map(|index| element(index).ok_or(Reason::Element { index }));
    let elements: Vec<(&[u8], u64)> = elements.collect::<Result<_, _>>()?;
    if elements.is_empty() {
        return Err(Reason::Empty);
    }
    check_keys(elements.iter().map(|(key, _)| *key), bounds)?;
    let mut high = bounds.high.clone();
    let mut subtrees: Vec<Subtree> = elements
        .into_iter()
        .rev()
        .map(|(key, page)| {
            let low: Box<[u8]> = key.into();
            let bounds = Bounds { low: Some(low.clone()), high: high.replace(low) };
            Subtree { page, bounds }
        })
        .collect();
    subtrees.reverse();
    Ok(subtrees)
}

fn check_keys<'k>(keys: impl Iterator<Item = &'k [u8]>, bounds: &Bounds) -> Result<(), Reason> {
    let mut before: Option<&[u8]> = None;
    for (index, key) in keys.enumerate() {
        if before.is_some_and(|before| before >= key) {
            return Err(Reason::Order { index });
        }
        // Keys rise: only the first can be too small.
        if before.is_none() && !bounds.contain(key) {
            return Err(Reason::Bounds);
        }
        before = Some(key);
    }
    if before.is_some_and(|last| !bounds.contain(last)) { Err(Reason::Bounds) } else { Ok(()) }
}

/// A leaf whose elements lie in it, in the order of their keys.
pub struct Leaf<'a> {
    bytes: &'a [u8],
    count: usize,
}

/// A key with its value.
#[derive(Debug, Clone, Copy)]
pub struct Element<'a> {
    /// Counted from zero.
    pub index: usize,
    /// Whether the value is a bucket.
    pub is_bucket: bool,
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
}

impl<'a> Leaf<'a> {
    fn check(bytes: &'a [u8], count: usize, bounds: &Bounds) -> Result<Self, Reason> {
        let leaf = Self { bytes, count };
        if let Some(index) = (0..count).find(|index| leaf.element(*index).is_none()) {
            return Err(Reason::Element { index });
        }
        check_keys((0..count).filter_map(|index| leaf.element(index)).map(|element| element.key), bounds)?;
        Ok(leaf)
    }

    fn element(&self, index: usize) -> Option<Element<'a>> {
        let start = HEADER + index * ELEMENT;
        let head = self.bytes.get(start..start + ELEMENT)?;
        let (flags, pos) = (u32_at(head, 0)?, u32_at(head, 4)?);
        let (key_size, value_size) = (u32_at(head, 8)?, u32_at(head, 12)?);
        let key = slice(self.bytes, start, pos, 0, key_size)?;
        let value = slice(self.bytes, start, pos, key_size, value_size)?;
        Some(Element { index, is_bucket: flags & IS_BUCKET != 0, key, value })
    }

    /// Its elements, the greatest key first.
    pub fn backwards(&self) -> impl Iterator<Item = Element<'a>> + '_ {
        (0..self.count).rev().filter_map(|index| self.element(index))
    }
}

/// `size` bytes, `pos` and `skip` behind the element that names them.
fn slice(bytes: &[u8], start: usize, pos: u32, skip: u32, size: u32) -> Option<&[u8]> {
    let from = start.checked_add(usize::try_from(pos).ok()?)?.checked_add(usize::try_from(skip).ok()?)?;
    bytes.get(from..from.checked_add(usize::try_from(size).ok()?)?)
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
                0 => Bucket::Inline(element.value[HEADER.min(element.value.len())..].into()),
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
    let count = u16_at(bytes, 8).filter(|flags| *flags == LEAF).and_then(|_| u16_at(bytes, 10));
    let leaf = count.ok_or(Reason::Short).and_then(|count| Leaf::check(bytes, count.into(), &Bounds::default()));
    match leaf {
        Ok(leaf) => visitor.leaf(page, &leaf),
        Err(reason) => visitor.damage(PageDamage { page, reason, bounds: Some(Bounds::default()) }),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}
