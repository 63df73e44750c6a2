//! Scans files that were made to fill the memory or to take for ever. The memory and work of a scan depend only on the
//! number of bytes that it reads, and not on what they claim.
//!
//! Each scan runs with at most 256 MiB of memory of its own, which the kernel enforces. `CLAVIGER_CAMPAIGN` sets the
//! number of values and pages of an input. `campaign::scans` makes such inputs at random.

use serde_json::Value;

use super::forged::{FREE, Forged, LEAF, leaf, revision, secret};
use crate::{campaign::scans::limited, harness::processes::Run};

const PAGE: u64 = 4096;

fn size(default: u32) -> u32 {
    std::env::var("CLAVIGER_CAMPAIGN").map_or(default, |size| size.parse().expect("a number"))
}

/// Scans the file. The scan must end by itself, and not because it has no memory left.
fn scan(forged: &Forged, run: &Run) -> (Option<i32>, Value) {
    let answer = limited::snapshot(run, forged.path());
    let report = serde_json::from_str(&answer.stdout).unwrap_or_else(|_| panic!("{answer:?}"));
    (answer.exit, report)
}

#[test]
fn values_under_very_many_keys_are_counted_as_one_and_no_total_is_wrong() {
    let run = Run::new().unwrap();
    let count = u64::from(size(20_000));
    let leaves = count.div_ceil(8);
    let forged = Forged::new(run.path("keys.db"), PAGE, FREE + 2 * leaves);
    let mut level = Vec::new();
    for number in 0..leaves {
        let first = 1 + number * 8;
        let elements: Vec<_> = (first..first + 8).map(|number| (revision(number), secret(number))).collect();
        let elements: Vec<_> = elements.iter().map(|(key, value)| (key.as_slice(), value.clone())).collect();
        forged.page(FREE + number, LEAF, 8, 0, &leaf(&elements, 0));
        level.push((revision(first), FREE + number));
    }
    forged.tree(level, FREE + leaves);
    let (exit, report) = scan(&forged, &run);
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
    let forged = Forged::new(run.path("spans.db"), PAGE, FREE + children + span);
    let mut level = Vec::new();
    for number in 1..=children {
        // One element has a value that fills all pages that the page claims to span.
        let heads = [0, 16, 17, u32::try_from(span * PAGE).unwrap() - 100];
        let body = [heads.map(u32::to_le_bytes).concat(), revision(number)].concat();
        forged.page(FREE + number, LEAF, 1, u32::try_from(span).unwrap() - 1, &body);
        level.push((revision(number), FREE + number));
    }
    forged.tree(level[..80.min(level.len())].to_vec(), 6);
    let (exit, report) = scan(&forged, &run);
    assert_eq!(exit, Some(7), "{report}");
    assert!(report["found"]["damaged"].as_u64().unwrap() > 0, "{report}");
}

#[test]
fn a_file_of_a_few_bytes_that_claims_a_terabyte_takes_no_memory_for_it() {
    let run = Run::new().unwrap();
    let forged = Forged::new(run.path("large.db"), PAGE, (1 << 40) / PAGE);
    forged.page(8, LEAF, 1, 0, &leaf(&[(&revision(1), secret(1))], 0));
    forged.tree(vec![(revision(1), 8), (revision(2), 9)], 6);
    let (exit, report) = scan(&forged, &run);
    assert_eq!((exit, &report["all"]["objects"]), (Some(7), &Value::from(1)), "{report}");
}
