//! The audit log: one line of JSON for each event, which says what was done with keys.
//!
//! A line is written and synced before its event happens. It identifies keys by their key_id and contains nothing
//! secret. There are at most [`FILES`] files of [`FILE_MAX`] bytes; the oldest one is removed first. This program reads
//! them only to find out whether a keyring was ever finished in the directory.

use serde::{Deserialize, Serialize};

use crate::durable::{Dir, DurableError};

/// The name of the newest file. `audit.jsonl.1` is the file before it.
pub const FILE: &str = "audit.jsonl";

/// The greatest length of one file in bytes.
const FILE_MAX: u64 = 4 * 1024 * 1024;

/// The greatest number of files.
const FILES: usize = 4;

/// An event that changes or uses keys.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event<'a> {
    /// A new keyring is about to be set up.
    Init(KeyringEvent),
    /// A key is about to be made.
    Add(KeyEvent),
    /// A key is about to become primary. The previous primary key will only unwrap.
    Promote(KeyEvent),
    /// A key is about to become primary, and the keys before it are about to be marked as compromised.
    Supersede {
        /// The key that is promoted, and the generation of the change.
        #[serde(flatten)]
        key: KeyEvent,
        /// The greatest sequence number of the keys that are marked as compromised.
        compromised_up_to: u32,
    },
    /// A key is about to neither wrap nor unwrap.
    Disable(KeyEvent),
    /// A disabled key is about to unwrap again.
    Enable(KeyEvent),
    /// A key's bytes are about to be destroyed.
    Destroy(KeyEvent),
    /// A scan found no value under the key, and the ledger is about to note at which revisions.
    KeyUnused {
        /// The keyring whose ledger notes the revisions.
        #[serde(flatten)]
        keyring: KeyringEvent,
        /// The name of the unused key.
        key_id: String,
        /// The etcds that were scanned, with their revisions.
        etcds: Vec<UnusedIn>,
    },
    /// The root key is about to be sealed to a recovery recipient.
    RecoveryAdd(RecoveryEvent),
    /// A recovery recipient and its recovery blob are about to be removed.
    RecoveryRemove(RecoveryEvent),
    /// The root key is about to be sealed in one more slot.
    SlotAdd(SlotEvent),
    /// A slot is about to be removed.
    SlotRemove(SlotEvent),
    /// The keyring is about to be put under a new root key: one line before the root file changes, one before the
    /// record.
    Rekey {
        /// The uuid of the keyring, in hex.
        keyring: String,
        /// The generation of the keyring.
        generation: u64,
        /// The commitment of the new root key, which is public.
        root_id: String,
    },
    /// Keys and root keys were sealed into a backup, which is not written anywhere yet.
    Backup {
        /// The keyring, at the generation that the backup contains.
        #[serde(flatten)]
        keyring: KeyringEvent,
        /// The age recipients whose identities can open the backup; they are public.
        recipients: Vec<String>,
    },
    /// A backup was opened and read, and is about to be listed. Then the keys that it contains may be promoted.
    BackupCheck(BackupEvent),
    /// A backup was written to another disk and read back, and is about to be listed.
    BackupWritten(BackupEvent),
    /// A snapshot of etcd was read, and is about to be listed. Then the keys that it needs cannot be destroyed.
    SnapshotCheck(SnapshotEvent),
    /// A snapshot is about to leave the ledger.
    SnapshotForget(SnapshotEvent),
    /// A backup is about to leave the ledger.
    BackupForget(BackupEvent),
    /// All backups and snapshots are about to leave the ledger.
    BackupForgetAll(KeyringEvent),
    /// A backup is about to be restored here, or records are about to be merged.
    Restore(KeyringEvent),
    /// A command is about to decrypt objects for the user who ran it.
    Decrypt {
        /// The uuids of the keyrings whose keys are used.
        keyrings: Vec<String>,
        /// The sources of the objects: a file, or the addresses of etcd.
        from: Vec<String>,
        /// The chosen objects: their keys in etcd, prefixes of keys, resources, or `everything`.
        objects: Vec<String>,
        /// The destination of the objects: a path, or `standard output`.
        to: String,
    },
    /// The API server is about to rewrite encrypted objects in plaintext.
    ReencryptToPlaintext {
        /// The resources that are rewritten.
        resources: &'a [String],
        /// The address of the API server.
        api_server: &'a str,
    },
    /// A daemon opened the keyring, and is about to serve from it.
    Unseal {
        /// The uuid of the keyring, in hex.
        keyring: String,
        /// The generation of the keyring.
        generation: u64,
        /// The name of the primary key.
        key_id: &'a str,
        /// The slot that opened the root key.
        slot: &'a str,
    },
}

/// A change of one key.
#[derive(Debug, Serialize)]
pub struct KeyEvent {
    /// The uuid of the keyring, in hex.
    pub keyring: String,
    /// The generation that the change makes.
    pub generation: u64,
    /// The name of the key.
    pub key_id: String,
    /// Whether the operator skipped the proof: for a promotion, that a listed backup contains the key; otherwise, that
    /// nothing needs the key. `None` for a change that needs no proof.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unproven: Option<bool>,
    /// The keys in etcd of the objects that stay although this key is given up.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<String>,
}

/// A change of one recovery recipient.
#[derive(Debug, Serialize)]
pub struct RecoveryEvent {
    /// The uuid of the keyring, in hex.
    pub keyring: String,
    /// The generation that the change makes.
    pub generation: u64,
    /// The recipient, which is public.
    pub recipient: String,
}

