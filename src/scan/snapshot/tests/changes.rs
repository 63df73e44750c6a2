//! Tests which change of a key is the newest, and how the others are counted.

use super::{
    super::super::forge::{self, Change, Shape},
    scanned::{SECRET, scan_bytes},
};

#[test]
fn the_newest_change_of_each_key_is_its_state() {
    let changes: [Change<'_>; 7] = [
        ((2, 0), b"/registry/secrets/a/kept", Some(SECRET)),
        ((3, 0), b"/registry/secrets/a/gone", Some(SECRET)),
        ((4, 0), b"/registry/secrets/a/gone", None),
        ((5, 0), b"/registry/secrets/a/back", Some(SECRET)),
        ((6, 0), b"/registry/secrets/a/back", None),
        ((7, 1), b"/registry/secrets/a/back", Some(SECRET)),
        ((8, 0), b"compact_rev_key", Some(b"1")),
    ];
    let shape = Shape { compacted: Some(2), ..Shape::default() };
    let (report, live) = scan_bytes(&forge::database(shape, &changes)).unwrap();
    let expected = [("/registry/secrets/a/back", 7), ("/registry/secrets/a/kept", 2)];
    assert_eq!(live, expected.map(|(key, revision)| (key.to_owned(), revision)).into());
    let row = &report.groups[0];
    assert_eq!((report.groups.len(), row.objects, row.older_values), (1, 2, Some(2)));
    assert_eq!((row.first_revision, row.last_revision), (Some(2), Some(7)));
    assert_eq!((report.source.revision, report.source.compacted, report.outside), (8, Some(2), 1));
    assert!(!report.is_incomplete());
}

/// Returns the bytes of a database of these changes, with `from` overwritten by `to` in the entry of `revision`.
fn forged(changes: &[Change<'_>], revision: u64, from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = forge::database(Shape { page_size: 512, leaf: 1, ..Shape::default() }, changes);
    let name = [&revision.to_be_bytes()[..], b"_"].concat();
    let is_leaf = |page: &usize| bytes[page * 512 + 8] == 2 && bytes[page * 512 + 32..].starts_with(&name);
    let page = (2..bytes.len() / 512).find(is_leaf).unwrap();
    let at = bytes[page * 512..(page + 1) * 512].windows(from.len()).position(|window| window == from).unwrap();
    bytes[page * 512 + at..][..to.len()].copy_from_slice(to);
    bytes
}

#[test]
fn nothing_is_counted_twice_even_if_an_entry_lies_about_its_version() {
    let key = &b"/registry/secrets/a/x"[..];
    let changes: [Change<'_>; 4] =
        [((2, 0), key, Some(SECRET)), ((3, 0), key, Some(SECRET)), ((4, 0), key, None), ((5, 0), key, Some(SECRET))];
    let counted = |bytes: &[u8]| {
        let (report, live) = scan_bytes(bytes).unwrap();
        (report.all.objects, report.groups[0].older_values, live.into_values().collect::<Vec<_>>())
    };
    // The deletion is lost, or belongs to another key. Only a digest could show that.
    assert_eq!(counted(&forge::database(Shape::default(), &changes)), (1, Some(2), vec![5]));
    assert_eq!(counted(&forged(&changes, 4, b"a/x", b"a/y")), (1, Some(2), vec![5]));
    assert_eq!(counted(&forged(&changes, 4, b"\0\0\0\0\0\0\0\x04", &[0xff; 8])), (1, Some(2), vec![5]));
    // etcdctl migrate wrote keys of etcd 2 like this, whatever their history: version 1 at a later revision.
    let migrated = forged(&changes[..2], 3, b"\x20\x02", b"\x20\x01");
    assert_eq!(counted(&migrated), (1, Some(1), vec![3]));
}
