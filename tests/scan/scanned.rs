//! Runs `claviger scan` as its users do, and reads the contents of etcd to compare the report with them.

use std::{collections::BTreeMap, ffi::OsStr, path::Path, process::Command, time::Duration};

use base64ct::{Base64, Encoding};
use serde_json::{Value, json};

use crate::{
    contract::http::request,
    harness::{
        commands::{isolated, output},
        etcd::Etcd,
        processes::Run,
    },
    oracle::EncryptedObject,
};

const BINARY: &str = env!("CARGO_BIN_EXE_claviger");

/// A time limit far longer than a scan of a few hundred objects takes.
const LIMIT: Duration = Duration::from_mins(1);

/// The greatest number of operations in a transaction. etcd allows 128.
const OPERATIONS: usize = 100;

/// A scan that has not run yet.
pub(super) struct Scan(Command);

/// The end of a scan.
#[derive(Debug)]
pub(super) struct Scanned {
    pub(super) exit: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Scan {
    /// Makes a scan of a live etcd.
    pub(super) fn live(run: &Run, etcd: &Etcd) -> Self {
        Self::new(run).with("--etcd-servers", etcd.endpoints())
    }

    /// Makes a scan of a file.
    pub(super) fn snapshot(run: &Run, file: &Path) -> Self {
        Self::new(run).with("--snapshot", file)
    }

    fn new(run: &Run) -> Self {
        let mut command = isolated(Path::new(BINARY), run.directory());
        command.args(["scan", "--output", "json"]);
        Self(command)
    }

    /// Adds a flag with its value.
    pub(super) fn with(mut self, flag: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.arg(flag).arg(value);
        self
    }

    pub(super) fn config(self, file: &Path) -> Self {
        self.with("--encryption-config", file)
    }

    /// Runs the scan to its end.
    pub(super) fn run(self) -> Scanned {
        let output = output(self.0, &[], LIMIT).unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Scanned { exit: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
    }

    /// Runs the scan and returns the report, which has to be complete. The exit code must be 0 if and only if the
    /// report is clean and the file has no older value that should be encrypted.
    pub(super) fn report(self) -> Value {
        let scanned = self.run();
        let report: Value = serde_json::from_str(&scanned.stdout).unwrap_or_else(|_| panic!("{scanned:?}"));
        assert_eq!(report["incomplete"], json!([]), "{scanned:?}");
        let has_older = report["history"]["readable"].as_u64().is_some_and(|count| count > 0);
        let is_good = report["clean"] == true && !has_older;
        let outcome = if is_good {
            "clean"
        } else if report["clean"] == true {
            "older-values"
        } else {
            "left-over"
        };
        assert_eq!(report["outcome"], outcome);
        assert_eq!(scanned.exit, Some(i32::from(!is_good)), "{}", scanned.stderr);
        report
    }

    /// Runs the scan and returns its live objects by their keys. Older values that can be read have their own lines.
    pub(super) fn list(mut self) -> BTreeMap<String, Value> {
        self.0.arg("--list");
        let scanned = self.run();
        assert!(matches!(scanned.exit, Some(0 | 1)), "{scanned:?}");
        let lines = scanned.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let lines = lines.filter(|line| line["older"] == false);
        let lines: Vec<_> = lines.map(|line| (line["key"].as_str().unwrap().to_owned(), line)).collect();
        let (count, list) = (lines.len(), BTreeMap::from_iter(lines));
        assert_eq!(list.len(), count, "an object is listed twice");
        list
    }
}

/// The value at a key of etcd.
pub(super) struct Stored {
    pub(super) value: Vec<u8>,
    pub(super) mod_revision: u64,
}

impl Stored {
    fn parse(entry: &Value) -> Self {
        // In the JSON, an empty value is missing.
        let value = entry["value"].as_str().map_or_else(Vec::new, decoded);
        Self { value, mod_revision: entry["mod_revision"].as_u64().unwrap() }
    }

    /// Returns the provider and the key that the first bytes name.
    pub(super) fn under(&self) -> (String, Option<String>) {
        let Some(rest) = self.value.strip_prefix(b"k8s:enc:") else { return ("identity".to_owned(), None) };
        let text = String::from_utf8_lossy(rest).into_owned();
        let [scheme, version, name, _] = text.splitn(4, ':').collect::<Vec<_>>()[..] else {
            panic!("no prefix: {text}")
        };
        let key_id = (scheme == "kms" && version == "v2").then(|| EncryptedObject::parse(name, &self.value).key_id);
        (format!("{scheme}:{version}:{name}"), key_id)
    }
}

fn decoded(text: &str) -> Vec<u8> {
    Base64::decode_vec(text).unwrap()
}

fn entries(etcd: &Etcd, arguments: &[&str]) -> Vec<(String, Stored)> {
    let answer = etcd.run_etcdctl(&[&["--write-out=json", "get"], arguments].concat()).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let entries = answer["kvs"].as_array().map_or(&[][..], Vec::as_slice);
    let key = |entry: &Value| String::from_utf8(decoded(entry["key"].as_str().unwrap())).unwrap();
    entries.iter().map(|entry| (key(entry), Stored::parse(entry))).collect()
}

/// Returns everything that etcd has below `prefix`.
pub(super) fn stored(etcd: &Etcd, prefix: &str) -> BTreeMap<String, Stored> {
    entries(etcd, &["--prefix", prefix]).into_iter().collect()
}

/// Returns the earlier values of a key that was never deleted, the oldest last.
pub(super) fn older(etcd: &Etcd, key: &str, mod_revision: u64) -> Vec<Stored> {
    let before =
        |revision: u64| entries(etcd, &[key, &format!("--rev={}", revision - 1)]).pop().map(|(_, stored)| stored);
    std::iter::successors(before(mod_revision), |stored| before(stored.mod_revision)).collect()
}

/// Writes values without an API server.
pub(super) fn put(etcd: &Etcd, entries: &[(String, &[u8])]) {
    let urls = etcd.client_urls();
    let port = urls[0].rsplit_once(':').unwrap().1.parse().unwrap();
    for entries in entries.chunks(OPERATIONS) {
        let puts = entries.iter().map(|(key, value)| {
            let (key, value) = (Base64::encode_string(key.as_bytes()), Base64::encode_string(value));
            json!({"requestPut": {"key": key, "value": value}})
        });
        let body = json!({"success": puts.collect::<Vec<_>>()}).to_string();
        request(port, "POST /v3/kv/txn", &[], body.as_bytes()).unwrap().expect(200);
    }
}
