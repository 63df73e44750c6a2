//! Scans what someone made to fill the memory or to take for ever: a scan's memory and work follow from the bytes that it reads,
//! whatever they claim.
//!
//! Each scan runs with at most 256 MiB of memory of its own, which the kernel enforces. `CLAVIGER_CAMPAIGN` says how many values and
//! pages an input has.

use std::{
    fs::File,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use prost::Message;
use serde_json::Value;

use crate::{
    harness::{
        commands::{isolated, output},
        processes::Run,
    },
    oracle::EncryptedObject,
};

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");

/// A scan that has not ended by then hangs.
const LIMIT: Duration = Duration::from_mins(5);

const PAGE: u64 = 4096;
const BRANCH: u16 = 1;
const LEAF: u16 = 2;
const META: u16 = 4;

fn size(default: u32) -> u32 {
    std::env::var("CLAVIGER_CAMPAIGN").map_or(default, |size| size.parse().expect("a number"))
}

/// A database file that is written page by page. What is not written is a hole in the file.
struct Forged {
    file: File,
    path: PathBuf,
}

impl Forged {
    /// Whose tree of keys has its root on page 5, and which has `pages` pages.
    fn new(path: PathBuf, pages: u64) -> Self {
        let forged = Self { file: File::create(&path).unwrap(), path };
        forged.file.set_len(pages * PAGE).unwrap();
        for number in 0..2_u64 {
            let mut meta = [0; 64];
            meta[..4].copy_from_slice(&0xED0C_DAED_u32.to_le_bytes());
            meta[4..8].copy_from_slice(&2_u32.to_le_bytes());
            meta[8..12].copy_from_slice(&(PAGE as u32).to_le_bytes());
            meta[16..24].copy_from_slice(&3_u64.to_le_bytes());
            meta[32..40].copy_from_slice(&2_u64.to_le_bytes());
            meta[40..48].copy_from_slice(&pages.to_le_bytes());
            // Both are valid, and the second one is newer.
            meta[48..56].copy_from_slice(&(number + 7).to_le_bytes());
            let digest = meta[..56]
                .iter()
                .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3));
            meta[56..].copy_from_slice(&digest.to_le_bytes());
            forged.page(number, META, 0, 0, &meta);
        }
        let buckets = [(&b"key"[..], [5_u64.to_le_bytes(), [0; 8]].concat()), (b"meta", inline())];
        forged.page(3, LEAF, 2, 0, &leaf(&buckets, 1));
        forged
    }

    /// Writes a page that says that it spans `overflow` further ones.
    fn page(&self, number: u64, kind: u16, count: u16, overflow: u32, body: &[u8]) {
        let head =
            [&number.to_le_bytes()[..], &kind.to_le_bytes(), &count.to_le_bytes(), &overflow.to_le_bytes()].concat();
        self.file.write_all_at(&[head.as_slice(), body].concat(), number * PAGE).unwrap();
    }

    /// Scans it. The scan must end by itself, and not because it has no memory left.
    fn scan(self, run: &Run) -> (Option<i32>, Value) {
        let mut command: Command = isolated(Path::new("sh"), run.directory());
        command.args(["-c", "ulimit -d 262144; exec \"$0\" \"$@\"", BINARY, "scan", "--output", "json", "--snapshot"]);
        command.arg(&self.path);
        let answer = output(command, &[], LIMIT).unwrap();
        let stderr = String::from_utf8_lossy(&answer.stderr);
        let report = serde_json::from_slice(&answer.stdout).unwrap_or_else(|_| panic!("{:?}: {stderr}", answer.status));
        (answer.status.code(), report)
    }
}

/// A bucket without elements, inside of its element.
fn inline() -> Vec<u8> {
    [&[0; 16][..], &[0; 8], &LEAF.to_le_bytes(), &[0; 6]].concat()
}

