//! The range of keys that belongs to a page.

use std::ops::Deref;

/// The greatest length of a key that fits. A revision has at most 18 bytes.
const KEY_MAX: usize = 24;

/// A key that is stored without an allocation: there are two for each of hundreds of thousands of pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundKey {
    bytes: [u8; KEY_MAX],
    length: u8,
}

impl BoundKey {
    /// Copies `key`. Returns `None` if it is longer than any key that etcd writes.
    pub fn new(key: &[u8]) -> Option<Self> {
        let mut bytes = [0; KEY_MAX];
        bytes.get_mut(..key.len())?.copy_from_slice(key);
        Some(Self { bytes, length: u8::try_from(key.len()).ok()? })
    }
}

impl Deref for BoundKey {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length.into()]
    }
}

/// The range of keys that belongs to a page.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// The first key of the range. `None` means that the range begins with the first key of all.
    pub low: Option<BoundKey>,
    /// The first key after the range. `None` means that the range ends with the last key of all.
    pub high: Option<BoundKey>,
}

impl Bounds {
    /// Whether `key` is in the range.
    pub fn contain(&self, key: &[u8]) -> bool {
        self.low.as_deref().is_none_or(|low| low <= key) && self.high.as_deref().is_none_or(|high| key < high)
    }
}
