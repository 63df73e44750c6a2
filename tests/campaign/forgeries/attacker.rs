//! An attacker who knows the public data of a keyring, and makes files for it under their own keys.
//!
//! Public data are: the uuid, generations and SHA-256s (lines for `--expect`), key_ids and commitments, the root-id, a
//! recovery recipient, and the files themselves, whose secrets are sealed. The code is written from `docs/formats.md`
//! alone, and uses none of the project's code.

use std::io::Write;

use base64ct::{Base64, Encoding};
use rand::{TryRng, rngs::SysRng};
use ring::{digest, hmac};
use xaes_256_gcm::{
    Xaes256Gcm,
    aead::{Aead, KeyInit, Payload},
};

use crate::cli::forge::{hkdf, lp, value};

const TIME: &str = "2026-11-23T20:14:48Z";

/// The public data of the keyring in a state directory.
#[derive(Debug, Clone)]
pub(super) struct Public {
    pub(super) record: String,
    pub(super) older: String,
    pub(super) root: String,
    pub(super) mark: String,
    pub(super) ledger: String,
    pub(super) recipient: String,
}

impl Public {
    pub(super) fn uuid_hex(&self) -> &str {
        value(&self.record, "uuid ")
    }

    pub(super) fn uuid(&self) -> Vec<u8> {
        base16ct::lower::decode_vec(self.uuid_hex()).unwrap()
    }

    pub(super) fn root_id(&self) -> &str {
        value(&self.record, "root-id ")
    }

    pub(super) fn generation(&self) -> u64 {
        value(&self.record, "generation ").parse().unwrap()
    }

    pub(super) fn past(&self) -> (u64, [u8; 32]) {
        (self.generation(), sha256(self.record.as_bytes()))
    }

    /// Returns the number and the commitment, in base64, of each key and tomb.
    pub(super) fn keys(&self) -> Vec<(u32, String)> {
        let entry = |line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..2] {
                ["->", "key"] => Some((words[2].parse().unwrap(), words[4].to_owned())),
                ["->", "tomb"] => Some((words[2].parse().unwrap(), words[3].to_owned())),
                _ => None,
            }
        };
        self.record.lines().filter(|line| line.starts_with("-> ")).filter_map(entry).collect()
    }
}

/// Returns the line that identifies `record` for `--expect`.
pub(super) fn expect(record: &str) -> String {
    let hash = base16ct::lower::encode_string(&sha256(record.as_bytes()));
    format!("{}:{}:{hash}", value(record, "uuid "), value(record, "generation "))
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().unwrap()
}

pub(super) fn chance<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    SysRng.try_fill_bytes(&mut bytes).unwrap();
    bytes
}

fn base64(bytes: &[u8]) -> String {
    Base64::encode_string(bytes)
}

/// Returns `nonce24 | ciphertext | tag16` of XAES-256-GCM, in base64.
fn seal(key: &[u8], message: &[u8], aad: &[u8]) -> String {
    let nonce: [u8; 24] = chance();
    let cipher = Xaes256Gcm::new_from_slice(key).unwrap();
    let body = cipher.encrypt((&nonce[..]).try_into().unwrap(), Payload { msg: message, aad }).unwrap();
    base64(&[&nonce[..], &body].concat())
}

/// A key of a record, or a tomb.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) seq: u32,
    pub(super) commitment: Vec<u8>,
    /// The state. `None` for a tomb.
    pub(super) state: Option<&'static str>,
    pub(super) compromised: bool,
    kek: [u8; 32],
}

impl Entry {
    pub(super) fn id(&self) -> String {
        format!("k{}-{}", self.seq, base16ct::lower::encode_string(&self.commitment[..16]))
    }
}

/// A record that the attacker is making, with the attacker's root key.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    pub(super) public: Public,
    pub(super) root_key: [u8; 32],
    pub(super) generation: u64,
    pub(super) home: &'static str,
    pub(super) pasts: Vec<(u64, [u8; 32])>,
    /// Lines about a merge and nodes.
    pub(super) kin: Vec<String>,
    pub(super) entries: Vec<Entry>,
    /// The other root keys in the list.
    pub(super) earlier: Vec<[u8; 32]>,
}

impl Draft {
    /// Returns the record that would follow the genuine one, with a tomb for each of its keys and a primary key of the
    /// attacker's.
    pub(super) fn next(public: &Public) -> Self {
        let mut draft = Self {
            public: public.clone(),
            root_key: chance(),
            generation: public.generation() + 1,
            home: "file",
            pasts: vec![public.past()],
            kin: Vec::new(),
            entries: Vec::new(),
            earlier: Vec::new(),
        };
        for (seq, commitment) in public.keys() {
            draft.entries.push(Entry {
                seq,
                commitment: Base64::decode_vec(&commitment).unwrap(),
                state: None,
                compromised: false,
                kek: [0; 32],
            });
        }
        let seq = draft.entries.iter().map(|entry| entry.seq).max().unwrap() + 1;
        draft.key(seq, "primary");
        draft
    }

