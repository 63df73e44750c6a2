//! The expected contents of an etcd, as the test that writes to it notes them: every change that is not compacted yet,
//! and what a scan should report.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    answers::{Line, Row},
    values::Stored,
    writer::Writer,
};

/// The directories of resources, the longest first.
const RESOURCES: [(&str, &str); 14] = [
    ("example.com/widgets", "widgets.example.com"),
    ("services/endpoints", "endpoints"),
    ("services/specs", "services"),
    ("clusterroles", "clusterroles.rbac.authorization.k8s.io"),
    ("configmaps", "configmaps"),
    ("controllers", "replicationcontrollers"),
    ("deployments", "deployments.apps"),
    ("events", "events"),
    ("ingress", "ingresses.networking.k8s.io"),
    ("leases", "leases.coordination.k8s.io"),
    ("masterleases", "masterleases"),
    ("minions", "nodes"),
    ("secrets", "secrets"),
    ("somethingnew", "somethingnew"),
];

/// Returns the directories of all resources.
pub(super) fn directories() -> impl Iterator<Item = &'static str> {
    RESOURCES.iter().map(|(directory, _)| *directory)
}

/// Returns the name of the resource of a key, as a scan should print it. `None` if the key is not below `prefix`.
fn resource_of(key: &str, prefix: &str) -> Option<&'static str> {
    let rest = key.strip_prefix(prefix)?;
    let found =
        RESOURCES.iter().find(|(directory, _)| rest.strip_prefix(directory).is_some_and(|r| r.starts_with('/')));
    Some(found.unwrap_or_else(|| panic!("{key} is of no resource that the test knows")).1)
}

/// One change of one key.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub(super) revision: u64,
    pub(super) key: String,
    /// The new value. `None` for a deletion.
    pub(super) value: Option<Arc<Stored>>,
}

/// All changes in their order, except the compacted ones.
#[derive(Debug, Clone)]
pub(super) struct Truth {
    pub(super) prefix: &'static str,
    pub(super) changes: Vec<Change>,
    pub(super) compacted: Option<u64>,
}

impl Truth {
    fn new() -> Self {
        Self { prefix: "/registry/", changes: Vec::new(), compacted: None }
    }

    /// Returns the changes up to a revision.
    pub(super) fn until(&self, revision: u64) -> Self {
        let changes = self.changes.iter().filter(|change| change.revision <= revision).cloned();
        Self { changes: changes.collect(), ..self.clone() }
    }

    fn compact(&mut self, at: u64) {
        let mut newest: BTreeMap<String, u64> = BTreeMap::new();
        for change in self.changes.iter().filter(|change| change.revision <= at) {
            newest.insert(change.key.clone(), change.revision);
        }
        self.changes.retain(|change| {
            let is_newest = newest.get(&change.key) == Some(&change.revision);
            // Of the deletions, etcd keeps only those of this revision.
            change.revision >= at || is_newest && change.value.is_some()
        });
        self.compacted = Some(at);
    }

    /// Returns the last change of each key, deletions included.
    pub(super) fn newest(&self) -> BTreeMap<&str, &Change> {
        self.changes.iter().map(|change| (change.key.as_str(), change)).collect()
    }

    /// Returns all existing keys with revision and length, as etcd should answer.
    pub(super) fn live(&self) -> BTreeMap<String, (u64, usize)> {
        let newest = self.newest().into_iter();
        let live = newest.filter_map(|(key, change)| Some((key, change, change.value.as_ref()?)));
        live.map(|(key, change, value)| (key.to_owned(), (change.revision, value.bytes.len()))).collect()
    }

