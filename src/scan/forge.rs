//! Writes databases as etcd's bbolt does, for tests and for fuzzing, which then damage them.

use std::{collections::HashMap, io::Write};

/// One change of a key: its revision, the key, and the new value. A deletion has no value.
pub type Change<'a> = ((u64, u64), &'a [u8], Option<&'a [u8]>);

/// The layout of a forged database.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// The size of a page in bytes: a power of two, at least 512.
    pub page_size: usize,
    /// The number of elements in a leaf.
    pub leaf: usize,
    /// The number of children of a branch.
    pub branch: usize,
    /// The revision up to which the database was compacted.
    pub compacted: Option<u64>,
}

impl Default for Shape {
    fn default() -> Self {
        Self { page_size: 4096, leaf: 8, branch: 4, compacted: None }
    }
}

const LEAF: u16 = 2;
const BRANCH: u16 = 1;
const META: u16 = 4;

/// Returns the bytes of a database with these changes, which must be in the order of their revisions.
pub fn database(shape: Shape, changes: &[Change<'_>]) -> Vec<u8> {
    let mut pages = Pages { size: shape.page_size, bytes: vec![0; 2 * shape.page_size] };
    let mut made = HashMap::new();
    let entries: Vec<_> = changes.iter().map(|change| entry(change, &mut made)).collect();
    let mut level: Vec<(Vec<u8>, u64)> = entries
        .chunks(shape.leaf.max(1))
        .map(|chunk| (chunk[0].0.clone(), pages.add(LEAF, chunk.len(), &leaf(chunk, 0))))
        .collect();
    if level.is_empty() {
        level.push((Vec::new(), pages.add(LEAF, 0, &[])));
    }
    while level.len() > 1 {
        level = level
            .chunks(shape.branch.max(2))
            .map(|chunk| (chunk[0].0.clone(), pages.add(BRANCH, chunk.len(), &branch(chunk))))
            .collect();
    }
    let key = [level[0].1.to_le_bytes(), [0; 8]].concat();
    let compacted = shape.compacted.map(|revision| (b"finishedCompactRev".to_vec(), name((revision, 0), false)));
    let compacted: Vec<_> = compacted.into_iter().collect();
    // A bucket that is stored inline: root 0, a sequence number, and a page of its own.
    let meta = [vec![0; 16], header(0, LEAF, compacted.len(), 0), leaf(&compacted, 0)].concat();
    let buckets = [(b"key".to_vec(), key), (b"meta".to_vec(), meta)];
    let root = pages.add(LEAF, buckets.len(), &leaf(&buckets, 1));
    pages.finish(root)
}

/// Corrects the checksums of both meta pages.
pub fn mend_meta(bytes: &mut [u8], page_size: usize) {
    for start in [16, page_size + 16] {
        if let Some(meta) = bytes.get_mut(start..start + 64) {
            let sum = fnv1a(&meta[..56]);
            meta[56..].copy_from_slice(&sum.to_le_bytes());
        }
    }
}

/// Makes a file without a name that contains these bytes. The file disappears when it is closed.
pub fn file(bytes: &[u8]) -> std::io::Result<std::fs::File> {
    let fd = rustix::fs::memfd_create("database", rustix::fs::MemfdFlags::CLOEXEC)?;
    let mut file = std::fs::File::from(fd);
    file.write_all(bytes)?;
    Ok(file)
}

struct Pages {
    size: usize,
    bytes: Vec<u8>,
}

impl Pages {
    fn add(&mut self, flags: u16, count: usize, body: &[u8]) -> u64 {
        let number = (self.bytes.len() / self.size) as u64;
        let span = (16 + body.len()).div_ceil(self.size);
        self.bytes.extend(header(number, flags, count, span - 1));
        self.bytes.extend(body);
        self.bytes.resize(self.bytes.len().next_multiple_of(self.size), 0);
        number
    }

    fn finish(mut self, root: u64) -> Vec<u8> {
        let pages = (self.bytes.len() / self.size) as u64;
        for number in [0_u64, 1] {
            let start = if number == 0 { 0 } else { self.size };
            let meta = [
                header(number, META, 0, 0),
                0xED0C_DAED_u32.to_le_bytes().to_vec(),
                2_u32.to_le_bytes().to_vec(),
                u32::try_from(self.size).unwrap_or(0).to_le_bytes().to_vec(),
                0_u32.to_le_bytes().to_vec(),
                root.to_le_bytes().to_vec(),
                0_u64.to_le_bytes().to_vec(),
                u64::MAX.to_le_bytes().to_vec(),
                pages.to_le_bytes().to_vec(),
                (10 + number).to_le_bytes().to_vec(),
                vec![0; 8],
            ]
            .concat();
            self.bytes[start..start + meta.len()].copy_from_slice(&meta);
        }
        mend_meta(&mut self.bytes, self.size);
        self.bytes
    }
}

fn header(number: u64, flags: u16, count: usize, overflow: usize) -> Vec<u8> {
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    let overflow = u32::try_from(overflow).unwrap_or(u32::MAX);
    [&number.to_le_bytes()[..], &flags.to_le_bytes(), &count.to_le_bytes(), &overflow.to_le_bytes()].concat()
}

fn u32_of(number: usize) -> [u8; 4] {
    u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes()
}

fn leaf(elements: &[(Vec<u8>, Vec<u8>)], flags: u32) -> Vec<u8> {
    let (mut heads, mut data) = (Vec::new(), Vec::new());
    for (index, (key, value)) in elements.iter().enumerate() {
        let pos = (elements.len() - index) * 16 + data.len();
        heads.extend([flags.to_le_bytes(), u32_of(pos), u32_of(key.len()), u32_of(value.len())].concat());
        data.extend([key.as_slice(), value].concat());
    }
    [heads, data].concat()
}

fn branch(children: &[(Vec<u8>, u64)]) -> Vec<u8> {
    let (mut heads, mut data) = (Vec::new(), Vec::new());
    for (index, (key, page)) in children.iter().enumerate() {
        let pos = (children.len() - index) * 16 + data.len();
        heads.extend([&u32_of(pos)[..], &u32_of(key.len()), &page.to_le_bytes()].concat());
        data.extend(key);
    }
    [heads, data].concat()
}

fn name((main, sub): (u64, u64), is_tombstone: bool) -> Vec<u8> {
    let end: &[u8] = if is_tombstone { b"t" } else { b"" };
    [&main.to_be_bytes()[..], b"_", &sub.to_be_bytes(), end].concat()
}

/// Returns the key and value of one entry. `made` contains the revision of creation and the version of each key that
/// exists.
fn entry<'a>((revision, key, value): &Change<'a>, made: &mut HashMap<&'a [u8], (u64, u64)>) -> (Vec<u8>, Vec<u8>) {
    let mut message = Vec::new();
    let mut bytes = |tag: u32, bytes: &[u8]| prost::encoding::bytes::encode(tag, &bytes.to_vec(), &mut message);
    bytes(1, key);
    if let Some(value) = value {
        let (create_revision, version) = made.entry(key).or_insert((revision.0, 0));
        *version += 1;
        for (tag, number) in [(2, *create_revision), (3, revision.0), (4, *version)] {
            prost::encoding::uint64::encode(tag, &number, &mut message);
        }
        prost::encoding::bytes::encode(5, &value.to_vec(), &mut message);
    } else {
        made.remove(key);
    }
    (name(*revision, value.is_none()), message)
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}
