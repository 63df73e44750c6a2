//! The bytes of one page: what they are, and whether they can be that.
//!
//! bbolt writes keys and values one behind the other, right behind their heads; whatever is not so was not written by it.

use std::{io, ops::Deref};

pub(super) const HEADER: usize = 16;
pub(super) const ELEMENT: usize = 16;
pub(super) const META: usize = 64;
pub(super) const MAGIC: u32 = 0xED0C_DAED;
pub(super) const VERSION: u32 = 2;

pub(super) const BRANCH: u16 = 1;
pub(super) const LEAF: u16 = 2;
pub(super) const META_FLAG: u16 = 4;

/// The most that one page may span: far above every value that etcd takes (`--max-request-bytes`, 1.5 MiB by default).
const SPAN_MAX: u64 = 256 << 20;

/// In the flags of a leaf's element.
pub(super) const IS_BUCKET: u32 = 1;

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
    #[error("it spans {pages} pages, more than there can be or than its elements need")]
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
    /// No element where there has to be one.
    #[error("it has no element")]
    Empty,
    /// A branch where leaves are, or a leaf where branches are.
    #[error("it is not as far above the leaves as the pages beside it")]
    Height,
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

/// A key in place, as there is one for each of hundreds of thousands of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    bytes: [u8; KEY_MAX],
    length: usize,
}

/// Revisions have 18 bytes at the most.
const KEY_MAX: usize = 24;

impl Key {
    /// None of one that is longer than any that etcd writes: nothing is known then of what lies beside it.
    pub fn new(key: &[u8]) -> Option<Self> {
        let mut bytes = [0; KEY_MAX];
        bytes.get_mut(..key.len())?.copy_from_slice(key);
        Some(Self { bytes, length: key.len() })
    }
}

impl Deref for Key {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

/// From which key on (included) to which (excluded).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Included; none is the beginning.
    pub low: Option<Key>,
    /// Excluded; none is the end.
    pub high: Option<Key>,
}

impl Bounds {
    pub(super) fn contain(&self, key: &[u8]) -> bool {
        self.low.as_deref().is_none_or(|low| low <= key) && self.high.as_deref().is_none_or(|high| key < high)
    }
}

/// One of the two pages that say where everything begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meta {
    pub(super) page_size: u64,
    pub(super) root: u64,
    pub(super) pages: u64,
    pub(super) txid: u64,
}

impl Meta {
    /// Whether there is a page of this number that is no meta page.
    pub(super) fn check_number(&self, number: u64) -> Result<(), Reason> {
        if (2..self.pages).contains(&number) {
            Ok(())
        } else {
            Err(Reason::Outside { last: self.pages.saturating_sub(1) })
        }
    }

    /// Reads the meta page `number` from its first bytes.
    pub(super) fn parse(bytes: &[u8], number: u64) -> Option<Self> {
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
            // Nothing is said of the number's parity: a member writes the page of its own, a snapshot begins with the newest.
            && (9..=24).contains(&meta.page_size.trailing_zeros())
            && meta.page_size.is_power_of_two();
        is_meta.then_some(meta)
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PageKind {
    Branch,
    Leaf,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Header {
    pub(super) kind: PageKind,
    pub(super) count: usize,
    pub(super) span: u64,
}

impl Header {
    /// Reads the header of the page `number` of a database of `size` bytes.
    pub(super) fn parse(bytes: &[u8], number: u64, meta: &Meta, size: u64) -> Result<Self, Reason> {
        let field = || Some((u64_at(bytes, 0)?, u16_at(bytes, 8)?, u16_at(bytes, 10)?, u32_at(bytes, 12)?));
        let (found, flags, count, overflow) = field().ok_or(Reason::Short)?;
        meta.check_number(number)?;
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
        if (number + span).saturating_mul(meta.page_size) > size {
            return Err(Reason::Short);
        }
        Ok(Self { kind, count: count.into(), span })
    }
}

/// How many elements the page has that stands in a bucket's value.
pub(super) fn inline_count(bytes: &[u8]) -> Result<usize, Reason> {
    match (u16_at(bytes, 8), u16_at(bytes, 10)) {
        (Some(LEAF), Some(count)) => Ok(count.into()),
        (Some(found), _) => Err(Reason::Flags { found }),
        _ => Err(Reason::Short),
    }
}

/// How many pages the elements take at the most, by where the last one ends: bbolt takes one more than they fill.
pub(super) fn pages_needed(bytes: &[u8], kind: PageKind, count: usize, page_size: u64) -> Result<u64, Reason> {
    let Some(index) = count.checked_sub(1) else { return Ok(1) };
    let start = HEADER + index * ELEMENT;
    let end = || {
        let (pos, key, value) = match kind {
            PageKind::Branch => (sizes(bytes, start)?, sizes(bytes, start + 4)?, 0),
            PageKind::Leaf => (sizes(bytes, start + 4)?, sizes(bytes, start + 8)?, sizes(bytes, start + 12)?),
        };
        start.checked_add(pos)?.checked_add(key)?.checked_add(value)
    };
    end().map(|end| end as u64 / page_size + 1).ok_or(Reason::Element { index })
}

/// Where the next element's bytes have to be: right behind the heads, or behind those of the element before.
struct Packed<'a> {
    bytes: &'a [u8],
    next: usize,
}

impl<'a> Packed<'a> {
    fn new(bytes: &'a [u8], count: usize) -> Self {
        Self { bytes, next: HEADER + count * ELEMENT }
    }

    /// The bytes of the element whose head at `start` says that they are at `pos`.
    fn take(&mut self, start: usize, pos: u32, size: usize) -> Option<&'a [u8]> {
        let from = start.checked_add(usize::try_from(pos).ok()?)?;
        let taken = self.bytes.get(from..from.checked_add(size)?).filter(|_| from == self.next)?;
        self.next = from + size;
        Some(taken)
    }
}

fn sizes(head: &[u8], at: usize) -> Option<usize> {
    u32_at(head, at).and_then(|size| usize::try_from(size).ok())
}

/// The first keys and the numbers of the pages below a branch.
pub(super) fn children<'a>(bytes: &'a [u8], count: usize, bounds: &Bounds) -> Result<Vec<(&'a [u8], u64)>, Reason> {
    let mut packed = Packed::new(bytes, count);
    let mut element = |index: usize| {
        let start = HEADER + index * ELEMENT;
        let key = packed.take(start, u32_at(bytes, start)?, sizes(bytes, start + 4)?)?;
        Some((key, u64_at(bytes, start + 8)?))
    };
    let elements = (0..count).map(|index| element(index).ok_or(Reason::Element { index }));
    let elements: Vec<_> = elements.collect::<Result<_, _>>()?;
    let mut order = Order { before: None, bounds };
    elements.iter().enumerate().try_for_each(|(index, (key, _))| order.check(index, key))?;
    order.end()?;
    if elements.is_empty() { Err(Reason::Empty) } else { Ok(elements) }
}