    /// Returns the line of `scan --list` about a change. `None` for a deletion, and for a key outside of the prefix.
    pub(super) fn line(&self, change: &Change) -> Option<Line> {
        let resource = resource_of(&change.key, self.prefix)?;
        let value = change.value.as_ref()?;
        let finding = match (value.is_damaged, resource, &*value.provider) {
            (true, ..) => Some("damaged"),
            (false, "secrets", "identity") => Some("plaintext"),
            _ => None,
        };
        Some(Line {
            key: change.key.clone(),
            resource: resource.to_owned(),
            provider: value.provider.clone(),
            key_id: value.key_id.clone(),
            mod_revision: change.revision,
            bytes: value.bytes.len(),
            finding: finding.map(ToOwned::to_owned),
            older: false,
        })
    }

    /// Returns the lines of `scan --list`.
    pub(super) fn lines(&self) -> BTreeSet<Line> {
        self.newest().into_values().filter_map(|change| self.line(change)).collect()
    }

    /// Returns the expected rows of the report, for each resource, provider and key.
    pub(super) fn rows(&self) -> Vec<Row> {
        let newest = self.newest();
        let mut rows: BTreeMap<_, (Row, BTreeSet<&[u8]>)> = BTreeMap::new();
        for change in &self.changes {
            let Some((line, value)) = self.line(change).zip(change.value.as_ref()) else { continue };
            let group = (line.resource.clone(), line.provider.clone(), line.key_id.clone());
            let (row, seeds) = rows.entry(group).or_insert_with(|| (Row::of(&line), BTreeSet::new()));
            if newest[&*change.key].revision != change.revision {
                row.older_values = row.older_values.map(|older| older + 1);
                continue;
            }
            row.objects += 1;
            row.first_revision = Some(row.first_revision.map_or(change.revision, |first| first.min(change.revision)));
            row.last_revision = Some(row.last_revision.map_or(change.revision, |last| last.max(change.revision)));
            if let Some(encoding) = value.encoding {
                *row.encodings.entry(encoding.to_owned()).or_default() += 1;
            }
            seeds.extend(value.seed.as_deref());
            row.seeds = seeds.len() as u64;
        }
        rows.into_values().map(|(row, _)| row).collect()
    }

    /// Returns the expected number of each kind of finding. Damaged older values count if `history` is true.
    pub(super) fn found(&self, history: bool) -> BTreeMap<String, u64> {
        let newest = self.newest();
        let mut found = BTreeMap::new();
        for change in &self.changes {
            let Some(line) = self.line(change) else { continue };
            let is_live = newest[&*change.key].revision == change.revision;
            let is_damaged = line.finding.as_deref() == Some("damaged") && (is_live || history);
            let is_plaintext = is_live && line.resource == "secrets" && line.provider == "identity";
            for kind in [is_damaged.then_some("damaged"), is_plaintext.then_some("plaintext")].into_iter().flatten() {
                *found.entry(kind.to_owned()).or_default() += 1;
            }
        }
        found
    }

    /// Returns the number of older values of Secrets in plaintext.
    pub(super) fn older_readable(&self) -> u64 {
        self.older_lines().len() as u64
    }

    /// Returns the lines of `scan --list` about these values.
    pub(super) fn older_lines(&self) -> BTreeSet<Line> {
        let newest = self.newest();
        let is_older = |change: &&Change| newest[&*change.key].revision != change.revision;
        let older = self.changes.iter().filter(is_older).filter_map(|change| self.line(change));
        let older = older.filter(|line| line.resource == "secrets" && line.provider == "identity");
        older.map(|line| Line { finding: None, older: true, ..line }).collect()
    }

    /// Returns the number of values outside of the prefix, older ones included.
    pub(super) fn outside(&self) -> u64 {
        let is_outside = |change: &&Change| change.value.is_some() && !change.key.starts_with(self.prefix);
        self.changes.iter().filter(is_outside).count() as u64
    }
}

/// An etcd that is written to, and its expected contents.
pub(super) struct Store {
    pub(super) writer: Writer,
    pub(super) truth: Truth,
    /// The revision of etcd.
    pub(super) revision: u64,
    /// The number of existing leases.
    pub(super) leases: u64,
}

impl Store {
    /// Begins with a new etcd, whose revision is 1.
    pub(super) fn new(url: &str) -> Self {
        Self { writer: Writer::new(url), truth: Truth::new(), revision: 1, leases: 0 }
    }

