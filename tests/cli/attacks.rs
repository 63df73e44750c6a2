//! Puts back, exchanges or changes files under a running daemon. Each attack is refused or reported, Decrypt continues
//! to work, and with the right files everything is well again.

use std::{collections::BTreeMap, fs, thread, time::Duration};

use super::{
    backup::{OURS, STATE, with_recovery},
    kms::Kms,
    sandbox::Sandbox,
};

/// The files that an attack exchanges.
const FILES: [&str; 4] = ["keyring", "root", "mark", "ledger"];

/// A time in which the daemon has looked for changes at least once: it looks four times a second.
const LOOK: Duration = Duration::from_millis(400);

/// The files at one time.
type Files = BTreeMap<&'static str, Vec<u8>>;

fn files(sandbox: &Sandbox, state: &str) -> Files {
    FILES.into_iter().map(|name| (name, fs::read(sandbox.path(state).join(name)).unwrap())).collect()
}

fn put(sandbox: &Sandbox, files: &Files) {
    for (name, bytes) in files {
        fs::write(sandbox.path("state").join(name), bytes).unwrap();
    }
}

/// Returns some of `files`, chosen by the bits of `mask`.
fn some(files: &Files, mask: usize) -> Files {
    let chosen = files.iter().enumerate().filter(|(place, _)| mask >> place & 1 == 1);
    chosen.map(|(_, (name, bytes))| (*name, bytes.clone())).collect()
}

fn check(sandbox: &Sandbox, state: &str, backup: &str) {
    sandbox.run(&format!("backup create [DIR]/{backup} --state-dir [DIR]/{state}")).ends_with(0);
    sandbox.run(&format!("backup check [DIR]/{backup} {OURS} --state-dir [DIR]/{state}")).ends_with(0);
}

fn rotate(sandbox: &Sandbox, state: &str, key: &str) {
    sandbox.run(&format!("key add --state-dir [DIR]/{state}")).ends_with(0);
    sandbox.run(&format!("key promote {key} --without-backup --state-dir [DIR]/{state}")).ends_with(0);
}

/// A keyring with a past, a twin with other changes, and every attack with the files of both.
struct Scene {
    sandbox: Sandbox,
    attacks: Vec<(String, Files)>,
}

fn scene() -> Scene {
    let sandbox = with_recovery();
    let mut past = Vec::new();
    for (epoch, key) in [("first", "k3"), ("second", "k4"), ("third", "k5")] {
        check(&sandbox, "state", &format!("{epoch}.age"));
        past.push((epoch, files(&sandbox, "state")));
        rotate(&sandbox, "state", key);
        if epoch == "second" {
            sandbox.run(&format!("rekey {STATE}")).ends_with(0);
        }
    }
    check(&sandbox, "state", "now.age");
    sandbox.copy("state", "twin");
    rotate(&sandbox, "state", "k6");
    rotate(&sandbox, "twin", "k6");
    rotate(&sandbox, "twin", "k7");
    check(&sandbox, "twin", "twin.age");
    past.push(("a twin's", files(&sandbox, "twin")));
    sandbox.init("other");
    fs::write(sandbox.path("other/ledger"), &past[0].1["ledger"]).unwrap();
    past.push(("another installation's", files(&sandbox, "other")));
    check(&sandbox, "state", "last.age");
    let now = files(&sandbox, "state");
    let mut attacks = Vec::new();
    for (epoch, files) in &past {
        for mask in 1..1 << FILES.len() {
            let changed = some(files, mask);
            if changed.iter().all(|(name, bytes)| now[name] != *bytes) {
                attacks.push((format!("{epoch} {:?}", changed.keys().collect::<Vec<_>>()), changed));
            }
        }
    }
    Scene { sandbox, attacks }
}

#[test]
fn files_that_were_put_back_or_exchanged_are_refused_or_seen_and_decrypt_goes_on() {
    let Scene { sandbox, attacks } = scene();
    assert!(attacks.len() >= 50, "{}", attacks.len());
    let chunk = attacks.len().div_ceil(8);
    thread::scope(|scope| {
        for attacks in attacks.chunks(chunk) {
            let sandbox = sandbox.twin();
            scope.spawn(move || attack(&sandbox, attacks));
        }
    });
    println!("{} attacks: each refused or seen", attacks.len());
}

fn attack(sandbox: &Sandbox, attacks: &[(String, Files)]) {
    let good = files(sandbox, "state");
    let mut daemon = sandbox.serve(&format!("{STATE} --socket [DIR]/run/kms.sock"));
    let kms = Kms::connect(&sandbox.path("run/kms.sock"));
    let (key_id, wrapped) = kms.encrypt(&[9; 32]);
    let right = sandbox.run(&format!("key list {STATE}"));
    let status = || sandbox.run(&format!("status {STATE} --socket [DIR]/run/kms.sock"));
    for (what, changed) in attacks {
        put(sandbox, changed);
        thread::sleep(LOOK);
        let list = sandbox.run(&format!("key list {STATE}"));
        let status = status();
        let is_seen = list.code != 0 || status.stdout.lines().any(|line| line.starts_with("! "));
        // A crash also leaves an older mark alone, and the daemon advances such a mark.
        assert!(is_seen || list.stdout == right.stdout, "{what}: {list}{status}");
        assert_eq!(kms.decrypt(&key_id, &wrapped).unwrap(), [9; 32], "{what}");
        assert_eq!(kms.encrypt(&[1; 32]).0, key_id, "{what}: another key wraps");
        put(sandbox, &good);
    }
    // A degraded daemon looks again after at most ten seconds. It notices a newly written file at once.
    let start = std::time::Instant::now();
    while status().code != 0 {
        assert!(start.elapsed() < Duration::from_secs(30), "{}", status());
        thread::sleep(LOOK);
    }
    assert_eq!(kms.decrypt(&key_id, &wrapped).unwrap(), [9; 32]);
    daemon.kill();
}

#[test]
fn no_byte_of_any_file_can_be_changed_unseen() {
    let Scene { sandbox, .. } = scene();
    let good = files(&sandbox, "state");
    let step = if std::env::var_os("CLAVIGER_CAMPAIGN").is_some() { 1 } else { 9 };
    let points: Vec<(&'static str, usize)> =
        good.iter().flat_map(|(name, bytes)| (0..bytes.len()).step_by(step).map(|place| (*name, place))).collect();
    thread::scope(|scope| {
        for points in points.chunks(points.len().div_ceil(4)) {
            let (sandbox, good) = (sandbox.twin(), &good);
            scope.spawn(move || {
                for (name, place) in points {
                    let mut bytes = good[name].clone();
                    bytes[*place] ^= 1;
                    put(&sandbox, &Files::from([(*name, bytes)]));
                    let list = sandbox.run(&format!("key list {STATE}"));
                    let is_seen = || sandbox.run(&format!("status {STATE}")).stdout.contains("! no backup counts");
                    assert!(list.code != 0 || *name == "ledger" && is_seen(), "byte {place} of {name}: {list}");
                    put(&sandbox, &Files::from([(*name, good[name].clone())]));
                }
                sandbox.run(&format!("key list {STATE}")).ends_with(0);
            });
        }
    });
    println!("{} changed bytes, each seen", points.len());
}
