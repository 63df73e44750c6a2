//! A checked leaf: keys with their values, in ascending order.

use super::{
    bounds::{BoundKey, Bounds},
    bytes::{size_at, u32_at},
    damage::PageError,
    meta::HEADER,
    page::{ELEMENT, Order, Packed},
};

/// The flag of an element whose value is a bucket.
const IS_BUCKET: u32 = 1;

/// A leaf whose elements are packed, ascend, and lie within its bounds.
pub struct Leaf<'a> {
    /// The position of the leaf in the file, in bytes.
    start: u64,
    bytes: &'a [u8],
    count: usize,
    bounds: &'a Bounds,
}

/// A key with its value.
#[derive(Debug, Clone, Copy)]
pub struct Element<'a> {
    /// The index of the element in the leaf, from zero.
    pub index: usize,
    /// Whether the value is a bucket.
    pub is_bucket: bool,
    /// The key of the element.
    pub key: &'a [u8],
    /// The value of the element.
    pub value: &'a [u8],
    /// The position of the value in the file, in bytes.
    pub value_start: u64,
}

impl<'a> Leaf<'a> {
    /// Checks a leaf of `count` elements. Its `bytes` begin at `start` in the file.
    pub fn check(start: u64, bytes: &'a [u8], count: usize, bounds: &'a Bounds) -> Result<Self, PageError> {
        let (mut packed, mut order) = (Packed::new(bytes, count), Order::new(bounds));
        for index in 0..count {
            let head = HEADER + index * ELEMENT;
            let mut element = || {
                let (pos, key, value) =
                    (u32_at(bytes, head + 4)?, size_at(bytes, head + 8)?, size_at(bytes, head + 12)?);
                packed.take(head, pos, key.checked_add(value)?)?.get(..key)
            };
            order.check(index, element().ok_or(PageError::Element { index })?)?;
        }
        order.end()?;
        Ok(Self { start, bytes, count, bounds })
    }

    /// Returns the element with this index. [`Leaf::check`] has checked it.
    fn element(&self, index: usize) -> Option<Element<'a>> {
        let start = HEADER + index * ELEMENT;
        let head = self.bytes.get(start..start + ELEMENT)?;
        let (flags, pos) = (u32_at(head, 0)?, size_at(head, 4)?);
        let (key_size, value_size) = (size_at(head, 8)?, size_at(head, 12)?);
        let (key, rest) = self.bytes.get(start + pos..)?.split_at_checked(key_size)?;
        let value_start = self.start + (start + pos + key_size) as u64;
        Some(Element { index, is_bucket: flags & IS_BUCKET != 0, key, value: rest.get(..value_size)?, value_start })
    }

    /// Returns the range of keys between the neighbours of an element, whatever its own key is.
    pub fn around(&self, index: usize) -> Bounds {
        let key = |index| self.element(index).and_then(|element: Element<'_>| BoundKey::new(element.key));
        let low = index.checked_sub(1).and_then(key).or(self.bounds.low);
        let high = if index + 1 < self.count { key(index + 1) } else { self.bounds.high };
        Bounds { low, high }
    }

    /// Iterates over the elements, the greatest key first.
    pub fn backwards(&self) -> impl Iterator<Item = Element<'a>> + '_ {
        (0..self.count).rev().filter_map(|index| self.element(index))
    }
}
