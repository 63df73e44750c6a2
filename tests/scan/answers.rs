//! Runs `claviger scan` as people type it, and reads its answers.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
};

use serde::Deserialize;
use serde_json::Value;

use super::truth::Truth;
use crate::cli::sandbox::{Answer, Sandbox};

/// A line of `scan --list`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Line {
    pub(super) key: String,
    pub(super) resource: String,
    pub(super) provider: String,
    pub(super) key_id: Option<String>,
    pub(super) mod_revision: u64,
    pub(super) bytes: usize,
    pub(super) finding: Option<String>,
    pub(super) older: bool,
}

/// A group of the report, with its counts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Row {
    pub(super) resource: String,
    pub(super) provider: String,
    pub(super) key_id: Option<String>,
    pub(super) objects: u64,
    pub(super) older_values: Option<u64>,
    pub(super) seeds: u64,
    pub(super) first_revision: Option<u64>,
    pub(super) last_revision: Option<u64>,
    #[serde(default)]
    pub(super) encodings: BTreeMap<String, u64>,
}

impl Row {
    /// Returns an empty row of the group of `line`.
    pub(super) fn of(line: &Line) -> Self {
        Self {
            resource: line.resource.clone(),
            provider: line.provider.clone(),
            key_id: line.key_id.clone(),
            objects: 0,
            older_values: Some(0),
            seeds: 0,
            first_revision: None,
            last_revision: None,
            encodings: BTreeMap::new(),
        }
    }
}

/// The two answers of a place that was scanned twice: the report and the list.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) code: i32,
    pub(super) report: Report,
    /// The live objects, in the order of the scan.
    pub(super) lines: Vec<Line>,
    /// The older values that can be read.
    pub(super) older: Vec<Line>,
}

/// The report as JSON. Null if the scan was refused.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Report(pub(super) Value);

impl Report {
    pub(super) fn rows(&self) -> Vec<Row> {
        serde_json::from_value(self.0["groups"].clone()).unwrap()
    }

    pub(super) fn found(&self) -> BTreeMap<String, u64> {
        serde_json::from_value(self.0["found"].clone()).unwrap()
    }

    pub(super) fn incomplete(&self) -> Vec<String> {
        serde_json::from_value(self.0["incomplete"].clone()).unwrap()
    }

    pub(super) fn revision(&self) -> u64 {
        self.0["source"]["revision"].as_u64().unwrap()
    }
}

/// Returns the lines of a list that are about live objects.
pub(super) fn lines(list: &str) -> Vec<Line> {
    all_lines(list).filter(|line| !line.older).collect()
}

fn all_lines(list: &str) -> impl Iterator<Item = Line> {
    list.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
}

/// Scans `place` (`--snapshot FILE` or `--etcd-servers URL`), which must end in the same way both times.
pub(super) fn scan(sandbox: &Sandbox, place: &str) -> Scanned {
    let (report, list) = scan_raw(sandbox, place);
    assert_eq!(report.code, list.code, "{report}\n{list}");
    let (older, lines) = all_lines(&list.stdout).partition(|line| line.older);
    Scanned { code: report.code, report: Report(report.json()), lines, older }
}

/// Returns both answers, also if the scan fails.
pub(super) fn scan_raw(sandbox: &Sandbox, place: &str) -> (Answer, Answer) {
    (sandbox.run(&format!("scan {place} --output json")), sandbox.run(&format!("scan {place} --list")))
}

impl Scanned {
    /// Compares everything in the answers with the truth. `history` tells whether older revisions can be seen.
    pub(super) fn is_true(&self, truth: &Truth, history: bool, context: &str) {
        let lines: BTreeSet<Line> = self.lines.iter().cloned().collect();
        assert_eq!(lines.len(), self.lines.len(), "{context}: a key is listed twice");
        assert_same(&lines, &truth.lines(), context);
        let older: BTreeSet<Line> = if history { truth.older_lines() } else { BTreeSet::new() };
        assert_same(&self.older.iter().cloned().collect(), &older, context);
        let mut rows = truth.rows();
        if !history {
            rows.retain(|row| row.objects > 0);
            for row in &mut rows {
                row.older_values = None;
            }
        }
        assert_eq!(self.report.rows(), rows, "{context}");
        let found = truth.found(history);
        assert_eq!(self.report.found(), found, "{context}");
        // A wrong prefix has no keys, and neither has a right one whose keys were all deleted. Only deletions tell them
        // apart, until they are compacted.
        let is_unused = if history {
            truth.rows().is_empty() && truth.outside() > 0 && !self.report.incomplete().is_empty()
        } else {
            truth.lines().is_empty() && self.report.0["source"]["revision"] != 1
        };
        let incomplete = self.report.incomplete();
        let is_said = |reason: &String| reason.starts_with("there is no key below /registry/");
        assert_eq!(incomplete.len(), usize::from(is_unused), "{context}: {incomplete:?}");
        assert!(incomplete.iter().all(is_said), "{context}: {incomplete:?}");
        let objects = truth.lines().len();
        assert_eq!(self.report.0["all"]["objects"], objects, "{context}");
        assert_eq!(self.report.0["outside"], if history { truth.outside() } else { 0 }, "{context}");
        let older = truth.older_readable();
        assert_eq!(self.report.0["history"]["readable"].as_u64(), history.then_some(older), "{context}");
        assert_eq!(self.older.len() as u64, if history { older } else { 0 }, "{context}");
        let is_bad = !found.is_empty() || history && older > 0;
        let (code, outcome) = match (found.contains_key("damaged") || is_unused, found.is_empty()) {
            (true, _) => (7, "incomplete"),
            (false, false) => (1, "left-over"),
            (false, true) if is_bad => (1, "older-values"),
            (false, true) => (0, "clean"),
        };
        assert_eq!((self.code, &self.report.0["outcome"]), (code, &outcome.into()), "{context}");
    }
}

/// Compares two sets, and shows only the differences.
pub(super) fn assert_same<T: Ord + Debug>(found: &BTreeSet<T>, expected: &BTreeSet<T>, context: &str) {
    let more: Vec<_> = found.difference(expected).take(5).collect();
    let less: Vec<_> = expected.difference(found).take(5).collect();
    assert!(more.is_empty() && less.is_empty(), "{context}: {more:#?} where {less:#?} should be");
}