    /// Closes the connection to etcd, and opens it again at the next write.
    pub(super) fn reconnect(&mut self, url: &str) {
        self.writer = Writer::new(url);
    }

    /// Continues with an etcd that was killed, and is at this revision now.
    pub(super) fn recover(&mut self, url: &str, revision: u64) {
        assert!((self.revision..=self.revision + 1).contains(&revision), "{revision} after {}", self.revision);
        (self.revision, self.truth) = (revision, self.truth.until(revision));
        self.reconnect(url);
    }

    /// Notes a write before it is made. After a crash, nobody knows whether the last write was made.
    fn note(&mut self, key: &str, value: Option<Stored>) {
        let revision = self.revision + 1;
        self.truth.changes.push(Change { revision, key: key.to_owned(), value: value.map(Arc::new) });
    }

    fn noted(&mut self, revision: Result<u64, tonic::Status>) {
        assert_eq!(revision.unwrap(), self.revision + 1, "nobody else writes");
        self.revision += 1;
    }

    /// Returns whether the value was written. It was not if etcd is gone.
    pub(super) fn try_put(&mut self, key: &str, value: Stored) -> bool {
        let bytes = value.bytes.clone();
        self.note(key, Some(value));
        let revision = self.writer.put(key, &bytes);
        let is_written = revision.is_ok();
        if is_written {
            self.noted(revision);
        }
        is_written
    }

    pub(super) fn put(&mut self, key: &str, value: Stored) {
        assert!(self.try_put(key, value), "{key}");
    }

    /// Writes all pairs at one revision.
    pub(super) fn put_all(&mut self, pairs: Vec<(String, Stored)>) {
        let revision = self.writer.put_all(pairs.iter().map(|(key, value)| (key.as_str(), value.bytes.as_slice())));
        pairs.into_iter().for_each(|(key, value)| self.note(&key, Some(value)));
        self.noted(revision);
    }

    /// Writes many keys, a hundred of them at one revision.
    pub(super) fn put_many(&mut self, pairs: impl IntoIterator<Item = (String, Stored)>) {
        let mut pairs = pairs.into_iter();
        loop {
            let some: Vec<_> = pairs.by_ref().take(100).collect();
            if some.is_empty() {
                return;
            }
            self.put_all(some);
        }
    }

    pub(super) fn grant(&mut self, lease: i64) {
        self.writer.grant(lease).unwrap();
        self.leases += 1;
    }

    pub(super) fn put_leased(&mut self, key: &str, value: Stored, lease: i64) {
        let revision = self.writer.put_leased(key, &value.bytes, lease);
        self.note(key, Some(value));
        self.noted(revision);
    }

    pub(super) fn delete(&mut self, key: &str) {
        self.note(key, None);
        let revision = self.writer.delete(key, "");
        self.noted(revision);
    }

    /// Deletes all keys below `directory`, at one revision.
    pub(super) fn delete_below(&mut self, directory: &str) {
        self.forget(|key| key.starts_with(directory));
        let end = directory.strip_suffix('/').unwrap().to_owned() + "0";
        let revision = self.writer.delete(directory, &end);
        self.noted(revision);
    }

    /// Ends a lease that has these keys.
    pub(super) fn revoke(&mut self, lease: i64, keys: &[String]) {
        self.forget(|key| keys.iter().any(|one| one == key));
        let revision = self.writer.revoke(lease);
        self.leases -= 1;
        self.noted(revision);
    }

    fn forget(&mut self, is_gone: impl Fn(&str) -> bool) {
        let keys: Vec<String> = self.truth.live().into_keys().filter(|key| is_gone(key)).collect();
        assert!(!keys.is_empty());
        keys.iter().for_each(|key| self.note(key, None));
    }

    pub(super) fn compact(&mut self, at: u64) {
        self.writer.compact(at, true).unwrap();
        self.truth.compact(at);
    }
}
