//! Tests scans of kine, which serves etcd's API from an SQL database at a Unix socket, in k3s, k0s and MicroK8s. A scan
//! of it must report the same as a scan of an etcd with the same objects.

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::Command,
    thread,
};

use serde_json::Value;

use super::{
    answers::{Line, Row, Scanned, lines, scan},
    proxy::{Proxy, Then},
    truth::{Store, directories},
    values::{Chance, Stored, damaged, whole},
    writer::Writer,
};
use crate::{
    cli::sandbox::{CLAVIGER, Sandbox},
    harness::{
        certificates::{Certificates, ClientCertificate},
        etcd::Etcd,
        kine::Kine,
        postgres::Postgres,
        processes::Run,
        progress::skipped,
    },
};

/// A change of a key: a new value, or a deletion.
type Change = (String, Option<Stored>);

/// The number of Secrets: more than the first page has.
const SECRETS: usize = 700;

/// Returns changes: keys of every resource with values of every shape, damaged values, and keys outside of the prefix;
/// then rewrites and deletions.
fn changes() -> Vec<Change> {
    let mut chance = Chance(11);
    let mut changes = Vec::new();
    for directory in directories() {
        let values = whole(200, &mut chance).into_iter().enumerate();
        changes.extend(values.map(|(number, value)| (format!("/registry/{directory}/default/{number}"), Some(value))));
    }
    let values = damaged(&mut chance).into_iter().enumerate();
    changes.extend(values.map(|(number, value)| (format!("/registry/secrets/broken/{number}"), Some(value))));
    for key in ["/registry", "/registryx/secrets/a", "/registry/secrets/\u{e9}/a%_", "/other/secrets/a", "0"] {
        changes.push((key.to_owned(), Some(Stored::json(10))));
    }
    let secret = |number| format!("/registry/secrets/many/{number:05}");
    let under = |key_id: &str, chance: &mut Chance| Some(Stored::kms_v2("claviger", key_id, b"seed", 200, chance));
    for number in 0..SECRETS {
        changes.push((secret(number), under("k1", &mut chance)));
    }
    for number in (0..SECRETS).step_by(9) {
        changes.push((secret(number), under("k2", &mut chance)));
        changes.push((secret(number + 1), None));
    }
    for number in (0..SECRETS).step_by(90) {
        changes.push((secret(number + 1), Some(Stored::protobuf(100, &mut chance))));
    }
    changes
}

/// Makes the changes in an etcd.
fn write_to_etcd(store: &mut Store, changes: &[Change]) {
    for (key, value) in changes {
        match value {
            Some(value) => store.put(key, value.clone()),
            None => store.delete(key),
        }
    }
}

/// A kine that is written to, with the last revision of each of its keys.
struct KineStore {
    kine: Kine,
    writer: Writer,
    revisions: HashMap<String, u64>,
    revision: u64,
}

impl KineStore {
    fn new(kine: Kine) -> Self {
        let writer = kine.socket().map_or_else(|| Writer::new(&kine.url()), Writer::at_socket);
        Self { kine, writer, revisions: HashMap::new(), revision: 0 }
    }

    fn write(&mut self, changes: &[Change]) {
        for (key, value) in changes {
            let revision = match value {
                Some(value) => self.writer.put(key, &value.bytes),
                None => self.writer.delete_changed_at(key, self.revisions[key]),
            };
            self.revision = revision.unwrap();
            self.revisions.insert(key.clone(), self.revision);
        }
    }

    fn scan(&self, sandbox: &Sandbox) -> Scanned {
        scan(sandbox, &format!("--etcd-servers {}", self.kine.url()))
    }
}

