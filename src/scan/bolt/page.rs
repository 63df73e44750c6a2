//! The bytes of one branch or leaf: its header, and the elements in it.
//!
//! bbolt packs the elements: their keys and values follow right after the heads, in order and without gaps. A page that
//! is laid out in another way was not written by bbolt, and is refused.

use super::{
    bounds::{BoundKey, Bounds},
    bytes::{size_at, u16_at, u32_at, u64_at},
    damage::PageError,
    meta::{HEADER, MetaPage},
};

/// The length of the head of an element in bytes.
pub const ELEMENT: usize = 16;

const BRANCH: u16 = 1;
const LEAF: u16 = 2;

/// The greatest length of one page in bytes, over all pages that it spans: far more than any value that etcd accepts
/// (`--max-request-bytes`, 1.5 MiB by default). One thread at a time may have so many bytes in memory.
const SPAN_MAX: u64 = 64 << 20;

/// The kind of a page in a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PageKind {
    /// A branch: keys, and the numbers of the pages below it.
    Branch,
    /// A leaf: keys and values.
    Leaf,
}

/// The header of a branch or leaf.
#[derive(Debug, Clone, Copy)]
pub struct Header {
    /// The kind of the page.
    pub kind: PageKind,
    /// The number of elements in the page.
    pub count: usize,
    /// The number of pages that it spans, itself included.
    pub span: u64,
}

impl Header {
    /// Parses the header of the page `number` in a database of `size` bytes.
    pub fn parse(bytes: &[u8], number: u64, meta: &MetaPage, size: u64) -> Result<Self, PageError> {
        let field = || Some((u64_at(bytes, 0)?, u16_at(bytes, 8)?, u16_at(bytes, 10)?, u32_at(bytes, 12)?));
        let (found, flags, count, overflow) = field().ok_or(PageError::Short)?;
        meta.check_number(number)?;
        if found != number {
            return Err(PageError::Number { found });
        }
        let kind = match flags {
            BRANCH => PageKind::Branch,
            LEAF => PageKind::Leaf,
            found => return Err(PageError::Flags { found }),
        };
        let span = 1 + u64::from(overflow);
        if number + span > meta.pages || span.saturating_mul(meta.page_size) > SPAN_MAX {
            return Err(PageError::Span { pages: span });
        }
        if (number + span).saturating_mul(meta.page_size) > size {
            return Err(PageError::Short);
        }
        Ok(Self { kind, count: count.into(), span })
    }
}

/// Returns the number of elements in a leaf that is stored inside a bucket's value.
pub fn inline_count(bytes: &[u8]) -> Result<usize, PageError> {
    match (u16_at(bytes, 8), u16_at(bytes, 10)) {
        (Some(LEAF), Some(count)) => Ok(count.into()),
        (Some(found), _) => Err(PageError::Flags { found }),
        _ => Err(PageError::Short),
    }
}

/// Returns the greatest number of pages that the elements can occupy: up to the end of the last element, and one more
/// page, because bbolt may allocate one too many.
pub fn pages_needed(bytes: &[u8], kind: PageKind, count: usize, page_size: u64) -> Result<u64, PageError> {
    let Some(index) = count.checked_sub(1) else { return Ok(1) };
    let start = HEADER + index * ELEMENT;
    let end = || {
        let (pos, key, value) = match kind {
            PageKind::Branch => (size_at(bytes, start)?, size_at(bytes, start + 4)?, 0),
            PageKind::Leaf => (size_at(bytes, start + 4)?, size_at(bytes, start + 8)?, size_at(bytes, start + 12)?),
        };
        start.checked_add(pos)?.checked_add(key)?.checked_add(value)
    };
    end().map(|end| end as u64 / page_size + 1).ok_or(PageError::Element { index })
}

/// Takes the bytes of one element after the other, and checks that they have no gaps between them.
pub struct Packed<'a> {
    bytes: &'a [u8],
    next: usize,
}

impl<'a> Packed<'a> {
    /// Begins after the heads of `count` elements.
    pub fn new(bytes: &'a [u8], count: usize) -> Self {
        Self { bytes, next: HEADER + count * ELEMENT }
    }

    /// Takes the `size` bytes of the element whose head is at `start` and contains the position `pos`. Returns `None`
    /// if they are not right after the bytes of the previous element.
    pub fn take(&mut self, start: usize, pos: u32, size: usize) -> Option<&'a [u8]> {
        let from = start.checked_add(usize::try_from(pos).ok()?)?;
        let taken = self.bytes.get(from..from.checked_add(size)?).filter(|_| from == self.next)?;
        self.next = from + size;
        Some(taken)
    }
}

/// Checks that the keys of a page ascend, and lie within its bounds.
pub struct Order<'b, 'k> {
    before: Option<&'k [u8]>,
    bounds: &'b Bounds,
}

impl<'b, 'k> Order<'b, 'k> {
    /// Begins before the first key of a page with these bounds.
    pub fn new(bounds: &'b Bounds) -> Self {
        Self { before: None, bounds }
    }

    /// Checks the next key. Only the first key can be below the bounds, because the others are greater.
    pub fn check(&mut self, index: usize, key: &'k [u8]) -> Result<(), PageError> {
        match self.before.replace(key) {
            Some(before) if before >= key => Err(PageError::Order { index }),
            None if !self.bounds.contain(key) => Err(PageError::Bounds),
            _ => Ok(()),
        }
    }

    /// Checks that the last key is within the bounds.
    pub fn end(self) -> Result<(), PageError> {
        if self.before.is_some_and(|last| !self.bounds.contain(last)) { Err(PageError::Bounds) } else { Ok(()) }
    }
}

