//! Scans values that real API servers wrote under every provider of Kubernetes. Compares the reports with the bytes in
//! etcd, with the test's list of writes, and with what an API server reads and rewrites.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, DirBuilder},
    os::unix::fs::DirBuilderExt,
    path::PathBuf,
    process::Command,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    history::{History, OTHER_KEY, Under, found},
    objects::{ENCRYPTED, patch_nothing, url_of},
    scanned::{Scan, Stored, older, stored},
};
use crate::harness::{commands::output_of_success, plugin::Plugin};

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");

/// The contents of etcd, and a snapshot of it, before [`Past::history`] changes.
struct Past {
    history: Mutex<History>,
    snapshot: PathBuf,
    stored: BTreeMap<String, Stored>,
    /// The list of the live etcd. The report comes next.
    list: BTreeMap<String, Value>,
    report: Value,
    /// The older values in etcd of objects that API servers made for themselves.
    older: BTreeMap<String, Vec<Stored>>,
}

static PAST: LazyLock<Past> = LazyLock::new(|| {
    let history = History::write();
    let (run, etcd) = (&history.run, &history.etcd);
    let snapshot = run.path("past.db");
    etcd.snapshot(&snapshot).unwrap();
    let stored = stored(etcd, "/registry/");
    let theirs = stored.iter().filter(|(key, _)| url_of(key).is_some() && !history.written.contains_key(*key));
    let older = theirs.map(|(key, stored)| (key.clone(), older(etcd, key, stored.mod_revision))).collect();
    let (list, report) = (Scan::live(run, etcd).list(), Scan::live(run, etcd).report());
    Past { snapshot, stored, list, report, older, history: Mutex::new(history) }
});

/// The group of a row: resource, provider and key_id.
type Group = (String, String, Option<String>);

/// The counts of a row.
#[derive(Debug, Default, PartialEq, Eq)]
struct Counts {
    objects: u64,
    older_values: u64,
    seeds: u64,
}