/// Checks that keys rise, and belong to their page.
struct Order<'b, 'k> {
    before: Option<&'k [u8]>,
    bounds: &'b Bounds,
}

impl<'k> Order<'_, 'k> {
    fn check(&mut self, index: usize, key: &'k [u8]) -> Result<(), Reason> {
        match self.before.replace(key) {
            Some(before) if before >= key => Err(Reason::Order { index }),
            // Keys rise: only the first can be too small.
            None if !self.bounds.contain(key) => Err(Reason::Bounds),
            _ => Ok(()),
        }
    }

    fn end(self) -> Result<(), Reason> {
        if self.before.is_some_and(|last| !self.bounds.contain(last)) { Err(Reason::Bounds) } else { Ok(()) }
    }
}

/// The key of an element, wherever it belongs.
pub(super) fn key_of(bytes: &[u8], kind: PageKind, index: usize) -> Option<&[u8]> {
    let start = HEADER + index * ELEMENT;
    let head = start + if kind == PageKind::Leaf { 4 } else { 0 };
    let (from, size) = (start.checked_add(sizes(bytes, head)?)?, sizes(bytes, head + 4)?);
    bytes.get(from..from.checked_add(size)?)
}

/// What may be missing for a page whose keys lie elsewhere than they should: either it is the wrong page, or a key above it is
/// damaged, and then more is missing than what should be here.
pub(super) fn widened(bounds: &Bounds, bytes: &[u8], kind: PageKind, count: usize) -> Bounds {
    let mut bounds = *bounds;
    let (first, last) = (key_of(bytes, kind, 0), count.checked_sub(1).and_then(|last| key_of(bytes, kind, last)));
    if first.zip(bounds.low.as_deref()).is_some_and(|(first, low)| first < low) {
        bounds.low = first.and_then(Key::new);
    }
    // That of a page that spans others may not have been read.
    if last.is_none_or(|last| bounds.high.as_deref().is_some_and(|high| last >= high)) {
        // Nobody knows how far the last one below a branch reaches.
        bounds.high = last.filter(|_| kind == PageKind::Leaf).and_then(Key::new);
    }
    bounds
}

/// A leaf whose elements lie in it, in the order of their keys.
pub struct Leaf<'a> {
    bytes: &'a [u8],
    count: usize,
    bounds: &'a Bounds,
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
    pub(super) fn check(bytes: &'a [u8], count: usize, bounds: &'a Bounds) -> Result<Self, Reason> {
        let (mut packed, mut order) = (Packed::new(bytes, count), Order { before: None, bounds });
        for index in 0..count {
            let start = HEADER + index * ELEMENT;
            let mut element = || {
                let (pos, key, value) =
                    (u32_at(bytes, start + 4)?, sizes(bytes, start + 8)?, sizes(bytes, start + 12)?);
                packed.take(start, pos, key.checked_add(value)?)?.get(..key)
            };
            order.check(index, element().ok_or(Reason::Element { index })?)?;
        }
        order.end()?;
        Ok(Self { bytes, count, bounds })
    }

    /// An element that was checked.
    fn element(&self, index: usize) -> Option<Element<'a>> {
        let start = HEADER + index * ELEMENT;
        let head = self.bytes.get(start..start + ELEMENT)?;
        let (flags, pos) = (u32_at(head, 0)?, sizes(head, 4)?);
        let (key_size, value_size) = (sizes(head, 8)?, sizes(head, 12)?);
        let (key, rest) = self.bytes.get(start + pos..)?.split_at_checked(key_size)?;
        Some(Element { index, is_bucket: flags & IS_BUCKET != 0, key, value: rest.get(..value_size)? })
    }

    /// Between which keys an element lies, whatever its own key is.
    pub fn around(&self, index: usize) -> Bounds {
        let key = |index| self.element(index).and_then(|element: Element<'_>| Key::new(element.key));
        let before = index.checked_sub(1).and_then(key).or(self.bounds.low);
        let behind = if index + 1 < self.count { key(index + 1) } else { self.bounds.high };
        Bounds { low: before, high: behind }
    }

    /// Its elements, the greatest key first.
    pub fn backwards(&self) -> impl Iterator<Item = Element<'a>> + '_ {
        (0..self.count).rev().filter_map(|index| self.element(index))
    }
}

pub(super) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_le_bytes(*bytes))
}

pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}

pub(super) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|bytes| u64::from_le_bytes(*bytes))
}
