//! Makes trees of pages that bbolt would not write. Each has too much of one thing.

use std::path::PathBuf;

use super::super::hostile::random::Random;
use crate::scan::forged::{BRANCH, FREE, Forged, LEAF, ROOT, Record, branch, leaf, revision, secret};

/// Makes a file.
pub(super) type Tree = fn(PathBuf, &mut Random) -> Forged;

/// All trees, each with the name of what it has too much of.
pub(super) const TREES: [(&str, Tree); 10] = [
    ("branches of 65,535 children that do not exist", wide),
    ("a chain of wide branches", deep),
    ("branches in a circle", circular),
    ("leaves that span each other", overlapping),
    ("children far apart in a sparse file", sparse),
    ("pages of 16 MiB", large_pages),
    ("keys and groups that somebody made up", made_up),
    ("resources and keys with very long names", long_names),
    ("values of wild lengths", wild_values),
    ("a leaf with 65,535 elements", crowded),
];

/// The greatest number of children that a branch can have.
const MOST: u64 = u16::MAX as u64;

/// Returns a key longer than any key that etcd writes, so that no page knows its bounds.
fn long(number: u64) -> Vec<u8> {
    [&number.to_be_bytes()[..], &[0; 17]].concat()
}

/// Returns the body of a branch with `count` children.
fn children(count: u64, page: impl Fn(u64) -> u64) -> Vec<u8> {
    branch(&(0..count).map(|number| (long(number), page(number))).collect::<Vec<_>>())
}

/// Makes a tree of three levels. The second level names far more pages than the file has.
fn wide(path: PathBuf, random: &mut Random) -> Forged {
    let branches = random.within(8, 48) as u64;
    // Either only the first branch leads down to a leaf, or every branch does.
    let has_way_down = random.below(2) == 0;
    let span = (16 + MOST * (16 + 17)).div_ceil(4096);
    let forged = Forged::new(path, 4096, FREE + 8 + branches * span);
    let names: Vec<_> = (0..branches).map(|number| (revision(number), FREE + 4 + number * span)).collect();
    // The first branch shows how deep the tree is.
    forged.page(ROOT, BRANCH, branches as u16, 0, &branch(&names));
    forged.page(FREE, BRANCH, 1, 0, &branch(&[(revision(0), FREE + 1)]));
    forged.page(FREE + 1, LEAF, 1, 0, &leaf(&[(&revision(0), secret(1))], 0));
    for (number, (key, page)) in (0..).zip(&names) {
        // The keys lie between those of the neighbours.
        let below: Vec<_> = (0..MOST)
            .map(|child| {
                let sub = [&key[..9], &child.to_be_bytes()].concat();
                let leads_down = child == 0 && (has_way_down || number == 0);
                (sub, if leads_down { FREE } else { 1_000_000 + number * MOST + child })
            })
            .collect();
        let body = branch(&below);
        forged.page(*page, BRANCH, MOST as u16, forged.overflow(&body), &body);
    }
    forged
}

/// Makes a tree in which every level is as wide as possible. The first child of each level leads to the next one.
fn deep(path: PathBuf, random: &mut Random) -> Forged {
    let levels = random.within(4, 40) as u64;
    let span = (16 + children(MOST, |_| 0).len() as u64).div_ceil(4096);
    let forged = Forged::new(path, 4096, FREE + (levels + 1) * span);
    let page = |level: u64| if level == 0 { ROOT } else { FREE + level * span };
    forged.page(ROOT, BRANCH, 1, 0, &children(1, |_| page(1)));
    for level in 1..levels {
        let body = children(MOST, |number| if number == 0 { page(level + 1) } else { 1_000_000 + number });
        forged.page(page(level), BRANCH, MOST as u16, forged.overflow(&body), &body);
    }
    forged.page(page(levels), LEAF, 1, 0, &leaf(&[(&revision(0), secret(1))], 0));
    forged
}

/// Makes a tree in which each branch names any branches, also itself.
fn circular(path: PathBuf, random: &mut Random) -> Forged {
    let pages = random.within(2, 500) as u64;
    let forged = Forged::new(path, 4096, FREE + pages);
    let mut any = || FREE + random.next() % pages;
    for page in [ROOT].into_iter().chain(FREE..FREE + pages) {
        let names: Vec<_> = (0..80).map(|number| (long(number), any())).collect();
        forged.page(page, BRANCH, 80, 0, &branch(&names));
    }
    forged
}

/// Makes a tree in which each leaf says that its value fills all pages up to the end.
fn overlapping(path: PathBuf, random: &mut Random) -> Forged {
    let (leaves, more) = (random.within(10, 70) as u64, random.within(100, 16_000) as u64);
    let forged = Forged::new(path, 4096, FREE + leaves + more);
    let level: Vec<_> = (0..leaves).map(|number| (revision(number + 1), FREE + number)).collect();
    for (key, page) in &level {
        let value = u32::try_from(more * 4096).unwrap() - 100;
        let body = [[0, 16, 17, value].map(u32::to_le_bytes).concat(), key.clone()].concat();
        forged.page(*page, LEAF, 1, u32::try_from(more).unwrap() - 1, &body);
    }
    forged.page(ROOT, BRANCH, leaves as u16, 0, &branch(&level));
    forged
}

