//! The two meta pages, which say where everything else in the database is.

use super::{
    bytes::{u16_at, u32_at, u64_at},
    damage::PageError,
};

/// The length of a page's header in bytes.
pub const HEADER: usize = 16;
/// The length of a meta page in bytes, without its header.
pub const META: usize = 64;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
const META_FLAG: u16 = 4;

/// A meta page. The database has two; the one with the greater transaction number counts.
#[derive(Debug, Clone, Copy)]
pub struct MetaPage {
    /// The size of a page in bytes, a power of two.
    pub page_size: u64,
    /// The number of the root page of the tree of all buckets.
    pub root: u64,
    /// The number of pages in the database.
    pub pages: u64,
    /// The number of the transaction that wrote this meta page.
    pub txid: u64,
}

impl MetaPage {
    /// Parses the meta page `number` from its first bytes. Returns `None` if they are no meta page.
    ///
    /// Any transaction may be on either page: a member puts even ones on page 0, and a snapshot has the newest one
    /// there.
    pub fn parse(bytes: &[u8], number: u64) -> Option<Self> {
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
            && (9..=24).contains(&meta.page_size.trailing_zeros())
            && meta.page_size.is_power_of_two();
        is_meta.then_some(meta)
    }

    /// Checks that `number` is a page of the database, and not a meta page.
    pub fn check_number(&self, number: u64) -> Result<(), PageError> {
        if (2..self.pages).contains(&number) {
            Ok(())
        } else {
            Err(PageError::Outside { last: self.pages.saturating_sub(1) })
        }
    }
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