/// Compares everything in two answers except revisions, which kine counts in its own way.
fn assert_same_answers(kine: &Scanned, etcd: &Scanned, context: &str) {
    let lines = |scanned: &Scanned| -> Vec<Line> {
        scanned.lines.iter().map(|line| Line { mod_revision: 0, ..line.clone() }).collect()
    };
    for (of_kine, of_etcd) in lines(kine).iter().zip(&lines(etcd)) {
        assert_eq!(of_kine, of_etcd, "{context}");
    }
    assert_eq!(kine.lines.len(), etcd.lines.len(), "{context}");
    let rows = |scanned: &Scanned| -> Vec<Row> {
        let rows = scanned.report.rows().into_iter();
        rows.map(|row| Row { first_revision: None, last_revision: None, ..row }).collect()
    };
    assert_eq!(rows(kine), rows(etcd), "{context}");
    assert_eq!(kine.report.found(), etcd.report.found(), "{context}");
    assert_eq!(kine.report.0["all"]["objects"], etcd.report.0["all"]["objects"], "{context}");
    assert_eq!((kine.code, kine.report.incomplete()), (etcd.code, etcd.report.incomplete()), "{context}");
}

/// Makes the same changes in an etcd and in this kine. Compares the scans after each step.
fn go_through_all(run: &Run, kine: Kine) {
    let sandbox = Sandbox::new();
    let etcd = Etcd::start(run, 1).unwrap();
    let (mut store, mut kine) = (Store::new(&etcd.endpoints()), KineStore::new(kine));
    let of_etcd = |store: &Store| {
        let scanned = scan(&sandbox, &format!("--etcd-servers {}", etcd.endpoints()));
        scanned.is_true(&store.truth, false, "etcd");
        scanned
    };
    let nothing = kine.scan(&sandbox);
    assert_eq!((nothing.code, nothing.lines.len()), (7, 0));
    let is_prefix_wrong = ["there is no key below /registry/: is that the prefix of the API server?"];
    assert_eq!(nothing.report.incomplete(), is_prefix_wrong);

    let changes = changes();
    write_to_etcd(&mut store, &changes);
    kine.write(&changes);
    assert_same_answers(&kine.scan(&sandbox), &of_etcd(&store), "written");

    kine.writer.compact(kine.revision, true).unwrap();
    store.compact(store.revision);
    let compacted = kine.scan(&sandbox);
    assert_same_answers(&compacted, &of_etcd(&store), "compacted");
    assert!(compacted.report.revision() >= kine.revision);
    assert_eq!(compacted.report.0["source"]["cluster_id"], "0");

    let more = &changes[..200];
    write_to_etcd(&mut store, more);
    kine.write(more);
    assert_same_answers(&kine.scan(&sandbox), &of_etcd(&store), "rewritten");

    // kine keeps its own keys, inside and outside of the prefix.
    let keys = kine.kine.run_etcdctl(&["get", "--prefix", "--keys-only", ""]).unwrap();
    for own in ["/registry/health", "compact_rev_key"] {
        assert!(keys.lines().any(|key| key == own), "{own}");
        assert!(compacted.lines.iter().all(|line| line.key != own), "{own}");
    }
    let empty = sandbox.run(&format!("scan --etcd-servers {} --etcd-prefix /nothing", kine.kine.url()));
    assert!(empty.ends_with(7).stdout.starts_with("There is no object below /nothing/\n"), "{empty}");
    assert!(empty.stdout.contains(" --etcd-prefix /registry; or with "), "{empty}");
    assert!(empty.stdout.contains("; or with --etcd-prefix /other"), "{empty}");
    let inside = sandbox.run(&format!("scan --etcd-servers {} --etcd-prefix /registry/secrets", kine.kine.url()));
    let wrong = "The objects below /registry/secrets/ are not an API server's: this is the wrong prefix\n";
    assert!(inside.ends_with(7).stdout.starts_with(wrong), "{inside}");
    assert!(inside.stdout.contains(" --etcd-prefix /registry; or with "), "{inside}");
    assert!(inside.stdout.contains("note:  kine may still have older values"), "{inside}");
    let elsewhere = scan(&sandbox, &format!("--etcd-servers {} --etcd-prefix /other", kine.kine.url()));
    assert_eq!(elsewhere.lines.iter().map(|line| line.key.as_str()).collect::<Vec<_>>(), ["/other/secrets/a"]);
}