/// The elements of a leaf, packed.
fn leaf(elements: &[(&[u8], Vec<u8>)], flags: u32) -> Vec<u8> {
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

/// The elements of a branch, packed.
fn branch(children: &[(Vec<u8>, u64)]) -> Vec<u8> {
    let (mut heads, mut bytes) = (Vec::new(), Vec::new());
    for (index, (key, page)) in children.iter().enumerate() {
        let pos = 16 * (children.len() - index) + bytes.len();
        heads.extend([(pos as u32).to_le_bytes(), (key.len() as u32).to_le_bytes()].concat());
        heads.extend(page.to_le_bytes());
        bytes.extend(key);
    }
    [heads, bytes].concat()
}

/// The key of a revision.
fn revision(main: u64) -> Vec<u8> {
    [&main.to_be_bytes()[..], b"_", &0_u64.to_be_bytes()].concat()
}

/// etcd's record of a Secret under a key of its own.
fn secret(number: u64) -> Vec<u8> {
    #[derive(Clone, PartialEq, Message)]
    struct Record {
        #[prost(bytes = "vec", tag = "1")]
        key: Vec<u8>,
        #[prost(int64, tag = "2")]
        create_revision: i64,
        #[prost(int64, tag = "3")]
        mod_revision: i64,
        #[prost(int64, tag = "4")]
        version: i64,
        #[prost(bytes = "vec", tag = "5")]
        value: Vec<u8>,
    }
    let object = EncryptedObject {
        encrypted_data: vec![7; 60],
        key_id: format!("made-up-{number:08}-{}", "x".repeat(100)),
        encrypted_dek_source: vec![7; 40],
        annotations: [].into(),
        encrypted_dek_source_type: 1,
    };
    let value = [b"k8s:enc:kms:v2:claviger:".to_vec(), object.encode_to_vec()].concat();
    let key = format!("/registry/secrets/default/{number:08}").into_bytes();
    let revision = i64::try_from(number).unwrap();
    Record { key, create_revision: revision, mod_revision: revision, version: 1, value }.encode_to_vec()
}

/// A tree with these leaves, each with its first key.
fn write_tree(forged: &Forged, mut level: Vec<(Vec<u8>, u64)>, mut free: u64) {
    while level.len() > 1 {
        level = level
            .chunks(80)
            .map(|children| {
                free += 1;
                forged.page(free, BRANCH, children.len() as u16, 0, &branch(children));
                (children[0].0.clone(), free)
            })
            .collect();
    }
    // Page 5 is the root: a branch with one child.
    forged.page(5, BRANCH, 1, 0, &branch(&level));
}

#[test]
fn values_under_very_many_keys_are_counted_as_one_and_no_total_is_wrong() {
    let run = Run::new().unwrap();
    let count = u64::from(size(20_000));
    let leaves = count.div_ceil(8);
    let forged = Forged::new(run.path("keys.db"), 8 + 2 * leaves);
    let mut level = Vec::new();
    for number in 0..leaves {
        let first = 1 + number * 8;
        let elements: Vec<_> = (first..first + 8).map(|number| (revision(number), secret(number))).collect();
        let elements: Vec<_> = elements.iter().map(|(key, value)| (key.as_slice(), value.clone())).collect();
        forged.page(8 + number, LEAF, 8, 0, &leaf(&elements, 0));
        level.push((revision(first), 8 + number));
    }
    write_tree(&forged, level, 8 + leaves);
    let (exit, report) = forged.scan(&run);
    assert_eq!(exit, Some(7), "{report}");
    assert!(report["incomplete"][0].as_str().unwrap().starts_with("there are more than 8192 combinations"), "{report}");
    assert_eq!(report["all"]["objects"], leaves * 8);
    assert_eq!(report["groups"].as_array().unwrap().len(), 8193);
}

#[test]
fn pages_that_all_claim_the_same_span_are_not_read_again_and_again() {
    let run = Run::new().unwrap();
    let children = u64::from(size(200));
    let span = 16_000;
    let forged = Forged::new(run.path("spans.db"), 8 + children + span);
    let mut level = Vec::new();
    for number in 1..=children {
        // One element whose value fills all that the page claims to span.
        let heads = [0, 16, 17, u32::try_from(span * PAGE).unwrap() - 100];
        let body = [heads.map(u32::to_le_bytes).concat(), revision(number)].concat();
        forged.page(8 + number, LEAF, 1, u32::try_from(span).unwrap() - 1, &body);
        level.push((revision(number), 8 + number));
    }
    write_tree(&forged, level[..80.min(level.len())].to_vec(), 6);
    let (exit, report) = forged.scan(&run);
    assert_eq!(exit, Some(7), "{report}");
    assert!(report["found"]["damaged"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn a_file_of_a_few_bytes_that_claims_a_terabyte_takes_no_memory_for_it() {
    let run = Run::new().unwrap();
    let forged = Forged::new(run.path("large.db"), (1 << 40) / PAGE);
    forged.page(8, LEAF, 1, 0, &leaf(&[(&revision(1), secret(1))], 0));
    write_tree(&forged, vec![(revision(1), 8), (revision(2), 9)], 6);
    let (exit, report) = forged.scan(&run);
    assert_eq!((exit, &report["all"]["objects"]), (Some(7), &Value::from(1)), "{report}");
}
