//! Tests of whole files: their meta pages, digests and lengths.

use ring::digest::SHA256;

use super::{
    super::super::forge::{self, Shape},
    scanned::{changes, key_names, scan_bytes},
};

#[test]
fn a_snapshot_of_any_transaction_is_read() {
    let names = key_names(20);
    // A snapshot has its own transaction on the first page and the one before on the second, whatever their parity.
    for txid in [6_u64, 7] {
        let mut bytes = forge::database(Shape::default(), &changes(&names));
        for (page, txid) in [(0, txid), (1, txid - 1)] {
            bytes[page * 4096 + 64..][..8].copy_from_slice(&txid.to_le_bytes());
        }
        forge::mend_meta(&mut bytes, 4096);
        let (report, live) = scan_bytes(&bytes).unwrap();
        assert_eq!((live.len(), report.is_incomplete()), (20, false), "of transaction {txid}");
    }
}

#[test]
fn a_digest_is_checked_if_there_is_one() {
    let keys = key_names(3);
    let mut bytes = forge::database(Shape::default(), &changes(&keys));
    let digest = ring::digest::digest(&SHA256, &bytes);
    bytes.extend(digest.as_ref());
    let (report, _) = scan_bytes(&bytes).unwrap();
    assert_eq!((report.source.digest.unwrap().matches, report.reasons.len()), (Some(true), 0));
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    let (report, live) = scan_bytes(&bytes).unwrap();
    assert_eq!((report.source.digest.unwrap().matches, live.len()), (Some(false), 3));
    assert_eq!(
        report.reasons.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["the file does not match the digest at its end"]
    );
}

#[test]
fn a_file_that_was_cut_off_says_so() {
    let keys = key_names(100);
    let shape = Shape { page_size: 512, leaf: 4, branch: 5, compacted: None };
    let bytes = forge::database(shape, &changes(&keys));
    for pages in 2..bytes.len() / 512 {
        match scan_bytes(&bytes[..pages * 512]) {
            Ok((report, _)) => assert!(report.is_incomplete(), "{pages}"),
            Err(error) => {
                assert!(error.to_string().starts_with("the bucket \"key\" cannot be found: page"), "{error}");
            }
        }
    }
}

#[test]
fn a_database_without_the_bucket_of_compaction_is_incomplete() {
    let keys = key_names(3);
    let mut bytes = forge::database(Shape::default(), &changes(&keys));
    let at = bytes.windows(4).position(|window| window == b"meta").unwrap();
    bytes[at..at + 4].copy_from_slice(b"mesa");
    let (report, live) = scan_bytes(&bytes).unwrap();
    let reasons: Vec<String> = report.reasons.iter().map(ToString::to_string).collect();
    assert_eq!((live.len(), reasons), (3, vec!["the bucket meta cannot be read".to_owned()]));
}
