//! Offers claviger forged backups, records, marks, ledgers and root files, made with public data only. claviger refuses
//! each of them, and changes nothing.
//!
//! [`attacker`] makes them, and [`catalogue`] lists them. A forgery named `whole` is correct except for its root key,
//! so it opens in a directory without a keyring to compare with. The campaign checks that it does. If it were refused
//! because of another mistake, the refusal would prove nothing.
//!
//! ```text
//! mod -> catalogue -> attacker
//! ```

mod attacker;
mod catalogue;

use std::{
    collections::HashSet,
    fs::{self, OpenOptions},
    os::unix::fs::PermissionsExt,
    thread,
    time::{Duration, Instant},
};

use self::{
    attacker::{Public, expect},
    catalogue::{Exchange, Forgery},
};
use super::{disk::in_parallel, sample, size};
use crate::cli::{
    identity,
    kms::Kms,
    sandbox::{Answer, Sandbox},
    tree::Tree,
};

const STATE: &str = "--state-dir [DIR]/state";
const OURS: &str = "--recovery-identity [DIR]/ours.txt";

/// The exit codes of a refusal: refused, not authentic, damaged.
const REFUSED: [i32; 3] = [3, 4, 7];

/// A time in which the daemon has looked for changes at least once: it looks four times a second.
const LOOK: Duration = Duration::from_millis(400);

/// The number of parts of a campaign, each with its own directory.
const PARTS: usize = 4;

/// Returns a keyring with recovery, a key in each state, an earlier root key, a listed backup and a past; and its
/// public data.
fn scene() -> (Sandbox, Public) {
    let sandbox = Sandbox::new();
    let recipient = identity(&sandbox, "ours.txt");
    let run = |line: &str| sandbox.run(&format!("{line} {STATE}"));
    run(&format!("init --recovery-recipient {recipient} {OURS}")).ends_with(0);
    let first = list(&sandbox)["keys"][0]["key_id"].as_str().unwrap().to_owned();
    for line in ["key add", "key promote k2 --without-backup", "rekey", "key add", "key promote k3 --without-backup"] {
        run(line).ends_with(0);
    }
    run(&format!("key disable {first} --risk-unreadable-secrets")).ends_with(0);
    run(&format!("key destroy {first} --risk-losing-secrets")).ends_with(0);
    let read = |name: &str| fs::read_to_string(sandbox.path("state").join(name)).unwrap();
    let older = read("keyring");
    run("key add").ends_with(0);
    run("backup create [DIR]/genuine.age").ends_with(0);
    run(&format!("backup check [DIR]/genuine.age {OURS}")).ends_with(0);
    let [record, root, mark, ledger] = ["keyring", "root", "mark", "ledger"].map(read);
    (sandbox, Public { record, older, root, mark, ledger, recipient })
}

fn list(sandbox: &Sandbox) -> serde_json::Value {
    sandbox.run(&format!("key list {STATE} --output json")).json()
}

/// Runs `line`. Checks that the command refuses in one line and changes nothing.
fn refused(sandbox: &Sandbox, context: &str, line: &str) -> Answer {
    let before = Tree::of(&sandbox.path("state"));
    let answer = sandbox.run(line);
    assert!(REFUSED.contains(&answer.code), "{context}: {answer}");
    assert_eq!(answer.stdout, "", "{context}: {answer}");
    let reasons = answer.stderr.lines().filter(|line| line.starts_with("error: ")).count();
    assert_eq!(reasons, 1, "{context}: {answer}");
    let changes = before.changes(&Tree::of(&sandbox.path("state")));
    assert_eq!(changes, Vec::<String>::new(), "{context}: {answer}");
    assert!(!sandbox.path("new").exists(), "{context}: {answer}");
    answer
}

/// Offers `forgery` to every command that takes a backup. Returns the number of commands.
fn offer(sandbox: &Sandbox, public: &Public, forgery: &Forgery) -> usize {
    let Forgery { name, file, length, is_whole } = forgery;
    let path = sandbox.path("forged.age");
    fs::write(&path, file).unwrap();
    OpenOptions::new().write(true).open(&path).unwrap().set_len(*length).unwrap();
    let alone = sandbox.run(&format!("backup check [DIR]/forged.age {OURS} --state-dir [DIR]/none"));
    assert_eq!(alone.code == 0, *is_whole, "{name}: whether nothing but its root key is wrong: {alone}");
    let expects = ["", &format!("--expect {}", expect(&public.record)), &format!("--expect {}", expect(&public.older))]
        .map(ToOwned::to_owned);
    let mut lines = vec![format!("backup check [DIR]/forged.age {OURS} {STATE}")];
    for expect in &expects {
        lines.push(format!("backup restore [DIR]/forged.age {OURS} --state-dir [DIR]/new {expect}"));
        for files in ["forged.age", "genuine.age [DIR]/forged.age", "forged.age [DIR]/genuine.age"] {
            lines.push(format!("backup restore [DIR]/{files} {OURS} {STATE} --accept {expect}"));
        }
    }
    lines.push(format!("backup restore [DIR]/forged.age {OURS} {STATE}"));
    for line in &lines {
        refused(sandbox, name, line);
    }
    lines.len()
}