impl Past {
    fn history(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the expected counts in the rows of secrets, configmaps and widgets.
    fn expected(&self, written: &BTreeMap<String, Vec<Option<Under>>>) -> BTreeMap<Group, Counts> {
        let mut counts: BTreeMap<Group, Counts> = BTreeMap::new();
        let mut starts: BTreeSet<(Group, usize)> = BTreeSet::new();
        for (key, writes) in written {
            let group = |under: &Under| (resource(key), under.provider.clone(), under.key_id.clone());
            let (last, before) = writes.split_last().unwrap();
            for under in before.iter().flatten() {
                counts.entry(group(under)).or_default().older_values += 1;
            }
            if let Some(under) = last {
                let counts = counts.entry(group(under)).or_default();
                counts.objects += 1;
                // KMS v1 has a key for each object, and KMS v2 a seed for each start of an API server.
                let is_new = starts.insert((group(under), under.start));
                counts.seeds += u64::from(under.provider.starts_with("kms:v1:") || under.key_id.is_some() && is_new);
            }
        }
        for (key, before) in &self.older {
            let group = |stored: &Stored| (resource(key), stored.under().0, stored.under().1);
            counts.entry(group(&self.stored[key])).or_default().objects += 1;
            for stored in before {
                counts.entry(group(stored)).or_default().older_values += 1;
            }
        }
        counts
    }
}

/// Returns the resource at a key of the kinds in [`ENCRYPTED`].
fn resource(key: &str) -> String {
    let kind = ENCRYPTED.iter().find(|kind| key.starts_with(kind.etcd_key("").trim_end_matches("default/")));
    kind.unwrap().resource.to_owned()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// Returns the counts in the rows of secrets, configmaps and widgets.
fn counted(report: &Value) -> BTreeMap<Group, Counts> {
    let rows = report["groups"].as_array().unwrap().iter();
    let rows = rows.filter(|row| ENCRYPTED.iter().any(|kind| row["resource"] == kind.resource));
    let number = |row: &Value, field: &str| row[field].as_u64().unwrap();
    rows.map(|row| {
        let group = (text(&row["resource"]), text(&row["provider"]), row["key_id"].as_str().map(str::to_owned));
        let [objects, older_values, seeds] = ["objects", "older_values", "seeds"].map(|field| number(row, field));
        (group, Counts { objects, older_values, seeds })
    })
    .collect()
}

#[test]
fn each_object_is_listed_under_the_provider_that_wrote_it() {
    let past = &*PAST;
    let history = past.history();
    let from_snapshot = Scan::snapshot(&history.run, &past.snapshot).list();
    assert_eq!(from_snapshot, past.list, "a snapshot and the live etcd");
    assert!(past.list.keys().eq(past.stored.keys()), "no object is missing, and none too many");
    for (key, line) in &past.list {
        let stored = &past.stored[key];
        let (provider, key_id) = stored.under();
        assert_eq!((&line["provider"], &line["key_id"]), (&json!(provider), &json!(key_id)), "{key}");
        assert_eq!((&line["mod_revision"], &line["bytes"]), (&json!(stored.mod_revision), &json!(stored.value.len())));
    }
    for (key, writes) in &history.written {
        let Some(under) = writes.last().unwrap() else {
            assert!(!past.list.contains_key(key), "{key} was deleted");
            continue;
        };
        let line = &past.list[key];
        assert_eq!((&line["provider"], &line["key_id"]), (&json!(under.provider), &json!(under.key_id)), "{key}");
        assert_eq!(line["resource"], resource(key));
    }
    let providers: BTreeSet<_> = past.list.values().map(|line| text(&line["provider"])).collect();
    assert_eq!(providers.len(), 8, "{providers:?}");
}

#[test]
fn rows_count_objects_older_values_and_seeds() {
    let past = &*PAST;
    let history = past.history();
    let report = Scan::snapshot(&history.run, &past.snapshot).report();
    assert_eq!(report["source"]["compacted"], json!(null));
    let expected = past.expected(&history.written);
    assert_eq!(counted(&report), expected);
    // Two API servers wrote under claviger's first key, and one under the second. For custom resources it is one each.
    let [first, second] = &history.keys;
    let seeds = |resource: &str, key_id: &String| {
        expected[&(resource.to_owned(), "kms:v2:claviger".to_owned(), Some(key_id.clone()))].seeds
    };
    assert_eq!([seeds("secrets", first), seeds("secrets", second), seeds("widgets.example.com", first)], [2, 1, 1]);
    // A live etcd does not show older values. Everything else in the report is the same.
    let without_history = |report: &Value| {
        let mut rows = report["groups"].as_array().unwrap().clone();
        rows.retain(|row| row["objects"] != 0);
        for row in &mut rows {
            row["older_values"] = json!(null);
        }
        rows
    };
    assert_eq!(without_history(&report), without_history(&past.report));
    let open = |resource: &str| {
        let mut rows = report["groups"].as_array().unwrap().iter();
        rows.find(|row| row["resource"] == resource && row["provider"] == "identity").unwrap()["encodings"].clone()
    };
    // Each of the two API servers wrote three of them in plaintext, in the encoding of its configuration.
    assert_eq!(open("widgets.example.com"), json!({"json": 3, "cbor": 3}));
    assert_eq!(open("secrets"), json!({"protobuf": 3}));
}

#[test]
fn what_has_no_provider_is_what_an_api_server_cannot_read() {
    let history = PAST.history();
    let unread: Vec<_> = history.attempts.iter().filter(|attempt| attempt.status != 200).collect();
    for attempt in &history.attempts {
        let has_none = attempt.found.as_array().unwrap().contains(&json!("no-provider"));
        assert_eq!(has_none, attempt.status != 200, "{} has {}: {}", attempt.key, attempt.status, attempt.found);
    }
    assert!(unread.iter().all(|attempt| attempt.status == 500 && attempt.key.starts_with("/registry/example.com/")));
    let kinds: BTreeSet<_> = unread.iter().map(|attempt| attempt.found.to_string()).collect();
    let plaintext = r#"["plaintext-although-covered","no-provider"]"#;
    assert_eq!(kinds, [r#"["no-provider"]"#, plaintext].map(str::to_owned).into());
    assert!(history.attempts.len() > unread.len() + 50);
}

#[test]
fn what_an_api_server_rewrites_is_what_was_found_and_then_nothing_is() {
    let past = &*PAST;
    let history = past.history();
    let keyring = history.plugin.state_dir().join("keyring");
    let scan = || {
        Scan::live(&history.run, &history.etcd)
            .config(&history.config)
            .with("--keyring", &keyring)
            .with("--feature-gates", "KMSv1=true")
    };
    let (report, list) = (scan().report(), scan().list());
    let mut rewritten = BTreeMap::new();
    for (key, line) in &list {
        let found = found(&report, line);
        let Some(url) = url_of(key) else {
            assert_eq!(found, json!([]), "{key}");
            continue;
        };
        let is_rewritten = patch_nothing(&history.front, &url) != line["mod_revision"].as_u64().unwrap();
        assert_eq!(is_rewritten, found != json!([]), "{key} under {}: {found}", line["provider"]);
        *rewritten.entry(found.to_string()).or_insert(0) += 1;
    }
    // Only the values that the last API server wrote under the second key are not stale.
    let kinds = [r#"["not-first-provider"]"#, r#"["plaintext-although-covered"]"#, r#"["stale"]"#, "[]"];
    assert_eq!(rewritten.keys().map(String::as_str).collect::<Vec<_>>(), kinds);
    let counts = report["found"].as_object().unwrap().clone();
    assert_eq!(counts.len(), 3);
    counts.iter().for_each(|(kind, count)| assert_eq!(*count, rewritten[&json!([kind]).to_string()], "{kind}"));

    let report = scan().report();
    assert_eq!((&report["clean"], &report["found"]), (&json!(true), &json!({})));
    let given = &report["given"];
    assert_eq!((&given["encryption_config"], &given["keys"]), (&json!(true), &json!(true)));
    let readable = &report["secrets"];
    assert_eq!((&readable["readable"], readable["objects"].as_u64() > Some(20)), (&json!(0), true));
}

/// Returns the findings of each key_id, in a scan of the past with these flags.
fn found_of_keys(history: &History, flags: &[(&str, &str)]) -> BTreeMap<String, Value> {
    let mut scan = Scan::snapshot(&history.run, &PAST.snapshot);
    for (flag, value) in flags {
        scan = scan.with(flag, value);
    }
    let report = scan.report();
    let rows = report["groups"].as_array().unwrap().iter().filter(|row| row["objects"] != 0);
    // A Secret in plaintext is always a finding.
    let rows = rows.filter(|row| row["provider"] != "identity");
    rows.fold(BTreeMap::new(), |mut found, row| {
        let key_id = row["key_id"].as_str().unwrap_or("none").to_owned();
        let kinds = found.entry(key_id).or_insert_with(|| row["found"].clone());
        assert_eq!(*kinds, row["found"], "the same of all resources");
        found
    })
}

#[test]
fn keys_are_named_by_a_keyring_or_by_the_primary_one() {
    let history = PAST.history();
    let [first, second] = &history.keys;
    let expect = |flags: &[(&str, &str)], of_first: &[&str], of_second: &[&str], of_other: &[&str]| {
        let expected = [
            ("none", json!([])),
            (OTHER_KEY, json!(of_other)),
            (first.as_str(), json!(of_first)),
            (second.as_str(), json!(of_second)),
        ];
        assert_eq!(found_of_keys(&history, flags), expected.map(|(key, found)| (key.to_owned(), found)).into());
    };
    // The test uses a copy, because the plugin serves from its own directory.
    let copy = history.run.path("copied");
    DirBuilder::new().mode(0o700).create(&copy).unwrap();
    for file in fs::read_dir(history.plugin.state_dir()).unwrap().map(Result::unwrap) {
        if file.file_type().unwrap().is_file() {
            fs::copy(file.path(), copy.join(file.file_name())).unwrap();
        }
    }
    let keyring = copy.join("keyring").display().to_string();
    let change = |arguments: &[&str]| {
        let mut command = Command::new(BINARY);
        command.args(arguments).arg("--state-dir").arg(&copy);
        output_of_success(command, &[], Duration::from_secs(10)).unwrap();
    };
    expect(&[("--keyring", &keyring)], &["stale"], &[], &[]);
    change(&["key", "disable", first, "--risk-unreadable-secrets"]);
    expect(&[("--keyring", &keyring)], &["disabled-key"], &[], &[]);
    change(&["key", "destroy", first, "--risk-losing-secrets"]);
    expect(&[("--keyring", &keyring)], &["unknown-key"], &[], &[]);

    let another = Plugin::init(&history.run, BINARY, "another").unwrap();
    let another = another.state_dir().join("keyring").display().to_string();
    expect(&[("--keyring", &another)], &["unknown-key"], &["unknown-key"], &[]);
    expect(&[("--keyring", &another), ("--provider-name", "other")], &[], &[], &["unknown-key"]);
    expect(&[("--primary", second)], &["stale"], &[], &[]);
    expect(&[("--primary", first)], &[], &["stale"], &[]);
    // With the primary key alone, every other key of claviger's may be an old one, whatever the name of its provider
    // is.
    expect(&[("--primary", first), ("--provider-name", "other")], &[], &["stale"], &["stale"]);
    expect(&[("--primary", OTHER_KEY)], &["stale"], &["stale"], &[]);
}