/// Returns the children of a branch: the first key and the number of each page.
pub fn children<'a>(bytes: &'a [u8], count: usize, bounds: &Bounds) -> Result<Vec<(&'a [u8], u64)>, PageError> {
    let mut packed = Packed::new(bytes, count);
    let mut element = |index: usize| {
        let start = HEADER + index * ELEMENT;
        let key = packed.take(start, u32_at(bytes, start)?, size_at(bytes, start + 4)?)?;
        Some((key, u64_at(bytes, start + 8)?))
    };
    let elements = (0..count).map(|index| element(index).ok_or(PageError::Element { index }));
    let elements: Vec<_> = elements.collect::<Result<_, _>>()?;
    let mut order = Order::new(bounds);
    elements.iter().enumerate().try_for_each(|(index, (key, _))| order.check(index, key))?;
    order.end()?;
    if elements.is_empty() { Err(PageError::Empty) } else { Ok(elements) }
}

/// Returns the key of an element, even if it lies outside the page's bounds.
pub fn key_of(bytes: &[u8], kind: PageKind, index: usize) -> Option<&[u8]> {
    let start = HEADER + index * ELEMENT;
    let head = start + if kind == PageKind::Leaf { 4 } else { 0 };
    let (from, size) = (start.checked_add(size_at(bytes, head)?)?, size_at(bytes, head + 4)?);
    bytes.get(from..from.checked_add(size)?)
}

/// Returns the range of keys that may be missing because a page's keys lie outside its bounds. Either the page is the
/// wrong one. Or a key in a branch above it is damaged, and then the keys of this page are missing, too.
pub fn widened(bounds: &Bounds, bytes: &[u8], kind: PageKind, count: usize) -> Bounds {
    let mut bounds = *bounds;
    let (first, last) = (key_of(bytes, kind, 0), count.checked_sub(1).and_then(|last| key_of(bytes, kind, last)));
    if first.zip(bounds.low.as_deref()).is_some_and(|(first, low)| first < low) {
        bounds.low = first.and_then(BoundKey::new);
    }
    // If the page spans several, its last key may not have been read.
    if last.is_none_or(|last| bounds.high.as_deref().is_some_and(|high| last >= high)) {
        // The last page below a branch may contain keys beyond the branch's last key.
        bounds.high = last.filter(|_| kind == PageKind::Leaf).and_then(BoundKey::new);
    }
    bounds
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::bolt::leaf::Leaf;

    const DATABASE: MetaPage = MetaPage { page_size: 512, root: 2, pages: 8, txid: 1 };

    fn head(number: u64, flags: u16, count: u16, overflow: u32) -> Vec<u8> {
        [&number.to_le_bytes()[..], &flags.to_le_bytes(), &count.to_le_bytes(), &overflow.to_le_bytes()].concat()
    }

    /// Returns the reason why these bytes are refused as page 3 of a database of 8 pages.
    fn refused(bytes: &[u8]) -> String {
        Header::parse(bytes, 3, &DATABASE, 8 * 512).unwrap_err().to_string()
    }

    #[test]
    fn a_header_that_cannot_be_right_is_refused_with_its_reason() {
        Header::parse(&head(3, LEAF, 1, 0), 3, &DATABASE, 8 * 512).unwrap();
        let outside = Header::parse(&head(8, LEAF, 1, 0), 8, &DATABASE, 8 * 512).unwrap_err();
        assert_eq!(outside.to_string(), "not one of the pages 2 to 7");
        assert_eq!(refused(&head(3, LEAF, 1, 0)[..15]), "the file ends before the page does");
        assert_eq!(refused(&head(4, LEAF, 1, 0)), "its header names page 4");
        assert_eq!(refused(&head(3, 7, 1, 0)), "its flags are 0x0007, expected those of a branch or a leaf");
        let expected = "it spans 6 pages, more than there can be or than its elements need";
        assert_eq!(refused(&head(3, LEAF, 1, 5)), expected);
    }

    /// Returns a leaf of elements with these keys and no values.
    fn leaf(keys: &[&[u8]]) -> Vec<u8> {
        let count = u32::try_from(keys.len()).unwrap();
        let (mut heads, mut data) = (head(3, LEAF, u16::try_from(keys.len()).unwrap(), 0), Vec::new());
        for (index, key) in (0..).zip(keys) {
            let pos = (count - index) * 16 + u32::try_from(data.len()).unwrap();
            let size = u32::try_from(key.len()).unwrap();
            heads.extend([0, pos, size, 0].iter().flat_map(|number: &u32| number.to_le_bytes()));
            data.extend(*key);
        }
        [heads, data].concat()
    }

    #[test]
    fn elements_that_cannot_be_right_are_refused_with_their_reason() {
        let check = |bytes: &[u8], count, bounds: &Bounds| {
            Leaf::check(0, bytes, count, bounds)
                .map(|leaf| leaf.backwards().count())
                .map_err(|reason| reason.to_string())
        };
        let all = Bounds::default();
        let good = leaf(&[b"a", b"b"]);
        assert_eq!(check(&good, 2, &all), Ok(2));
        let text = |text: &str| Err(text.to_owned());
        assert_eq!(check(&good[..good.len() - 1], 2, &all), text("element 1 lies outside the page"));
        assert_eq!(check(&leaf(&[b"b", b"a"]), 2, &all), text("key 1 is not greater than the one before"));
        let later = Bounds { low: BoundKey::new(b"b"), high: None };
        assert_eq!(check(&good, 2, &later), text("its keys are not between those of the pages beside it"));
        let none = children(&head(3, BRANCH, 0, 0), 0, &all).unwrap_err();
        assert_eq!(none.to_string(), "it has no element");
    }
}