/// Checks that the directory is as it was before, and that genuine commands work.
fn goes_on(sandbox: &Sandbox, before: &Tree) {
    assert_eq!(before.changes(&Tree::of(&sandbox.path("state"))), Vec::<String>::new());
    sandbox.run(&format!("backup check [DIR]/genuine.age {OURS} {STATE}")).ends_with(0);
    sandbox.run(&format!("backup restore [DIR]/genuine.age {OURS} {STATE}")).ends_with(0);
    sandbox.run(&format!("key add {STATE}")).ends_with(0);
    sandbox.run(&format!("rekey {STATE}")).ends_with(0);
}

/// Returns evenly chosen items, at most `gate` of them unless `CLAVIGER_CAMPAIGN` gives another number.
fn chosen<T: Clone>(all: &[T], gate: u64) -> Vec<Vec<T>> {
    let chosen = sample(all, size(gate));
    (0..PARTS).map(|part| chosen.iter().skip(part).step_by(PARTS).cloned().collect()).collect()
}

fn count_distinct<'a>(names: impl Iterator<Item = &'a String>) -> usize {
    names.collect::<HashSet<_>>().len()
}

#[test]
#[ignore = "campaign"]
fn no_forged_backup_or_record_is_restored_merged_or_listed() {
    let ((sandbox, public), start) = (scene(), Instant::now());
    let all = catalogue::forgeries(&public);
    let distinct = count_distinct(all.iter().map(|forgery| &forgery.name));
    assert!(distinct == all.len() && distinct >= 50, "{distinct} of {}", all.len());
    let counts = in_parallel(&chosen(&all, 28), |part| {
        let sandbox = sandbox.twin();
        let before = Tree::of(&sandbox.path("state"));
        let ways: Vec<usize> = part.iter().map(|forgery| offer(&sandbox, &public, forgery)).collect();
        goes_on(&sandbox, &before);
        (ways.len(), ways.iter().sum::<usize>())
    });
    let (tried, ways) = counts.iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    println!(
        "forgeries: {tried} of {distinct} backups and records, offered {ways} times in {:.0?}, all refused",
        start.elapsed()
    );
    assert!(tried > 0);
}