    /// Adds a key, and returns it.
    pub(super) fn key(&mut self, seq: u32, state: &'static str) -> &mut Entry {
        let kek: [u8; 32] = chance();
        let commitment = hkdf(&kek, &self.public.uuid(), "claviger/v1/kek-commit").to_vec();
        self.entries.push(Entry { seq, commitment, state: Some(state), compromised: false, kek });
        self.entries.last_mut().unwrap()
    }

    pub(super) fn root_id(&self) -> Vec<u8> {
        hkdf(&self.root_key, &self.public.uuid(), "claviger/v1/root-id").to_vec()
    }

    fn sorted(&self) -> Vec<&Entry> {
        let mut entries: Vec<&Entry> = self.entries.iter().collect();
        entries.sort_by(|a, b| (a.seq, &a.commitment).cmp(&(b.seq, &b.commitment)));
        entries
    }

    /// Returns the record without its last line.
    pub(super) fn lines(&self) -> String {
        let (uuid, root_id) = (self.public.uuid(), self.root_id());
        let blob = format!(
            "claviger/recovery/v1\n{}\n{}\n{}\n",
            self.public.uuid_hex(),
            base64(&root_id),
            base64(&self.root_key)
        );
        let mut lines = vec![
            "claviger/keyring/v1".to_owned(),
            format!("uuid {}", self.public.uuid_hex()),
            format!("generation {}", self.generation),
            format!("home {}", self.home),
            format!("root-id {}", base64(&root_id)),
        ];
        lines.extend(self.pasts.iter().map(|(generation, hash)| format!("-> past {generation} {}", base64(hash))));
        lines.extend(self.kin.iter().cloned());
        lines.push(format!("-> recovery {}", self.public.recipient));
        lines.push(base64(&age(&self.public.recipient, blob.as_bytes())));
        let kek_wrap = hkdf(&self.root_key, &uuid, "claviger/v1/kek-wrap");
        for entry in self.sorted() {
            let Entry { seq, commitment, state, compromised, kek } = entry;
            let c = base64(commitment);
            let Some(state) = state else {
                lines.push(format!("-> tomb {seq} {c} destroyed={}", self.generation));
                continue;
            };
            let compromised = if *compromised { " compromised" } else { "" };
            let promoted = if *state == "pending" { String::new() } else { format!(" promoted={TIME}") };
            lines.push(format!("-> key {seq} {state} {c}{compromised} created={TIME}{promoted}"));
            let aad = lp(&[b"claviger/v1/kek", &uuid, &seq.to_be_bytes(), commitment, &root_id]);
            lines.push(seal(&kek_wrap, kek, &aad));
        }
        lines.join("\n") + "\n"
    }