/// A keyring at one generation.
#[derive(Debug, Serialize)]
pub struct KeyringEvent {
    /// The uuid of the keyring, in hex.
    pub keyring: String,
    /// The generation of the keyring.
    pub generation: u64,
}

/// A backup that is listed or removed from the ledger.
#[derive(Debug, Serialize)]
pub struct BackupEvent {
    /// The keyring, at the generation that the backup contains.
    #[serde(flatten)]
    pub keyring: KeyringEvent,
    /// The SHA-256 of the backup's record, in hex.
    pub record: String,
}

/// A snapshot of etcd that is listed or removed from the ledger.
#[derive(Debug, Serialize)]
pub struct SnapshotEvent {
    /// The keyring whose ledger lists the snapshot.
    #[serde(flatten)]
    pub keyring: KeyringEvent,
    /// The SHA-256 of the snapshot's bytes, in hex.
    pub snapshot: String,
}

/// An etcd in which no value needs a key.
#[derive(Debug, Serialize)]
pub struct UnusedIn {
    /// The number of the etcd cluster, or its addresses.
    pub etcd: String,
    /// The revision at which the etcd was scanned.
    pub revision: u64,
}

/// A slot that is added or removed.
#[derive(Debug, Serialize)]
pub struct SlotEvent {
    /// The uuid of the keyring, in hex.
    pub keyring: String,
    /// The name of the slot.
    pub slot: String,
    /// The kind of the slot, for example `file`.
    pub kind: &'static str,
}

#[derive(Serialize)]
struct Line<'a> {
    format: &'static str,
    time: String,
    pid: u32,
    uid: u32,
    #[serde(flatten)]
    event: &'a Event<'a>,
}

/// Writes `event` to the audit log in `dir`, and returns when it is on the disk.
///
/// # Errors
/// When it cannot be written, or not be synced.
pub fn write(dir: &Dir, event: &Event<'_>) -> Result<(), DurableError> {
    dir.append(FILE, &line(event), FILE_MAX, FILES)
}

/// Returns the line of `event`, with its LF.
pub fn line(event: &Event<'_>) -> Vec<u8> {
    let line = Line {
        format: "claviger/audit/v1",
        time: jiff::Timestamp::now().to_string(),
        pid: std::process::id(),
        uid: rustix::process::geteuid().as_raw(),
        event,
    };
    // Numbers and strings always serialise.
    let mut line = serde_json::to_vec(&line).unwrap_or_default();
    line.push(b'\n');
    line
}

/// Whether the log proves that a keyring was finished here. A line about a set-up or a restore proves nothing, because
/// it is written before that.
///
/// # Errors
/// When the log cannot be read.
pub fn names_a_keyring(dir: &Dir) -> Result<bool, DurableError> {
    #[derive(Deserialize)]
    struct EventName {
        event: String,
    }
    if dir.contains(&format!("{FILE}.1"))? {
        return Ok(true);
    }
    let text = match dir.read(FILE, usize::try_from(FILE_MAX).unwrap_or(usize::MAX)) {
        Ok(text) => text,
        Err(DurableError::Missing(_)) => return Ok(false),
        Err(error) => return Err(error),
    };
    // A line without an LF is incomplete, because a crash cut it off.
    let lines = text.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    let begins = |line: &[u8]| {
        serde_json::from_slice::<EventName>(line).is_ok_and(|line| matches!(line.event.as_str(), "init" | "restore"))
    };
    Ok(lines.into_iter().any(|line| !begins(line)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_events_of_a_finished_keyring_name_one() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open_or_create(temporary.path()).unwrap();
        let named = || names_a_keyring(&dir).unwrap();
        assert!(!named());
        let keyring = || KeyringEvent { keyring: "9013".to_owned(), generation: 3 };
        let restore = || Event::Restore(keyring());
        for begun in [Event::Init(keyring()), restore(), restore()] {
            write(&dir, &begun).unwrap();
        }
        let path = temporary.path().join(FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("{text}{{\"format\":\"clav")).unwrap();
        assert!(!named(), "a set-up, two restores, and what a crash has cut off");
        write(&dir, &restore()).unwrap();
        assert!(named(), "a line that nobody understands may have been anything");
        std::fs::write(&path, text).unwrap();
        write(&dir, &Event::Unseal { keyring: "9013".to_owned(), generation: 3, key_id: "k1", slot: "file" }).unwrap();
        assert!(named());
        std::fs::rename(&path, temporary.path().join("audit.jsonl.1")).unwrap();
        assert!(named());
    }

    #[test]
    fn a_line_says_what_when_and_who() {
        let temporary = tempfile::tempdir().unwrap();
        let dir = Dir::open_or_create(temporary.path()).unwrap();
        let event = Event::Unseal { keyring: "9013".to_owned(), generation: 3, key_id: "k1-aa", slot: "file" };
        write(&dir, &event).unwrap();
        write(&dir, &event).unwrap();
        let text = std::fs::read_to_string(temporary.path().join(FILE)).unwrap();
        assert_eq!(text.lines().count(), 2);
        let line: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(line["format"], "claviger/audit/v1");
        assert!(line["time"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
        assert_eq!(line["pid"], std::process::id());
        assert_eq!(line["event"], "unseal");
        assert_eq!((&line["keyring"], &line["generation"]), (&"9013".into(), &3.into()));
        assert_eq!((&line["key_id"], &line["slot"]), (&"k1-aa".into(), &"file".into()));
    }
}