/// Writes these files to the directory, as an attacker who copies them would. Returns the files that were there before.
fn exchange(sandbox: &Sandbox, state: &str, files: &[(&'static str, Vec<u8>)]) -> Vec<(&'static str, Vec<u8>)> {
    let swap = |(name, bytes): &(&'static str, Vec<u8>)| {
        let path = sandbox.path(state).join(name);
        let before = fs::read(&path).unwrap_or_default();
        let next = sandbox.path("run").join(name);
        fs::write(&next, bytes).unwrap();
        fs::set_permissions(&next, fs::Permissions::from_mode(0o600)).unwrap();
        fs::rename(next, path).unwrap();
        (*name, before)
    };
    files.iter().map(swap).collect()
}

/// Returns the line that an operator would type to have `record` accepted. Returns `None` if its first lines contain no
/// uuid or no generation.
fn typed(record: &str) -> Option<String> {
    let value = |name: &str| record.lines().find_map(|line| line.strip_prefix(name));
    let (uuid, generation) = (value("uuid ")?, value("generation ")?);
    let is_uuid = uuid.len() == 32 && uuid.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let number = generation.parse().ok().filter(|number| (1..=1_u64 << 40).contains(number))?;
    (is_uuid && number.to_string() == generation).then(|| expect(record))
}

/// Checks that every command refuses these files. Returns the number of commands.
fn is_refused(sandbox: &Sandbox, public: &Public, Exchange { name, files, is_complete }: &Exchange) -> usize {
    if *is_complete {
        // These files must open on their own. Otherwise they might be refused because of an error in the test, which
        // proves nothing.
        sandbox.make_dir("alone", 0o700);
        exchange(sandbox, "alone", files);
        sandbox.run("key list --state-dir [DIR]/alone").ends_with(0);
        fs::remove_dir_all(sandbox.path("alone")).unwrap();
        return 0;
    }
    let before = exchange(sandbox, "state", files);
    let serve = format!("serve {STATE} --socket [DIR]/run/refused.sock --log-level error");
    let mut lines = vec![format!("key promote k4 {STATE}")];
    if files.iter().all(|(name, _)| *name == "ledger") {
        // A ledger that was refused does not stop the daemon from serving. Then no key counts as backed up.
        let status = sandbox.run(&format!("status {STATE} --socket @none"));
        assert!(status.code == 1 && status.stdout.contains("! no backup counts: "), "{name}: {status}");
    } else {
        lines.extend(
            ["key list", "key add", "rekey", "backup create [DIR]/refused.age"].map(|line| format!("{line} {STATE}")),
        );
        lines.extend([format!("status {STATE} --socket @none"), serve.clone()]);
        lines.extend([&public.record, &public.older].map(|record| format!("{serve} --expect {}", expect(record))));
        let forged = files.iter().find(|(name, _)| *name == "keyring").map(|(_, bytes)| String::from_utf8_lossy(bytes));
        lines.extend(forged.and_then(|text| typed(&text)).map(|expect| format!("{serve} --expect {expect}")));
    }
    for line in &lines {
        refused(sandbox, name, line);
    }
    exchange(sandbox, "state", &before);
    lines.len()
}

#[test]
#[ignore = "campaign"]
fn no_forged_file_is_taken_in_the_place_of_a_genuine_one() {
    let ((sandbox, public), start) = (scene(), Instant::now());
    let all = catalogue::exchanges(&public);
    let distinct = count_distinct(all.iter().map(|exchange| &exchange.name));
    assert!(distinct == all.len() && distinct >= 50, "{distinct} of {}", all.len());
    let counts = in_parallel(&chosen(&all, 28), |part| {
        let sandbox = sandbox.twin();
        let before = Tree::of(&sandbox.path("state"));
        let ways: Vec<usize> = part.iter().map(|exchange| is_refused(&sandbox, &public, exchange)).collect();
        goes_on(&sandbox, &before);
        (ways.len(), ways.iter().sum::<usize>())
    });
    let (tried, ways) = counts.iter().fold((0, 0), |sum, count| (sum.0 + count.0, sum.1 + count.1));
    println!(
        "forgeries: {tried} of {distinct} exchanged files, {ways} commands in {:.0?}, all refused",
        start.elapsed()
    );
    assert!(tried > 0);
}

/// Checks that a running daemon goes on as before while the files are there.
fn is_not_followed(sandbox: &Sandbox, kms: &Kms, wrapped: &(String, Vec<u8>), Exchange { name, files, .. }: &Exchange) {
    let before = exchange(sandbox, "state", files);
    thread::sleep(LOOK);
    assert_eq!(kms.decrypt(&wrapped.0, &wrapped.1).as_deref(), Ok(&[7; 32][..]), "{name}");
    assert_eq!(kms.encrypt(&[8; 32]).0, wrapped.0, "{name}: another key wraps");
    let status = sandbox.run(&format!("status {STATE} --socket [DIR]/run/kms.sock --backups none"));
    let is_seen = REFUSED.contains(&status.code) || status.stdout.lines().any(|line| line.starts_with("! "));
    assert!(is_seen, "{name}: {status}");
    for (file, bytes) in files {
        assert_eq!(fs::read(sandbox.path("state").join(file)).unwrap(), *bytes, "{name}: {file} was written");
    }
    exchange(sandbox, "state", &before);
}

#[test]
#[ignore = "campaign"]
fn a_running_daemon_follows_no_forged_file() {
    let ((sandbox, public), start) = (scene(), Instant::now());
    let all = catalogue::exchanges(&public);
    let tried = in_parallel(&chosen(&all, 28), |part| {
        let sandbox = sandbox.twin();
        let _daemon = sandbox.serve(&format!("{STATE} --socket [DIR]/run/kms.sock"));
        let kms = Kms::connect(&sandbox.path("run/kms.sock"));
        let wrapped = kms.encrypt(&[7; 32]);
        let before = Tree::of(&sandbox.path("state"));
        for exchange in part {
            is_not_followed(&sandbox, &kms, &wrapped, exchange);
        }
        let status = || sandbox.run(&format!("status {STATE} --socket [DIR]/run/kms.sock --backups none"));
        let start = Instant::now();
        while status().code != 0 {
            assert!(start.elapsed() < Duration::from_secs(30), "{}", status());
            thread::sleep(LOOK);
        }
        assert_eq!(kms.decrypt(&wrapped.0, &wrapped.1).as_deref(), Ok(&[7; 32][..]));
        goes_on(&sandbox, &before);
        part.len()
    });
    let tried: usize = tried.iter().sum();
    println!(
        "forgeries: {tried} of {} exchanges under a running daemon in {:.0?}, none followed",
        all.len(),
        start.elapsed()
    );
    assert!(tried > 0);
}