/// Makes a tree whose pages between the children are holes.
fn sparse(path: PathBuf, random: &mut Random) -> Forged {
    let (leaves, gap) = (random.within(10, 100) as u64, random.within(1, 40) as u64);
    let forged = Forged::new(path, 4096, FREE + leaves * gap + 1);
    let level: Vec<_> = (0..leaves).map(|number| (revision(number + 1), FREE + number * gap)).collect();
    for (number, (key, page)) in (1..).zip(&level) {
        if random.below(3) > 0 {
            forged.page(*page, LEAF, 1, 0, &leaf(&[(key, secret(number))], 0));
        }
    }
    forged.page(ROOT, BRANCH, leaves as u16, 0, &branch(&level));
    forged
}

/// Neighbouring children are read together, if that is not too much.
fn large_pages(path: PathBuf, random: &mut Random) -> Forged {
    let size = 1 << random.within(20, 24);
    let leaves = 40;
    let forged = Forged::new(path, size, FREE + leaves);
    let level: Vec<_> = (0..leaves).map(|number| (revision(number + 1), FREE + number)).collect();
    for (number, (key, page)) in (1..).zip(&level) {
        forged.page(*page, LEAF, 1, 0, &leaf(&[(key, secret(number))], 0));
    }
    forged.page(ROOT, BRANCH, leaves as u16, 0, &branch(&level));
    forged
}

/// Makes a tree in which each value has its own resource, provider and key, and a long name.
fn made_up(path: PathBuf, random: &mut Random) -> Forged {
    let (values, length) = (random.within(1000, 12_000) as u64, random.within(10, 1500));
    let forged = Forged::new(path, 4096, FREE + 2 * values);
    let mut level = Vec::new();
    for number in 1..=values {
        let key = format!("/registry/r{number}/{}", "n".repeat(length));
        let value = [format!("k8s:enc:p{number}:v1:").into_bytes(), vec![b'x'; 900], b":body".to_vec()].concat();
        let element = leaf(&[(&revision(number), Record::first(&key, number, value))], 0);
        forged.page(FREE + number, LEAF, 1, forged.overflow(&element), &element);
        level.push((revision(number), FREE + number));
    }
    forged.tree(level, FREE + values);
    forged
}

/// Makes a database whose keys are nearly as long as a key may be.
fn long_names(path: PathBuf, random: &mut Random) -> Forged {
    let (values, length) = (random.within(500, 1500) as u64, random.within(60_000, 65_000));
    let forged = Forged::new(path, 4096, FREE + 18 * values);
    let mut level = Vec::new();
    for number in 1..=values {
        let key = format!("/registry/{number:06}{}", "n".repeat(length));
        let element = leaf(&[(&revision(number), Record::first(&key, number, b"k8s:enc:".to_vec()))], 0);
        let page = FREE + 17 * number;
        forged.page(page, LEAF, 1, forged.overflow(&element), &element);
        level.push((revision(number), page));
    }
    forged.tree(level, FREE + 17 * (values + 1));
    forged
}

/// Makes values from nothing to a megabyte, of any bytes, under any key.
fn wild_values(path: PathBuf, random: &mut Random) -> Forged {
    const KEYS: [&str; 6] =
        ["/registry/secrets/a/b", "/registry/", "/", "", "/registry/\u{e9}/x", "/other/secrets/a/b"];
    const HEADS: [&[u8]; 8] = [
        b"",
        b"{",
        b"k8s\0",
        b"k8s:enc:",
        b"k8s:enc:kms:v2:",
        b"k8s:enc:kms:v2:p:\x0a",
        b"k8s:enc:kms:v1:p:\xff\xff",
        &[0xd9, 0xd9, 0xf7],
    ];
    let values = random.within(5, 60) as u64;
    let forged = Forged::new(path, 4096, FREE + 300 * values);
    let (mut level, mut free) = (Vec::new(), FREE);
    for number in 1..=values {
        let length = 1 << random.below(21);
        let value = [random.pick(&HEADS), &random.bytes(length - 1)].concat();
        let element = leaf(&[(&revision(number), Record::first(random.pick(&KEYS), number, value))], 0);
        let overflow = forged.overflow(&element);
        forged.page(free, LEAF, 1, overflow, &element);
        level.push((revision(number), free));
        free += u64::from(overflow) + 1;
    }
    forged.page(ROOT, BRANCH, values as u16, 0, &branch(&level));
    forged
}

/// Makes leaves of the smallest entries, as many as a page can count.
fn crowded(path: PathBuf, random: &mut Random) -> Forged {
    let count = random.within(1000, usize::from(u16::MAX)) as u64;
    let entries: Vec<_> =
        (1..=count).map(|number| (revision(number), Record::first("/registry/a", number, Vec::new()))).collect();
    let elements: Vec<_> = entries.iter().map(|(key, value)| (key.as_slice(), value.clone())).collect();
    let body = leaf(&elements, 0);
    let forged = Forged::new(path, 4096, FREE + (16 + body.len() as u64).div_ceil(4096));
    forged.page(FREE, LEAF, count as u16, forged.overflow(&body), &body);
    forged.page(ROOT, BRANCH, 1, 0, &children(1, |_| FREE));
    forged
}
