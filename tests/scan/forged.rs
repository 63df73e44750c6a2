//! Writes a database file page by page, also as bbolt never would. All pages that are not written are holes in the
//! file.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use prost::Message;

use crate::oracle::EncryptedObject;

pub(crate) const BRANCH: u16 = 1;
pub(crate) const LEAF: u16 = 2;
const META: u16 = 4;

/// The numbers of the page that names the buckets, and of the root of the tree of keys.
const BUCKETS: u64 = 3;
pub(crate) const ROOT: u64 = 5;

/// The first page that is free for the tree.
pub(crate) const FREE: u64 = 8;

pub(crate) struct Forged {
    file: File,
    path: PathBuf,
    pub(crate) page_size: u64,
}

impl Forged {
    /// Makes a database with `pages` pages. The tree of keys has its root on page 5.
    pub(crate) fn new(path: PathBuf, page_size: u64, pages: u64) -> Self {
        let forged = Self { file: File::create(&path).unwrap(), path, page_size };
        forged.file.set_len(pages * page_size).unwrap();
        for number in 0..2_u64 {
            let mut meta = [0; 64];
            meta[..4].copy_from_slice(&0xED0C_DAED_u32.to_le_bytes());
            meta[4..8].copy_from_slice(&2_u32.to_le_bytes());
            meta[8..12].copy_from_slice(&(page_size as u32).to_le_bytes());
            meta[16..24].copy_from_slice(&BUCKETS.to_le_bytes());
            meta[32..40].copy_from_slice(&2_u64.to_le_bytes());
            meta[40..48].copy_from_slice(&pages.to_le_bytes());
            // Both meta pages are valid, and the second one is newer.
            meta[48..56].copy_from_slice(&(number + 7).to_le_bytes());
            let digest = meta[..56]
                .iter()
                .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
            meta[56..].copy_from_slice(&digest.to_le_bytes());
            forged.page(number, META, 0, 0, &meta);
        }
        let buckets = [(&b"key"[..], [ROOT.to_le_bytes(), [0; 8]].concat()), (b"meta", inline())];
        forged.page(BUCKETS, LEAF, 2, 0, &leaf(&buckets, 1));
        forged
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a page that claims to span `overflow` further pages.
    pub(crate) fn page(&self, number: u64, kind: u16, count: u16, overflow: u32, body: &[u8]) {
        let head =
            [&number.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes(), &overflow.to_le_bytes()].concat();
        self.file.write_all_at(&[head.as_slice(), body].concat(), number * self.page_size).unwrap();
    }

    /// Returns the number of pages, beyond the first one, that a header and `body` need.
    pub(crate) fn overflow(&self, body: &[u8]) -> u32 {
        u32::try_from((16 + body.len() as u64).div_ceil(self.page_size) - 1).unwrap()
    }

    /// Writes the branches above these leaves, and the root. Each leaf has its first key. The branches begin at page
    /// `free`.
    pub(crate) fn tree(&self, mut level: Vec<(Vec<u8>, u64)>, mut free: u64) {
        while level.len() > 1 {
            level = level
                .chunks(80)
                .map(|children| {
                    free += 1;
                    self.page(free, BRANCH, children.len() as u16, 0, &branch(children));
                    (children[0].0.clone(), free)
                })
                .collect();
        }
        // The root is a branch with one child.
        self.page(ROOT, BRANCH, 1, 0, &branch(&level));
    }
}

/// Returns an empty bucket that is stored inside of its element.
fn inline() -> Vec<u8> {
    [&[0; 16][..], &[0; 8], &LEAF.to_le_bytes(), &[0; 6]].concat()
}

/// Returns the elements of a leaf, packed.
pub(crate) fn leaf(elements: &[(&[u8], Vec<u8>)], flags: u32) -> Vec<u8> {
    let (mut heads, mut bytes) = (Vec::new(), Vec::new());
    for (index, (key, value)) in elements.iter().enumerate() {
        let pos = 16 * (elements.len() - index) + bytes.len();
        for number in [flags, pos as u32, key.len() as u32, value.len() as u32] {
            heads.extend(number.to_le_bytes());
        }
        bytes.extend([key, value.as_slice()].concat());
    }
    [heads, bytes].concat()
}

/// Returns the elements of a branch, packed.
pub(crate) fn branch(children: &[(Vec<u8>, u64)]) -> Vec<u8> {
    let (mut heads, mut bytes) = (Vec::new(), Vec::new());
    for (index, (key, page)) in children.iter().enumerate() {
        let pos = 16 * (children.len() - index) + bytes.len();
        heads.extend([(pos as u32).to_le_bytes(), (key.len() as u32).to_le_bytes()].concat());
        heads.extend(page.to_le_bytes());
        bytes.extend(key);
    }
    [heads, bytes].concat()
}

/// Returns the key of a revision.
pub(crate) fn revision(main: u64) -> Vec<u8> {
    [&main.to_be_bytes()[..], b"_", &0_u64.to_be_bytes()].concat()
}

/// The record of one change in etcd's database.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Record {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) key: Vec<u8>,
    #[prost(int64, tag = "2")]
    pub(crate) create_revision: i64,
    #[prost(int64, tag = "3")]
    pub(crate) mod_revision: i64,
    #[prost(int64, tag = "4")]
    pub(crate) version: i64,
    #[prost(bytes = "vec", tag = "5")]
    pub(crate) value: Vec<u8>,
}

impl Record {
    /// Returns the first value of a key.
    pub(crate) fn first(key: &str, revision: u64, value: Vec<u8>) -> Vec<u8> {
        let revision = i64::try_from(revision).unwrap();
        let key = key.as_bytes().to_vec();
        Self { key, create_revision: revision, mod_revision: revision, version: 1, value }.encode_to_vec()
    }
}

/// Returns the record of a Secret under its own key.
pub(crate) fn secret(number: u64) -> Vec<u8> {
    let object = EncryptedObject {
        encrypted_data: vec![7; 60],
        key_id: format!("made-up-{number:08}-{}", "x".repeat(100)),
        encrypted_dek_source: vec![7; 40],
        annotations: [].into(),
        encrypted_dek_source_type: 1,
    };
    let value = [b"k8s:enc:kms:v2:claviger:".to_vec(), object.encode_to_vec()].concat();
    Record::first(&format!("/registry/secrets/default/{number:08}"), number, value)
}
