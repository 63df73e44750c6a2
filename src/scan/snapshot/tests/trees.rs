//! Tests of trees of pages, in every shape, and with every page damaged.

use super::{
    super::{
        super::{
            bolt::BoltError,
            forge::{self, Shape},
        },
        SnapshotError,
    },
    scanned::{SECRET, changes, key_names, scan_bytes},
};

#[test]
fn trees_of_any_shape_are_read_whole() {
    for count in [0, 1, 2, 7, 500] {
        for (page_size, leaf, branch) in [(512, 1, 2), (512, 3, 3), (4096, 8, 40), (65536, 100, 2)] {
            let keys = key_names(count);
            let shape = Shape { page_size, leaf, branch, compacted: None };
            let (report, live) = scan_bytes(&forge::database(shape, &changes(&keys))).unwrap();
            assert_eq!(live.len(), count, "{shape:?}");
            assert!(report.reasons.is_empty(), "{shape:?}");
        }
    }
}

#[test]
fn every_page_can_be_lost_and_the_rest_is_reported() {
    let keys = key_names(200);
    let shape = Shape { page_size: 512, leaf: 4, branch: 5, compacted: None };
    let whole = forge::database(shape, &changes(&keys));
    let (_, all) = scan_bytes(&whole).unwrap();
    for page in 0..whole.len() / 512 {
        for fill in [0x00, 0xff, 0x5a] {
            let mut bytes = whole.clone();
            bytes[page * 512..(page + 1) * 512].fill(fill);
            match scan_bytes(&bytes) {
                Ok((report, live)) => {
                    assert!(live.iter().all(|(key, revision)| all.get(key) == Some(revision)), "page {page}");
                    assert_eq!(
                        report.is_incomplete(),
                        live.len() < all.len() || page < 2,
                        "page {page}: {:?}",
                        report.reasons
                    );
                }
                Err(SnapshotError::Bolt(BoltError::LostBucket { name: "key", .. })) => {
                    assert!(page > 2, "page {page}");
                }
                Err(error) => panic!("page {page}: {error}"),
            }
        }
    }
}

#[test]
fn a_tree_that_bites_its_tail_ends() {
    let keys = key_names(40);
    let shape = Shape { page_size: 512, leaf: 2, branch: 3, compacted: None };
    let whole = forge::database(shape, &changes(&keys));
    // Each branch names the same page as all of its children: itself, or a page above, beside or below it.
    let pages = whole.len() / 512;
    for branch in (2..pages).filter(|page| whole[page * 512 + 8] == 1) {
        for child in 0..usize::from(whole[branch * 512 + 10]) {
            for target in 0..pages + 2 {
                let mut bytes = whole.clone();
                let at = branch * 512 + 16 + child * 16 + 8;
                let before = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap());
                bytes[at..at + 8].copy_from_slice(&(target as u64).to_le_bytes());
                let (report, live) = scan_bytes(&bytes).unwrap();
                assert_eq!(report.is_incomplete(), before != target as u64, "{branch}, {child} to {target}");
                assert!(live.len() <= 40);
            }
        }
    }
}

/// Returns the positions of the heads of a branch's children, which contain the numbers of their pages.
fn pointers(bytes: &[u8], page: usize) -> impl Iterator<Item = usize> {
    let count = if bytes[page * 512 + 8] == 1 { usize::from(bytes[page * 512 + 10]) } else { 0 };
    (0..count).map(move |child| page * 512 + 16 + child * 16 + 8)
}

fn lead(bytes: &mut [u8], pointer: usize, page: usize) {
    bytes[pointer..pointer + 8].copy_from_slice(&(page as u64).to_le_bytes());
}

#[test]
fn a_wrong_child_hides_only_itself() {
    let keys = key_names(128);
    let shape = Shape { page_size: 512, leaf: 2, branch: 8, compacted: None };
    let whole = forge::database(shape, &changes(&keys));
    let top = (2..whole.len() / 512).rfind(|page| whole[page * 512 + 8] == 1).unwrap();
    let all: Vec<usize> = pointers(&whole, top).collect();
    assert_eq!(all.len(), 8);
    for pointer in &all {
        // Replaces a child by a leaf, by the branch itself, by another child, and by a page outside of the file.
        for page in [2, top, top - 2, 9999] {
            let mut bytes = whole.clone();
            let own = u64::from_le_bytes(bytes[*pointer..*pointer + 8].try_into().unwrap());
            lead(&mut bytes, *pointer, page);
            let (report, live) = scan_bytes(&bytes).unwrap();
            let lost = if own == page as u64 { 0 } else { 16 };
            assert_eq!((live.len(), report.is_incomplete()), (128 - lost, lost > 0), "{pointer} to {page}");
        }
    }
}

#[test]
fn a_branch_that_is_each_of_its_own_children_ends() {
    let keys = key_names(128);
    let shape = Shape { page_size: 512, leaf: 2, branch: 8, compacted: None };
    let mut bytes = forge::database(shape, &changes(&keys));
    let branches: Vec<usize> = (2..bytes.len() / 512).filter(|page| bytes[page * 512 + 8] == 1).collect();
    for page in branches {
        for pointer in pointers(&bytes, page).collect::<Vec<_>>() {
            lead(&mut bytes, pointer, page);
        }
    }
    let (report, live) = scan_bytes(&bytes).unwrap();
    assert_eq!((live.len(), report.is_incomplete()), (0, true));
}

#[test]
fn a_page_in_the_middle_of_another_is_reported_the_same_each_time() {
    let large = [SECRET, &[b'a'; 700]].concat();
    let keys = key_names(60);
    let mut changes = changes(&keys);
    changes[20].2 = Some(&large);
    let shape = Shape { page_size: 512, leaf: 1, branch: 4, compacted: None };
    let mut bytes = forge::database(shape, &changes);
    let pages = bytes.len() / 512;
    let spans = |page: &usize| bytes[page * 512 + 8] == 2 && bytes[page * 512 + 12] == 1;
    let over = (2..pages).find(spans).unwrap() + 1;
    // Moves a leaf that another thread reads to the place where the large value ends.
    let moved = (over + 1..pages).nth(25).unwrap();
    assert_eq!((bytes[moved * 512 + 8], bytes[moved * 512 + 10]), (2, 1));
    bytes.copy_within(moved * 512..(moved + 1) * 512, over * 512);
    bytes[over * 512..][..8].copy_from_slice(&(over as u64).to_le_bytes());
    let all: Vec<usize> = (2..pages).flat_map(|page| pointers(&bytes, page).collect::<Vec<_>>()).collect();
    let pointer = all.into_iter().find(|at| bytes[*at..*at + 8] == (moved as u64).to_le_bytes()).unwrap();
    lead(&mut bytes, pointer, over);
    for _ in 0..200 {
        let (report, live) = scan_bytes(&bytes).unwrap();
        assert_eq!((live.len(), report.is_incomplete()), (60, true));
        let damaged: Vec<_> =
            report.findings.iter().filter_map(|finding| finding.page.zip(finding.reason.clone())).collect();
        assert_eq!(damaged, [(over as u64, "it is used twice".to_owned())]);
    }
}
