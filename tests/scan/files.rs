//! Tests files that are not scanned, or only in part: files of running members, incomplete snapshots, and files that
//! are no database.

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    thread,
};

use super::{
    answers::{lines, scan, scan_raw},
    truth::Store,
    values::{Chance, Stored},
};
use crate::{
    cli::sandbox::{CLAVIGER, Sandbox, root_for},
    harness::{etcd::Etcd, processes::Run},
};

/// Returns an etcd with some Secrets, each of 300 bytes.
fn etcd_with(run: &Run, secrets: usize) -> (Etcd, Store) {
    let etcd = Etcd::start(run, 1).unwrap();
    let mut store = Store::new(&etcd.endpoints());
    let mut chance = Chance(11);
    let pairs = (0..secrets).map(|number| {
        let value = Stored::kms_v2("claviger", "k1", b"seed", 160, &mut chance);
        (format!("/registry/secrets/default/{number:06}"), value)
    });
    store.put_many(pairs.collect::<Vec<_>>());
    (etcd, store)
}

#[test]
fn a_running_members_file_is_refused_and_etcd_goes_on() {
    let (run, sandbox) = (Run::new().unwrap(), Sandbox::new());
    let (mut etcd, mut store) = etcd_with(&run, 1000);
    let file = etcd.database(0);
    let line = format!("scan --snapshot {}", file.display());
    thread::scope(|scope| {
        let scanning = scope.spawn(|| {
            for _ in 0..20 {
                let answer = sandbox.refused(3, &line);
                let hint = "take a snapshot, and scan that: etcdctl --endpoints URL snapshot save FILE; or scan it live: --etcd-servers URL";
                let expected = format!("error: {}: a running etcd holds this file\nhint:  {hint}\n", file.display());
                assert_eq!(answer.complaint(), expected);
            }
        });
        while !scanning.is_finished() {
            store.put("/registry/secrets/default/meanwhile", Stored::json(100));
        }
    });
    // A paused etcd holds the lock of the file, and a killed one does not.
    etcd.process(0).unwrap().pause().unwrap();
    sandbox.refused(3, &line);
    etcd.process(0).unwrap().resume().unwrap();
    assert_eq!(etcd.revision().unwrap(), store.revision);
    // For a snapshot, etcd writes changes to its file that were only in its log.
    etcd.snapshot(&sandbox.path("snapshot.db")).unwrap();
    etcd.kill(0).unwrap();
    let answer = sandbox.run(&line);
    assert_eq!(answer.code, 1, "a Secret in plaintext: {}", answer.stdout);
}

/// The reader of the list pauses until etcd has started. Until then the scan is in the middle of the file.
#[test]
fn an_etcd_starts_while_its_file_is_scanned_and_the_scan_says_that_it_changed() {
    let run = Run::new().unwrap();
    let (mut etcd, mut store) = etcd_with(&run, 6000);
    store.reconnect(&etcd.endpoints());
    etcd.stop(0).unwrap();
    let mut command = Command::new(CLAVIGER);
    command.args(["scan", "--list", "--snapshot"]).arg(etcd.database(0));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut list = String::new();
    stdout.read_line(&mut list).unwrap();
    etcd.launch(0).unwrap();
    etcd.wait_until_healthy(0).unwrap();
    store.put("/registry/secrets/default/000000", Stored::json(100));
    assert_eq!(child.try_wait().unwrap(), None, "the scan ended before etcd started");
    stdout.read_to_string(&mut list).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(7), "{stderr}");
    assert!(stderr.contains("! the file changed while it was read\n"), "{stderr}");
    assert!(lines(&list).len() >= 5000, "{stderr}");
}