#[test]
fn kine_over_sqlite_has_what_etcd_has() {
    let run = Run::new().unwrap();
    let kine = Kine::over_sqlite(&run).unwrap();
    go_through_all(&run, kine);
}

#[test]
fn kine_over_postgresql_has_what_etcd_has() {
    if let Some(reason) = Postgres::impossible() {
        skipped(&reason);
        return;
    }
    let run = Run::new().unwrap();
    let postgres = Postgres::start(&run).unwrap();
    let kine = Kine::over_postgres(&run, &postgres).unwrap();
    go_through_all(&run, kine);
}

/// The number of Secrets, and the bytes of each. The first page has 500 of them.
const LARGE: (usize, usize) = (1500, 40_000);

/// A place in the middle of the first page, in bytes. The rest comes as one stream, which SQLite reads from a state
/// that no compaction changes.
const MIDDLE: usize = 8 << 20;

/// The first page is read at one revision, and then kine forgets that revision.
#[test]
fn a_scan_goes_on_at_a_later_revision_if_kine_compacts_its_own() {
    let (run, sandbox) = (Run::new().unwrap(), Sandbox::new());
    let mut store = KineStore::new(Kine::on_loopback(&run).unwrap());
    let key = |number: usize| format!("/registry/secrets/default/{number:05}");
    let under = |key_id: &str| Some(Stored::kms_v2("claviger", key_id, b"seed", LARGE.1, &mut Chance(1)));
    let before: Vec<Change> = (0..LARGE.0).map(|number| (key(number), under("k1"))).collect();
    store.write(&before);
    let proxy = Proxy::start(&store.kine.url(), MIDDLE, Then::Hold);
    let line = format!("scan --list --etcd-servers {}", proxy.url());
    let rewritten: Vec<Change> = (0..LARGE.0).step_by(50).map(|number| (key(number), under("k2"))).collect();
    let added: Vec<Change> = (0..LARGE.0).step_by(50).map(|number| (key(number) + "-new", under("k2"))).collect();
    let deleted: Vec<Change> = (1..LARGE.0).step_by(50).map(|number| (key(number), None)).collect();
    let answer = thread::scope(|scope| {
        let scanning = scope.spawn(|| sandbox.run(&line));
        proxy.wait_until_held();
        // The deletions are not the last changes, because a kine that forgets its newest row also loses its own
        // revision.
        [&deleted, &added, &rewritten].into_iter().for_each(|changes| store.write(changes));
        store.writer.compact(store.revision, true).unwrap();
        proxy.release();
        scanning.join().unwrap()
    });

    let listed: Vec<(String, Option<String>)> =
        lines(&answer.ends_with(0).stdout).into_iter().map(|line| (line.key, line.key_id)).collect();
    let under = |(key, _): &Change, key_id: &str| (key.clone(), Some(key_id.to_owned()));
    let mut after: BTreeMap<_, _> = before.iter().map(|change| under(change, "k1")).collect();
    let before = after.clone();
    after.extend(rewritten.iter().chain(&added).map(|change| under(change, "k2")));
    deleted.iter().for_each(|(key, _)| drop(after.remove(key)));
    let is_new = |(_, key_id): &(String, Option<String>)| key_id.as_deref() == Some("k2");
    let from = &listed[listed.iter().position(is_new).expect("a later revision was read")].0;
    let expected: Vec<_> = before.range(..from.clone()).chain(after.range(from.clone()..)).collect();
    assert_eq!(listed.iter().map(|(key, key_id)| (key, key_id)).collect::<Vec<_>>(), expected, "from {from} on");
    assert_eq!(before.range(..from.clone()).count(), 500);
}