    /// Returns `text` with its last line, under the attacker's root key.
    pub(super) fn sign(&self, text: &str, label: &str) -> String {
        let key = hkdf(&self.root_key, &self.public.uuid(), label);
        let message = format!("{text}---");
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), message.as_bytes());
        format!("{message} {}\n", base64(tag.as_ref()))
    }

    /// Returns the record.
    pub(super) fn record(&self) -> String {
        self.sign(&self.lines(), "claviger/v1/keyring-mac")
    }

    /// Returns the record with other lines, authentic under the attacker's root key.
    pub(super) fn edited(&self, edit: impl FnOnce(String) -> String) -> String {
        self.sign(&edit(self.lines()), "claviger/v1/keyring-mac")
    }

    /// Returns the members of a backup with this record.
    pub(super) fn members(&self, record: &str) -> [(&'static str, String); 3] {
        let uuid = self.public.uuid_hex();
        let (hash, root_id) = (sha256(record.as_bytes()), self.root_id());
        let hex = |bytes: &[u8]| base16ct::lower::encode_string(bytes);
        let mut manifest = vec![
            "claviger/backup/v1".to_owned(),
            format!("uuid {uuid}"),
            format!("generation {}", self.generation),
            format!("record {}", hex(&hash)),
            format!("root-id {}", hex(&root_id)),
            format!("created {TIME}"),
        ];
        manifest.extend(self.sorted().iter().map(|entry| match entry.state {
            Some(state) => format!("key {} {state}", entry.id()),
            None => format!("tomb {}", entry.id()),
        }));
        manifest.push(
            "\n`keyring` is the keyring's record, `root-keys` what opens it. To restore both: claviger backup restore\n"
                .to_owned(),
        );
        let roots = [self.root_key].into_iter().chain(self.earlier.iter().copied());
        let roots: String = roots.map(|root| base64(&root) + "\n").collect();
        [
            ("MANIFEST", manifest.join("\n")),
            ("keyring", record.to_owned()),
            ("root-keys", format!("claviger/root-keys/v1\nuuid {uuid}\n{roots}")),
        ]
    }

    /// Returns a backup with this record, for the genuine recipient.
    pub(super) fn backup(&self, record: &str) -> Vec<u8> {
        age(&self.public.recipient, &tar(&self.members(record)))
    }

    /// Returns a root file with a slot that the key file opens, and more lines; and that key file.
    pub(super) fn root_file(&self, root_id: Option<&str>, old: &[String]) -> (String, Vec<u8>) {
        let (uuid, own, secret, salt) = (self.public.uuid(), self.root_id(), chance::<32>(), chance::<16>());
        let slot = format!("-> slot file file salt={}", base16ct::lower::encode_string(&salt));
        let aad = lp(&[b"claviger/v1/slot", &uuid, &own, slot.as_bytes()]);
        let body = seal(&hkdf(&secret, &salt, "claviger/v1/slot"), &self.root_key, &aad);
        let named = root_id.map_or_else(|| base64(&own), ToOwned::to_owned);
        let old: String = old.iter().map(|line| format!("{line}\n")).collect();
        let uuid = self.public.uuid_hex();
        let text = format!("claviger/root/v1\nuuid {uuid}\nroot-id {named}\n{slot}\n{body}\n{old}");
        (self.sign(&text, "claviger/v1/root-mac"), secret.to_vec())
    }

    /// Returns an `-> old` line for the genuine root key. The attacker does not have that key, so the line contains
    /// other bytes.
    pub(super) fn old_root(&self) -> String {
        let genuine = Base64::decode_vec(self.public.root_id()).unwrap();
        let aad = lp(&[b"claviger/v1/old-root", &self.public.uuid(), &genuine, &self.root_id()]);
        let key = hkdf(&self.root_key, &self.public.uuid(), "claviger/v1/root-wrap");
        format!("-> old {}\n{}", self.public.root_id(), seal(&key, &chance::<32>(), &aad))
    }

    /// Returns a mark of the record.
    pub(super) fn mark(&self, record: &str, root_id: Option<&str>, ledger: u64) -> String {
        let has: String = self.sorted().iter().map(|entry| format!("-> has {}\n", entry.id())).collect();
        let named = root_id.map_or_else(|| base64(&self.root_id()), ToOwned::to_owned);
        let (uuid, generation, home) = (self.public.uuid_hex(), self.generation, self.home);
        let record = base64(&sha256(record.as_bytes()));
        let text = format!(
            "claviger/mark/v1\nuuid {uuid}\nroot-id {named}\ngeneration {generation}\nhome {home}\nrecord {record}\nledger {ledger}\n{has}"
        );
        self.sign(&text, "claviger/v1/state-mac")
    }

    /// Returns a ledger that says that a backup holds every genuine key.
    pub(super) fn ledger(&self, root_id: Option<&str>, count: u64) -> String {
        let named = root_id.map_or_else(|| base64(&self.root_id()), ToOwned::to_owned);
        let keys: Vec<String> = self.sorted().iter().map(|entry| entry.id()).collect();
        let (uuid, hash) = (self.public.uuid_hex(), base64(&sha256(self.public.record.as_bytes())));
        let text = format!(
            "claviger/ledger/v1\nuuid {uuid}\nroot-id {named}\ncount {count}\n-> backup {hash} generation={} checked={TIME}\n{}\n",
            self.public.generation(),
            keys.join(" ")
        );
        self.sign(&text, "claviger/v1/state-mac")
    }
}

/// Returns an age file of `message` for `recipient`.
pub(super) fn age(recipient: &str, message: &[u8]) -> Vec<u8> {
    let recipient: age::x25519::Recipient = recipient.parse().unwrap();
    let recipients = [&recipient as &dyn age::Recipient];
    let mut sealed = Vec::new();
    let mut writer = age::Encryptor::with_recipients(recipients.into_iter()).unwrap().wrap_output(&mut sealed).unwrap();
    writer.write_all(message).unwrap();
    writer.finish().unwrap();
    sealed
}

/// Returns a tar of these files.
pub(super) fn tar(members: &[(&str, String)]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (name, content) in members {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(1_764_187_200);
        tar.append_data(&mut header, name, content.as_bytes()).unwrap();
    }
    tar.into_inner().unwrap()
}
