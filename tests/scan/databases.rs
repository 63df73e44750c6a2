//! Scans databases that real etcds of each version have made with every operation that changes a key. Each is scanned
//! after each operation: from a snapshot, from the file of a stopped or killed member, and live. The reports are
//! compared with etcdctl, with etcdutl, and with the test's list of writes.

use std::{collections::BTreeMap, fs, path::Path, thread, time::Duration};

use base64ct::{Base64, Encoding};
use serde_json::Value;

use super::{
    answers::{Scanned, assert_same, scan},
    truth::{Store, Truth, directories},
    values::{self, Chance, Stored},
};
use crate::{
    cli::sandbox::Sandbox,
    harness::{
        binaries::{EtcdVersion, Program},
        commands::{isolated, output_of_success},
        etcd::Etcd,
        processes::Run,
    },
};

#[test]
fn whatever_etcd_3_5_has_is_reported() {
    Rig::start(EtcdVersion::V3_5).go_through_all();
}

#[test]
fn whatever_etcd_3_6_has_is_reported() {
    Rig::start(EtcdVersion::V3_6).go_through_all();
}

#[test]
fn whatever_etcd_3_7_has_is_reported() {
    Rig::start(EtcdVersion::V3_7).go_through_all();
}

struct Rig {
    version: EtcdVersion,
    run: Run,
    etcd: Etcd,
    store: Store,
    sandbox: Sandbox,
    chance: Chance,
    /// The count of etcdutl for an etcd without keys.
    base: u64,
}

impl Rig {
    fn start(version: EtcdVersion) -> Self {
        let run = Run::new().unwrap();
        let etcd = Etcd::start_version(&run, version, 1).unwrap();
        let store = Store::new(&etcd.endpoints());
        let mut rig = Self { version, run, etcd, store, sandbox: Sandbox::new(), chance: Chance(7), base: 0 };
        let snapshot = rig.sandbox.path("empty.db");
        rig.etcd.snapshot(&snapshot).unwrap();
        rig.base = rig.status(&snapshot)["totalKey"].as_u64().unwrap();
        rig
    }

    fn go_through_all(mut self) {
        self.check("empty");
        self.write();
        self.check("written");
        let middle = self.change();
        self.check("changed");
        self.store.compact(middle);
        self.check("compacted");
        self.etcd.run_etcdctl(&["defrag"]).unwrap();
        self.check("defragmented");
        self.raise(1_000_000);
        for round in ["killed", "killed again"] {
            self.kill(round);
        }
        // The newest revision was a deletion and is compacted. Only its number remains.
        self.store.delete_below("/registry/");
        self.store.delete("/registry");
        self.store.compact(self.store.revision);
        self.check("emptied");
    }

    /// Writes keys of every resource with values of every shape. They are so many that the tree has three levels.
    fn write(&mut self) {
        let chance = &mut self.chance;
        for directory in directories() {
            let shapes = (0..2).flat_map(|_| values::whole(300, chance)).collect::<Vec<_>>();
            for (number, value) in shapes.into_iter().enumerate() {
                self.store.put(&format!("/registry/{directory}/default/{number}"), value);
            }
        }
        for (number, value) in values::damaged(chance).into_iter().enumerate() {
            self.store.put(&format!("/registry/secrets/broken/{number}"), value);
        }
        for key in ["compact_rev_key", "/registry", "/registryx/secrets/a", "/other/secrets/a", "0"] {
            self.store.put(key, Stored::json(10));
        }
        let many = (0..4000).map(|number| {
            let seed = [number as u8 / 50, 1];
            let value = Stored::kms_v2("claviger", "k1", &seed, 200, chance);
            (format!("/registry/secrets/many/{number:05}"), value)
        });
        self.store.put_many(many.collect::<Vec<_>>());
    }