/// Returns the keys that a scan in this directory lists.
fn listed_in(directory: &Path, servers: &str) -> Vec<String> {
    let mut command = Command::new(CLAVIGER);
    command.current_dir(directory).args(["scan", "--list", "--etcd-servers", servers]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{servers}: {output:?}");
    lines(&String::from_utf8(output.stdout).unwrap()).into_iter().map(|line| line.key).collect()
}

/// k3s names a path relative to its own directory. MicroK8s and k0s name a path that looks as if it had a port.
#[test]
fn the_socket_of_kine_is_found_by_each_form_of_its_path() {
    let (run, sandbox) = (Run::new().unwrap(), Sandbox::new());
    let kine = Kine::over_sqlite(&run).unwrap();
    let mut store = KineStore::new(kine);
    let key = "/registry/secrets/default/a";
    store.write(&[(key.to_owned(), Some(Stored::json(10)))]);
    let socket = store.kine.socket().unwrap();
    let with_port = store.kine.directory().join("kine.sock:12379");
    symlink(socket, &with_port).unwrap();
    for (directory, servers) in [
        (sandbox.root(), format!("unix://{}", socket.display())),
        (sandbox.root(), format!("unix://{}", with_port.display())),
        (sandbox.root(), format!("unix:{}", with_port.display())),
        (store.kine.directory(), "unix://kine.sock".to_owned()),
        (sandbox.root(), format!("unix:///nowhere.sock,{}", store.kine.url())),
    ] {
        assert_eq!(listed_in(directory, &servers), [key], "{servers}");
    }
    let missing = sandbox.refused(6, "scan --etcd-servers unix:///nowhere/kine.sock").complaint();
    let expected = "error: etcd unix:///nowhere/kine.sock does not answer: ";
    assert!(missing.starts_with(expected) && missing.contains("No such file or directory"), "{missing}");
}

fn keys_and_flags(run: &Run) -> (Certificates, ClientCertificate, String) {
    let directory: PathBuf = run.path("pki");
    fs::create_dir(&directory).unwrap();
    let certificates = Certificates::create(&directory).unwrap();
    let client = ClientCertificate::create(&directory, "scanner").unwrap();
    let flags = format!(
        " --etcd-cafile {} --etcd-certfile {} --etcd-keyfile {}",
        certificates.authority.display(),
        client.certificate.display(),
        client.key.display()
    );
    (certificates, client, flags)
}

/// As in etcd's own client, the name in the certificate is that of the socket's file.
#[test]
fn kine_is_read_over_mutual_tls_at_its_socket() {
    let (run, sandbox) = (Run::new().unwrap(), Sandbox::new());
    let (certificates, client, flags) = keys_and_flags(&run);
    let kine = Kine::secure(&run, "localhost:2379", &certificates, &client).unwrap();
    for url in [kine.secure_url(), kine.url()] {
        let answer = sandbox.run(&format!("scan --etcd-servers {url}{flags} --output json"));
        let report: Value = answer.ends_with(7).json();
        assert_eq!(report["all"]["objects"], 0, "{answer}");
    }
    let other = Kine::secure(&run, "kine.sock", &certificates, &client).unwrap();
    let refused = sandbox.refused(6, &format!("scan --etcd-servers {}{flags}", other.secure_url())).complaint();
    assert!(refused.contains("not valid for name \"kine.sock\""), "{refused}");
    let refused = sandbox.refused(2, &format!("scan --etcd-servers {}", kine.secure_url())).complaint();
    let expected = format!(
        "error: etcd endpoint {:?}: TLS needs the certificate authority that signs etcd's certificate\n\
         hint:  give it: --etcd-cafile FILE\n",
        kine.secure_url()
    );
    assert_eq!(refused, expected);
}

#[test]
fn an_ipv6_address_is_read_over_mutual_tls() {
    let (run, sandbox) = (Run::new().unwrap(), Sandbox::new());
    let (certificates, client, flags) = keys_and_flags(&run);
    let Some(kine) = Kine::secure_on_ipv6(&run, &certificates, &client).unwrap() else {
        skipped("this machine has no address ::1");
        return;
    };
    let answer = sandbox.run(&format!("scan --etcd-servers {}{flags} --output json", kine.secure_url()));
    assert_eq!(answer.ends_with(7).json()["all"]["objects"], 0, "{answer}");
}