#[test]
fn a_snapshot_that_is_not_whole_is_read_and_said_to_be_not() {
    let (run, sandbox) = (Run::new().unwrap(), Sandbox::new());
    let (etcd, store) = etcd_with(&run, 300);
    let file = sandbox.path("snapshot.db");
    let place = format!("--snapshot {}", file.display());
    etcd.snapshot(&file).unwrap();
    let snapshot = fs::read(&file).unwrap();
    let whole = scan(&sandbox, &place);
    whole.is_true(&store.truth, true, "whole");
    let digest = whole.report.0["source"]["digest"].clone();
    assert_eq!(digest["matches"], true);
    let pages = snapshot.len() - 32;
    assert_eq!(digest["sha256"], base16ct::lower::encode_string(&snapshot[pages..]));

    const DIGEST: &str = "the file does not match the digest at its end";
    let flipped = |at: usize| {
        let mut bytes = snapshot.clone();
        bytes[at] ^= 1;
        bytes
    };
    let value = pages - 10;
    let cut = format!("the file was cut off: it has {} of {pages} bytes", pages - 4096);
    let more = [&snapshot[..], &[0; 512]].concat();
    let cases: [(&str, Vec<u8>, &[&str]); 3] = [
        ("a bit of the digest", flipped(snapshot.len() - 1), &[DIGEST]),
        ("a bit of a page's unused end", flipped(value), &[DIGEST]),
        ("a sector after it", more, &[DIGEST]),
    ];
    for (case, bytes, expected) in cases {
        fs::write(&file, bytes).unwrap();
        let damaged = scan(&sandbox, &place);
        assert_eq!(damaged.code, 7, "{case}");
        let incomplete = damaged.report.incomplete();
        expected
            .iter()
            .for_each(|reason| assert!(incomplete.contains(&(*reason).to_owned()), "{case}: {incomplete:?}"));
        if expected == [DIGEST] {
            assert_eq!((damaged.lines, damaged.report.rows()), (whole.lines.clone(), whole.report.rows()), "{case}");
            assert_eq!(damaged.report.0["source"]["digest"]["matches"], false, "{case}");
        }
    }
    // It depends on etcd which page is the last one. If it is the page that names the buckets, nothing else can be
    // found.
    fs::write(&file, &snapshot[..pages - 4096]).unwrap();
    let (report, list) = scan_raw(&sandbox, &place);
    assert_eq!((report.code, list.code), (7, 7), "its last page and digest are missing: {report}");
    assert!(report.stdout.contains(&cut) || report.stderr.contains("the file ends before the page does"), "{report}");
    // About a copy of a member's file, a scan knows nothing more.
    fs::write(&file, &snapshot[..pages]).unwrap();
    let copy = scan(&sandbox, &place);
    copy.is_true(&store.truth, true, "without digest");
    assert_eq!(copy.report.0["source"]["digest"], serde_json::Value::Null);
}

#[test]
fn what_is_no_database_is_refused() {
    let sandbox = Sandbox::new();
    fs::write(sandbox.path("text"), "a text\n".repeat(10_000)).unwrap();
    fs::write(sandbox.path("empty"), "").unwrap();
    fs::write(sandbox.path("zeros"), [0; 65_536]).unwrap();
    fs::write(sandbox.path("etcd.db.gz"), b"\x1f\x8b\x08\0\0").unwrap();
    fs::write(sandbox.path("etcd.zip"), b"PK\x03\x04\x14\0").unwrap();
    sandbox.make_dir("member", 0o700);
    sandbox.make_dir("data", 0o700);
    fs::create_dir_all(sandbox.path("data/member/snap")).unwrap();
    fs::write(sandbox.path("data/member/snap/db"), "").unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    rustix::fs::mknodat(rustix::fs::CWD, sandbox.path("pipe"), rustix::fs::FileType::Fifo, mode, 0).unwrap();

    const FOREIGN: &str = "not a database of etcd, or both of its meta pages are damaged\n\
                           hint:  if this is a file of etcd, it is damaged; take another snapshot: etcdctl --endpoints URL snapshot save FILE\n";
    const KIND: &str = "not a regular file\nhint:  give a file that `etcdctl snapshot save` wrote\n";
    const BESIDE: &str = "opening failed: No such file or directory (os error 2)\n\
                          hint:  to see which files are there: ls -l [DIR]\n";
    const BELOW: &str = "opening failed: No such file or directory (os error 2)\n\
                         hint:  there is no [DIR]/missing: if it is on another disk, mount that disk\n";
    for (exit, file, expected) in [
        (7, "[DIR]/text", FOREIGN),
        (7, "[DIR]/empty", FOREIGN),
        (7, "[DIR]/zeros", FOREIGN),
        (
            2,
            "[DIR]/etcd.db.gz",
            "it is packed with gzip, expected a database of etcd\nhint:  unpack it first: gzip --decompress --keep [DIR]/etcd.db.gz\n",
        ),
        (
            2,
            "[DIR]/etcd.zip",
            "it is packed with zip, expected a database of etcd\nhint:  unpack it first: unzip [DIR]/etcd.zip\n",
        ),
        (2, "[DIR]/member", "not a regular file\nhint:  name a file in it that `etcdctl snapshot save` wrote\n"),
        (
            2,
            "[DIR]/data",
            "not a regular file\nhint:  if no etcd runs on it, name the file in it: [DIR]/data/member/snap/db\n",
        ),
        (2, "[DIR]/pipe", KIND),
        (2, "/dev/null", KIND),
        (2, "[DIR]/missing", BESIDE),
        (2, "[DIR]/missing/db", BELOW),
    ] {
        let answer = sandbox.refused(exit, &format!("scan --snapshot {file}"));
        assert_eq!(answer.complaint(), format!("error: {file}: {expected}"));
    }
    if root_for("a file that may not be read") {
        fs::set_permissions(sandbox.path("text"), fs::Permissions::from_mode(0o600)).unwrap();
        let answer = sandbox.call("scan --snapshot [DIR]/text").by_nobody().run();
        let expected = "error: [DIR]/text: opening failed: Permission denied (os error 13)\n\
                        hint:  run it as root, or as a user who may read it; to see who may: ls -l [DIR]/text\n";
        assert_eq!(answer.complaint(), expected);
        answer.ends_with(3);
    }
}