    /// Changes keys in every way. Returns a revision in between.
    fn change(&mut self) -> u64 {
        let Self { store, chance, .. } = self;
        for round in 0..4 {
            for number in 0..30 {
                let value = Stored::kms_v2("claviger", &format!("k{round}"), b"seed", 50 * number, chance);
                store.put(&format!("/registry/secrets/many/{number:05}"), value);
            }
        }
        for number in 100..160 {
            store.delete(&format!("/registry/secrets/many/{number:05}"));
        }
        let middle = store.revision - 20;
        for number in 100..130 {
            store.put(&format!("/registry/secrets/many/{number:05}"), Stored::protobuf(100, chance));
        }
        for _ in 0..2 {
            for (number, length) in [100 << 10, 100 << 10, 1 << 20, 1 << 20, 5000].into_iter().enumerate() {
                store.put(&format!("/registry/configmaps/large/{number}"), Stored::json(length));
                store.put(
                    &format!("/registry/secrets/large/{number}"),
                    Stored::kms_v2("claviger", "k2", b"seed", length, chance),
                );
            }
        }
        store.delete("/registry/configmaps/large/2");
        store.put_all((0..120).map(|n| (format!("/registry/events/txn/{n}"), Stored::json(n))).collect());
        store.put_all((60..125).map(|n| (format!("/registry/events/txn/{n}"), Stored::json(n))).collect());
        store.delete_below("/registry/controllers/");
        for (lease, revoked) in [(7, false), (8, true)] {
            store.grant(lease);
            let keys: Vec<_> = (0..5).map(|n| format!("/registry/leases/{lease}/{n}")).collect();
            keys.iter().for_each(|key| store.put_leased(key, Stored::json(40), lease));
            if revoked {
                store.revoke(lease, &keys);
            }
        }
        store.put("/registry/leases/8/0", Stored::json(41));
        // Damage in older values is reported, too.
        store.put("/registry/secrets/broken/0", Stored::protobuf(10, chance));
        store.put("/registry/secrets/broken/2", Stored::protobuf(10, chance));
        store.delete("compact_rev_key");
        store.put("compact_rev_key", Stored::json(12));
        middle
    }

    /// Scans a snapshot, the live etcd, and the file of the stopped etcd.
    fn check(&mut self, stage: &str) {
        let context = |what: &str| format!("etcd {}, {stage}, {what}", self.version.minor());
        let truth = &self.store.truth.clone();
        assert_eq!(self.etcd.revision().unwrap(), self.store.revision, "{}", context("etcd itself"));
        assert_eq!(of_etcdctl(&self.etcd), truth.live(), "{}", context("etcd itself"));

        let snapshot = self.sandbox.path(&format!("{}.db", stage.replace(' ', "-")));
        self.etcd.snapshot(&snapshot).unwrap();
        let scanned = self.scan_file(&snapshot, truth, &context("snapshot"));
        assert_eq!(scanned.report.0["source"]["digest"]["matches"], true, "{}", context("snapshot"));
        self.compare_with_etcdutl(&snapshot, &scanned, &context("snapshot"));

        let live = scan(&self.sandbox, &format!("--etcd-servers {}", self.etcd.endpoints()));
        live.is_true(truth, false, &context("live"));
        assert_eq!(live.report.revision(), self.store.revision, "{}", context("live"));

        // A stopping etcd waits for its clients.
        self.store.reconnect(&self.etcd.endpoints());
        self.etcd.stop(0).unwrap();
        self.scan_file(&self.etcd.database(0), truth, &context("stopped"));
        let copy = self.sandbox.path("copy.db");
        fs::copy(self.etcd.database(0), &copy).unwrap();
        self.scan_file(&copy, truth, &context("copied"));
        self.etcd.restart(0).unwrap();
    }

    fn scan_file(&self, file: &Path, truth: &Truth, context: &str) -> Scanned {
        let scanned = scan(&self.sandbox, &format!("--snapshot {}", file.display()));
        scanned.is_true(truth, true, context);
        assert_eq!(scanned.report.revision(), self.store.revision.min(last(truth)), "{context}");
        let compacted = truth.compacted.map_or(Value::Null, Into::into);
        assert_eq!(scanned.report.0["source"]["compacted"], compacted, "{context}");
        scanned
    }

    /// Compares the counts with those of etcdutl about a snapshot. Each version counts the keys in another way.
    fn compare_with_etcdutl(&self, snapshot: &Path, scanned: &Scanned, context: &str) {
        let status = self.status(snapshot);
        let truth = &self.store.truth;
        let keys = match self.version {
            // This version counts every record of every bucket. Those of other buckets than that of keys are the same
            // as before, plus leases, two numbers about compaction, and deletions.
            EtcdVersion::V3_5 => {
                let deleted = truth.changes.iter().filter(|change| change.value.is_none()).count();
                let others = self.base + self.store.leases + if truth.compacted.is_some() { 2 } else { 0 };
                counted(scanned) + deleted as u64 + others
            }
            // These versions count the existing keys.
            EtcdVersion::V3_6 | EtcdVersion::V3_7 => {
                let outside = truth.live().keys().filter(|key| !key.starts_with("/registry/")).count();
                scanned.report.0["all"]["objects"].as_u64().unwrap() + outside as u64
            }
        };
        assert_eq!(status["totalKey"], keys, "{context}");
        if !truth.changes.is_empty() {
            assert_eq!(status["revision"], truth.changes.last().unwrap().revision, "{context}");
        }
    }

