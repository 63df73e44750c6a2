//! Opens a state directory, a backup and a wrapped seed that were written once and are kept for ever, in
//! `tests/vectors/frozen/`. Every later version of claviger must open them. If both the encoder and the decoder change,
//! a test that writes and reads with the same code notices nothing, and this one does.
//!
//! To write the files of a new format: `CLAVIGER_WRITE_VECTORS=1 cargo test --test integration frozen`. Files of a
//! released format are never written again.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use super::{
    kms::Kms,
    output::identity,
    sandbox::{Answer, Sandbox},
};

const STATE: &str = "--state-dir [DIR]/state";
const SEED: [u8; 32] = *b"a seed that was wrapped long ago";
const PASSPHRASE: &str = "correct horse battery staple";

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/frozen")
}

/// Writes a keyring with everything that a format can express: each state of a key, a tomb, two kinds of slots, a
/// recovery recipient, an earlier root key, and a ledger with a backup.
fn write(sandbox: &Sandbox) {
    let run = |line: &str| sandbox.run(&format!("{line} {STATE}")).ends_with(0).stdout.clone();
    let recipient = identity(sandbox, "identity.txt");
    run(&format!("init --recovery-recipient {recipient} --recovery-identity [DIR]/identity.txt"));
    for number in 2..=4 {
        run("key add");
        run(&format!("key promote k{number} --without-backup"));
    }
    let full = |number: u32| key(sandbox, number)["key_id"].as_str().unwrap().to_owned();
    for number in [1, 2] {
        run(&format!("key disable {} --risk-unreadable-secrets", full(number)));
    }
    run(&format!("key destroy {} --risk-losing-secrets", full(1)));
    run("rekey");
    fs::write(sandbox.path("passphrase"), PASSPHRASE).unwrap();
    sandbox.chmod("passphrase", 0o600);
    let cheap = "--lanes 1 --memory 64 --passes 1";
    run(&format!("slot add passphrase --new-passphrase-file [DIR]/passphrase {cheap}"));
    run("key add");
    run("backup create [DIR]/backup.age");
    run("backup check [DIR]/backup.age --recovery-identity [DIR]/identity.txt");
    let (key_id, wrapped) = serve(sandbox, |kms| kms.encrypt(&SEED));
    fs::write(sandbox.path("wrapped"), format!("{key_id} {}\n", base16ct::lower::encode_string(&wrapped))).unwrap();
}

/// Serves the state directory, and returns the result of `ask`.
fn serve<T>(sandbox: &Sandbox, ask: impl FnOnce(&Kms) -> T) -> T {
    let mut daemon = sandbox.serve(&format!("{STATE} --socket [DIR]/run/kms.sock"));
    let answer = ask(&Kms::connect(&sandbox.path("run/kms.sock")));
    daemon.kill();
    answer
}

fn key(sandbox: &Sandbox, number: u32) -> serde_json::Value {
    let list = sandbox.run(&format!("key list {STATE} --output json")).json();
    let is_it = |key: &&serde_json::Value| key["key_id"].as_str().unwrap().starts_with(&format!("k{number}-"));
    list["keys"].as_array().unwrap().iter().find(is_it).cloned().unwrap()
}

/// Returns a copy of the vectors, with the permissions that claviger asks for.
fn thawed() -> Sandbox {
    let sandbox = Sandbox::new();
    sandbox.make_dir("state", 0o700);
    for (from, to) in [("state", "state"), (".", ".")] {
        for file in fs::read_dir(vectors().join(from)).unwrap().map(|entry| entry.unwrap().path()) {
            if file.is_file() {
                let name = format!("{to}/{}", file.file_name().unwrap().to_string_lossy());
                fs::copy(&file, sandbox.path(&name)).unwrap();
                sandbox.chmod(&name, 0o600);
            }
        }
    }
    sandbox
}

/// Copies the files that [`write`] made into the repository.
fn freeze(sandbox: &Sandbox) {
    let to = vectors();
    fs::create_dir_all(to.join("state")).unwrap();
    for name in ["identity.txt", "passphrase", "backup.age", "wrapped"] {
        fs::copy(sandbox.path(name), to.join(name)).unwrap();
    }
    for name in ["root", "keyring", "mark", "ledger", "slot-file.key"] {
        fs::copy(sandbox.path("state").join(name), to.join("state").join(name)).unwrap();
    }
}

#[test]
fn files_that_were_written_long_ago_open_and_say_the_same() {
    if env::var_os("CLAVIGER_WRITE_VECTORS").is_some() {
        let sandbox = Sandbox::new();
        write(&sandbox);
        freeze(&sandbox);
    }
    let sandbox = thawed();
    let run = |line: &str| -> Answer { sandbox.run(&format!("{line} {STATE}")) };
    let states: Vec<String> =
        (1..=5).map(|number| key(&sandbox, number)["state"].as_str().unwrap().to_owned()).collect();
    assert_eq!(states, ["destroyed", "disabled", "decrypt-only", "primary", "pending"]);
    let slots = run("slot test --passphrase-file [DIR]/passphrase");
    slots.ends_with(0);
    assert_eq!(slots.stdout.matches("yes").count(), 2, "{slots}");
    run("recovery test --recovery-identity [DIR]/identity.txt").ends_with(0);
    run("backup check [DIR]/backup.age --recovery-identity [DIR]/identity.txt").ends_with(0);
    let listed = run("backup list --output json").json();
    assert_eq!(listed["backups"].as_array().unwrap().len(), 1, "{listed}");

    let text = fs::read_to_string(sandbox.path("wrapped")).unwrap();
    let (key_id, wrapped) = text.trim().split_once(' ').unwrap();
    let wrapped = base16ct::lower::decode_vec(wrapped).unwrap();
    assert_eq!(serve(&sandbox, |kms| kms.decrypt(key_id, &wrapped)).unwrap(), SEED);
}

#[test]
fn a_backup_that_was_made_long_ago_can_be_restored() {
    let sandbox = thawed();
    let expect = sandbox.run(&format!("status {STATE} --output json")).json()["keyring"]["expect"].clone();
    fs::rename(sandbox.path("state"), sandbox.path("lost")).unwrap();
    let line = format!(
        "backup restore [DIR]/backup.age --recovery-identity [DIR]/identity.txt --expect {} {STATE}",
        expect.as_str().unwrap()
    );
    sandbox.run(&line).ends_with(0);
    let text = fs::read_to_string(sandbox.path("wrapped")).unwrap();
    let (key_id, wrapped) = text.trim().split_once(' ').unwrap();
    let wrapped = base16ct::lower::decode_vec(wrapped).unwrap();
    assert_eq!(serve(&sandbox, |kms| kms.decrypt(key_id, &wrapped)).unwrap(), SEED);
}
