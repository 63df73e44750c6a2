//! Scans the bytes of a database in every way that must give the same report.

use std::{collections::BTreeMap, fs};

use super::super::{
    super::{
        forge::Change,
        judge::Judge,
        names::Names,
        report::ScanReport,
        summarizer::Summarizer,
        tally::{ListedObject, Lister, Tally},
    },
    Options, SnapshotError, scan,
};

pub const SECRET: &[u8] = b"k8s\0\x0a\x01a";

/// Returns the report of a scan of `bytes`, and the live objects with their revisions.
pub fn scan_bytes(bytes: &[u8]) -> Result<(ScanReport, BTreeMap<String, u64>), SnapshotError> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    let names = Names::new("/registry");
    let (judge, mut live) = (Judge::default(), BTreeMap::new());
    let list = |listed: &ListedObject<'_>| {
        let key = String::from_utf8(listed.key.to_vec()).unwrap();
        if listed.is_older {
            return;
        }
        assert!(live.insert(key, listed.mod_revision).is_none(), "an object is listed twice");
    };
    let report = |lister: Option<Lister<'_>>| {
        let summarizer = Summarizer::new(names.clone(), [3; 16]);
        let mut tally = Tally::new(&judge, summarizer.groups(), lister);
        let options = Options { digest: false, progress: &mut |_, _| {} };
        let outcome = scan(file.path(), &summarizer, &mut tally, options)?;
        Ok(ScanReport::new(outcome, tally.finish(), &judge, names.prefix(), String::new()))
    };
    let report_of_list = report(Some(Box::new(list)));
    // The report does not depend on which thread reads what, nor on whether objects are listed.
    let text = |report: &Result<ScanReport, SnapshotError>| format!("{report:?}");
    assert!(text(&report(None)) == text(&report_of_list), "{:?}", report_of_list.map(|report| report.reasons));
    Ok((report_of_list?, live))
}

/// Returns a change for each key, which writes a Secret in plaintext.
pub fn changes(keys: &[String]) -> Vec<Change<'_>> {
    keys.iter().zip(2..).map(|(key, revision)| ((revision, 0), key.as_bytes(), Some(SECRET))).collect()
}

/// Returns the keys of `count` Secrets.
pub fn key_names(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("/registry/secrets/default/s{number:05}")).collect()
}