    fn status(&self, snapshot: &Path) -> Value {
        let mut command = isolated(&Program::Etcdutl(self.version).path().unwrap(), self.run.directory());
        command.args(["snapshot", "status", "--write-out=json"]).arg(snapshot);
        serde_json::from_slice(&output_of_success(command, &[], Duration::from_secs(30)).unwrap()).unwrap()
    }

    /// Restores a snapshot at a higher revision. etcdutl adds a record that belongs to no key.
    fn raise(&mut self, by: u64) {
        let context = format!("etcd {}, raised", self.version.minor());
        let (snapshot, truth) = (self.sandbox.path("before.db"), &self.store.truth);
        self.etcd.snapshot(&snapshot).unwrap();
        let raised = Etcd::start_raised(&self.run, self.version, &snapshot, by).unwrap();
        assert_eq!(of_etcdctl(&raised), truth.live(), "{context}: etcd itself");
        let live = scan(&self.sandbox, &format!("--etcd-servers {}", raised.endpoints()));
        live.is_true(truth, false, &context);
        let copy = self.sandbox.path("raised.db");
        raised.snapshot(&copy).unwrap();
        let scanned = scan(&self.sandbox, &format!("--snapshot {}", copy.display()));
        assert_eq!(scanned.report.incomplete(), [""; 0], "{context}");
        assert_same(&scanned.lines.iter().cloned().collect(), &truth.lines(), &context);
        assert_eq!(scanned.report.revision(), self.store.revision + by, "{context}");
    }

    /// Kills etcd while it is written to. Its file lacks some writes that it confirmed. An etcd with only this file
    /// shows the contents.
    fn kill(&mut self, round: &str) {
        let context = format!("etcd {}, {round}", self.version.minor());
        let Self { etcd, store, chance, .. } = self;
        thread::scope(|scope| {
            let writing = scope.spawn(|| {
                for number in 0.. {
                    let (length, seed) = ([10, 100, 3000, 100_000, 400][number % 5], [b's', number as u8]);
                    let value = Stored::kms_v2("claviger", "k3", &seed, length, chance);
                    if !store.try_put(&format!("/registry/secrets/killed/{:03}", number % 700), value) {
                        return;
                    }
                }
            });
            thread::sleep(Duration::from_millis(700));
            etcd.kill(0).unwrap();
            writing.join().unwrap();
        });
        let copy = self.sandbox.path("killed.db");
        fs::copy(self.etcd.database(0), &copy).unwrap();
        let scanned = scan(&self.sandbox, &format!("--snapshot {}", copy.display()));
        let restored = Etcd::start_version_from_snapshot(&self.run, self.version, &copy).unwrap();
        let reached = restored.revision().unwrap();
        assert_eq!(scanned.report.revision(), reached, "{context}");
        let truth = self.store.truth.until(reached);
        assert_eq!(of_etcdctl(&restored), truth.live(), "{context}: etcd itself");
        scanned.is_true(&truth, true, &context);
        let lag = last(&self.store.truth) - reached;
        assert!(lag > 0, "{context}: the file had everything, so nothing was tested");

        self.etcd.restart(0).unwrap();
        self.store.recover(&self.etcd.endpoints(), self.etcd.revision().unwrap());
        self.check(&format!("{round}, and started again"));
    }
}

/// Returns the revision that a file with these changes names.
fn last(truth: &Truth) -> u64 {
    truth.changes.last().map_or(0, |change| change.revision).max(truth.compacted.unwrap_or(0))
}

/// Returns the number of all values below the prefix and outside, older ones included.
fn counted(scanned: &Scanned) -> u64 {
    let rows = scanned.report.rows().into_iter().map(|row| row.objects + row.older_values.unwrap());
    rows.sum::<u64>() + scanned.report.0["outside"].as_u64().unwrap()
}

/// Returns every key with its revision and the length of its value.
fn of_etcdctl(etcd: &Etcd) -> BTreeMap<String, (u64, usize)> {
    let answer = etcd.run_etcdctl(&["get", "--prefix", "", "--write-out=json"]).unwrap();
    let answer: Value = serde_json::from_str(&answer).unwrap();
    let bytes = |field: &Value| Base64::decode_vec(field.as_str().unwrap_or_default()).unwrap();
    let entries = answer["kvs"].as_array().map_or(&[][..], Vec::as_slice).iter();
    entries
        .map(|entry| {
            let key = String::from_utf8(bytes(&entry["key"])).unwrap();
            (key, (entry["mod_revision"].as_u64().unwrap(), bytes(&entry["value"]).len()))
        })
        .collect()
}
