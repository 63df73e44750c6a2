//! A backup: the record and the root keys in an age file, for recipients whose identities are kept offline.
//!
//! The plaintext is a tar of three files. `MANIFEST` explains the backup to people who open it with stock `age` and
//! `tar`. `keyring` is the record as it was. `root-keys` has the root keys, the current one first. Slots are not in a
//! backup. Anybody who knows a recipient can make a file that opens; only the SHA-256 of the record shows that a backup
//! is the right one. Source: `docs/formats.md`, "backup"; <https://age-encryption.org/v1>.

use std::io::{self, Read};

use zeroize::Zeroizing;

use crate::{
    crypto::{
        Digest, Uuid,
        root_key::{RootKey, RootKeys},
    },
    keyring::{
        Entry, Keyring,
        record::{self, RECORD_MAX, RecordError, RecordRecoveries},
        time::Time,
    },
    memory::{Secret, SecretError},
    text::{TextError, base64, base64_array, uuid},
};

use super::{
    identity::{Identities, Recipient, SealError, Unopened, seal_to},
    recovery::{self, OpenRecoveryError},
};

/// The greatest length of a backup in bytes.
pub const BACKUP_MAX: usize = 2 * 1024 * 1024;

const HEAD: &str = "claviger/backup/v1";
const KEYS_HEAD: &str = "claviger/root-keys/v1";
const MEMBERS: [&str; 3] = ["MANIFEST", "keyring", "root-keys"];

/// The contents of a backup, opened and checked.
#[derive(Debug)]
pub struct Backup {
    /// The keyring that the record contains.
    pub keyring: Keyring,
    /// The bytes of the record.
    pub record: Zeroizing<Vec<u8>>,
    /// The root key that the record is under.
    pub root: RootKey,
    /// The root keys from before each rekey, which older backups need.
    pub earlier: Vec<RootKey>,
    /// The time when the backup was made. `None` for a bare record that its own recovery blob opened.
    pub created: Option<Time>,
}

/// Why a backup does not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenBackupError {
    /// The file is neither an age file nor a record.
    #[error("neither a backup, which is an age file, nor a keyring")]
    Foreign,
    /// None of the given identities opens the backup.
    #[error("no given identity opens it")]
    NoIdentity,
    /// The age file was changed, or its end is missing.
    #[error("is damaged")]
    Damaged,
    /// The age file opened, and does not contain a backup.
    #[error("does not have the contents of a backup: {0}")]
    Contents(#[from] ContentsFault),
    /// The record in the backup was refused.
    #[error("its keyring {0}")]
    Record(#[from] RecordError),
    /// The file is a bare record that has no recovery blob.
    #[error("is a keyring without recovery blobs, so no identity opens it")]
    NoBlobs,
    /// The file is a bare record, and none of the given identities opens one of its recovery blobs.
    #[error("none of the recovery blobs in this keyring opens with a given identity")]
    NoRecovery,
    /// The file is a bare record, and one of its recovery blobs does not contain the root key.
    #[error(transparent)]
    Recovery(#[from] OpenRecoveryError),
    /// No memory could be locked for a key.
    #[error(transparent)]
    Memory(#[from] SecretError),
}

/// Why a backup was not made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SealBackupError {
    /// The tar of its contents could not be written.
    #[error("writing the contents of a backup: {0}")]
    Tar(#[from] io::Error),
    /// age could not write the file.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// A fault in the contents of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentsFault {
    /// The tar lacks a member, or has another member.
    #[error("it is not a tar of MANIFEST, keyring and root-keys")]
    Members,
    /// The file `root-keys` cannot be parsed.
    #[error("its root keys cannot be read")]
    RootKeys,
    /// The file `MANIFEST` does not say when the backup was made.
    #[error("its MANIFEST has no time")]
    NoTime,
    /// The file `MANIFEST` describes another record.
    #[error("its MANIFEST belongs to another keyring")]
    OtherManifest,
}

impl From<TextError> for OpenBackupError {
    fn from(error: TextError) -> Self {
        Self::Record(error.into())
    }
}

impl Backup {
    /// Returns the SHA-256 of the record.
    pub fn digest(&self) -> Digest {
        Digest::of(&self.record)
    }

    /// Makes sure that `bytes` begin as a backup or a bare record does, which needs no identity.
    ///
    /// # Errors
    /// When they are something else.
    pub fn check_form(bytes: &[u8]) -> Result<(), OpenBackupError> {
        let is_known = bytes.starts_with(RECORD_START) || bytes.starts_with(AGE_START);
        if is_known { Ok(()) } else { Err(OpenBackupError::Foreign) }
    }

    /// Opens a backup, or a bare record that has a recovery blob for one of `identities`.
    ///
    /// # Errors
    /// When it is neither, no identity opens it, or its contents are wrong.
    pub fn open(bytes: &[u8], identities: &Identities) -> Result<Self, OpenBackupError> {
        Self::check_form(bytes)?;
        if bytes.starts_with(RECORD_START) { of_record(bytes, identities) } else { of_age(bytes, identities) }
    }

    /// Reads the tar in the age file of a backup.
    ///
    /// # Errors
    /// When its contents are not those of a backup.
    pub fn of_tar(tar: &[u8]) -> Result<Self, OpenBackupError> {
        let [found_manifest, record, keys] = untar(tar)?;
        let (uuid, mut roots) = read_root_keys(&keys)?;
        let root = roots.remove(0);
        let keyring = record::decode(&record, &root, uuid)?;
        let text = std::str::from_utf8(&found_manifest).ok();
        let created =
            text.and_then(|text| text.lines().find_map(|line| line.strip_prefix("created "))).and_then(Time::parse);
        let created = created.ok_or(ContentsFault::NoTime)?;
        if manifest(&keyring, Digest::of(&record), created).as_bytes() != &**found_manifest {
            return Err(ContentsFault::OtherManifest.into());
        }
        Ok(Self { keyring, record, root, earlier: roots, created: Some(created) })
    }
}

/// Makes the age file of a backup for all of `recipients`. `record` is the record of `keyring` under the current root
/// key.
///
/// # Errors
/// When age cannot write.
pub fn seal(
    keyring: &Keyring,
    record: &[u8],
    roots: RootKeys<'_>,
    recipients: &[Recipient],
    now: Time,
) -> Result<Vec<u8>, SealBackupError> {
    Ok(seal_to(recipients, &plaintext(keyring, record, roots, now)?)?)
}

/// Makes the tar in the age file.
///
/// # Errors
/// When it cannot be written.
pub fn plaintext(
    keyring: &Keyring,
    record: &[u8],
    roots: RootKeys<'_>,
    now: Time,
) -> Result<Zeroizing<Vec<u8>>, SealBackupError> {
    let manifest = manifest(keyring, Digest::of(record), now);
    let keys = root_keys(keyring.uuid(), roots.current, roots.earlier);
    tar([manifest.as_bytes(), record, keys.as_bytes()], now).map_err(Into::into)
}

/// How a bare record begins.
const RECORD_START: &[u8] = b"claviger/keyring/";

/// How an age file begins.
const AGE_START: &[u8] = b"age-encryption.org/";

fn of_age(bytes: &[u8], identities: &Identities) -> Result<Backup, OpenBackupError> {
    let tar = identities.open(bytes, BACKUP_MAX).map_err(|error| match error {
        Unopened::NoIdentity => OpenBackupError::NoIdentity,
        Unopened::Damaged => OpenBackupError::Damaged,
    })?;
    Backup::of_tar(&tar)
}

fn of_record(bytes: &[u8], identities: &Identities) -> Result<Backup, OpenBackupError> {
    let recoveries = record::recoveries(bytes)?;
    let root = open_recovery(&recoveries, identities)?;
    let keyring = record::decode(bytes, &root, recoveries.uuid)?;
    Ok(Backup { keyring, record: Zeroizing::new(bytes.to_vec()), root, earlier: Vec::new(), created: None })
}

/// Returns the root key in the first recovery blob that opens. If no blob opens, the error says whether a blob for one
/// of the identities is damaged.
fn open_recovery(recoveries: &RecordRecoveries, identities: &Identities) -> Result<RootKey, OpenBackupError> {
    if recoveries.blobs.is_empty() {
        return Err(OpenBackupError::NoBlobs);
    }
    let mut refused = OpenBackupError::NoRecovery;
    for blob in &recoveries.blobs {
        match recovery::open(blob, identities, recoveries.uuid, recoveries.root_id) {
            Ok(root) => return Ok(root),
            Err(OpenRecoveryError::NoIdentity(_)) => {}
            Err(error) => refused = error.into(),
        }
    }
    Err(refused)
}

/// Returns the text of `MANIFEST`, for people. Reading a backup makes this text again and compares it.
fn manifest(keyring: &Keyring, record: Digest, created: Time) -> String {
    let mut lines = vec![
        HEAD.to_owned(),
        format!("uuid {}", keyring.uuid().to_hex()),
        format!("generation {}", keyring.generation()),
        format!("record {}", record.to_hex()),
        format!("root-id {}", keyring.root_id().to_hex()),
        format!("created {created}"),
    ];
    lines.extend(keyring.entries().iter().map(|entry| match entry {
        Entry::Key(key) => format!("key {} {}", key.id(), key.state().as_str()),
        Entry::Tomb(_) => format!("tomb {}", entry.id()),
    }));
    lines.push(String::new());
    lines.push(
        "`keyring` is the keyring's record, `root-keys` what opens it. To restore both: claviger backup restore"
            .to_owned(),
    );
    lines.join("\n") + "\n"
}

fn root_keys(uuid: Uuid, root: &RootKey, earlier: &[RootKey]) -> Zeroizing<String> {
    // Reserves room for the whole text at once: a string that grows leaves copies of the keys in memory.
    let mut text = Zeroizing::new(String::with_capacity(256 + 64 * (1 + earlier.len())));
    for line in [KEYS_HEAD, "\nuuid ", &uuid.to_hex(), "\n"] {
        text.push_str(line);
    }
    for root in [root].into_iter().chain(earlier) {
        text.push_str(&Zeroizing::new(base64(root.secret().expose())));
        text.push('\n');
    }
    text
}

/// Reads the uuid of the keyring and at least one root key.
fn read_root_keys(text: &[u8]) -> Result<(Uuid, Vec<RootKey>), OpenBackupError> {
    const WRONG: OpenBackupError = OpenBackupError::Contents(ContentsFault::RootKeys);
    let text = std::str::from_utf8(text).ok().and_then(|text| text.strip_suffix('\n')).ok_or(WRONG)?;
    let mut lines = text.split('\n');
    if lines.next() != Some(KEYS_HEAD) {
        return Err(WRONG);
    }
    let uuid = lines.next().and_then(|line| line.strip_prefix("uuid ")).and_then(uuid).ok_or(WRONG)?;
    let mut roots = Vec::new();
    for line in lines {
        let bytes = Zeroizing::new(base64_array::<32>(line).ok_or(WRONG)?);
        let mut secret = Secret::zeroed()?;
        secret.expose_mut().copy_from_slice(&*bytes);
        roots.push(RootKey::from_secret(secret));
    }
    if roots.is_empty() { Err(WRONG) } else { Ok((uuid, roots)) }
}

fn tar(contents: [&[u8]; 3], now: Time) -> io::Result<Zeroizing<Vec<u8>>> {
    // Reserves room for the whole tar at once: a vector that grows leaves copies of the keys in memory.
    let length: usize = contents.iter().map(|content| content.len()).sum();
    let mut tar = tar::Builder::new(Vec::with_capacity(length + 16 * 1024));
    for (name, content) in MEMBERS.into_iter().zip(contents) {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(now.seconds());
        tar.append_data(&mut header, name, content)?;
    }
    tar.into_inner().map(Zeroizing::new)
}

/// Returns the contents of the three members. The tar must have exactly these members, in this order.
fn untar(bytes: &[u8]) -> Result<[Zeroizing<Vec<u8>>; 3], OpenBackupError> {
    const WRONG: OpenBackupError = OpenBackupError::Contents(ContentsFault::Members);
    let mut tar = tar::Archive::new(bytes);
    let mut members = tar.entries().map_err(|_| WRONG)?;
    let mut contents = Vec::new();
    for name in MEMBERS {
        let member = members.next().and_then(Result::ok).ok_or(WRONG)?;
        let is_it = member.header().entry_type().is_file() && *member.path_bytes() == *name.as_bytes();
        if !is_it {
            return Err(WRONG);
        }
        let length = usize::try_from(member.size()).unwrap_or(usize::MAX).min(RECORD_MAX) + 1;
        let mut content = Zeroizing::new(Vec::with_capacity(length));
        member.take(length as u64).read_to_end(&mut content).map_err(|_| WRONG)?;
        contents.push(content);
    }
    if members.next().is_some() {
        return Err(WRONG);
    }
    <[_; 3]>::try_from(contents).map_err(|_| WRONG)
}

#[cfg(test)]
mod tests {
    use rand::rngs::SysRng;

    use super::*;
    use crate::{
        escrow::testing::identity,
        keyring::testing::{keyring, now, with_key, with_tomb},
    };

    const UUID: Uuid = Uuid([6; 16]);

    struct Fixture {
        keyring: Keyring,
        record: Vec<u8>,
        root: RootKey,
        earlier: [RootKey; 2],
    }

    fn fixture() -> Fixture {
        let [root, first, second] = [(); 3].map(|()| RootKey::generate(&mut SysRng).unwrap());
        let keyring = with_key(keyring(&root, UUID), &root, crate::keyring::state::State::DecryptOnly);
        let keyring = with_tomb(keyring, 7);
        let record = record::encode(&keyring, &root).unwrap();
        Fixture { keyring, record, root, earlier: [first, second] }
    }

    fn sealed(Fixture { keyring, record, root, earlier }: &Fixture, recipients: &[Recipient]) -> Vec<u8> {
        seal(keyring, record, RootKeys { current: root, earlier }, recipients, now()).unwrap()
    }

    #[test]
    fn every_recipient_gets_all_of_it_back() {
        let (fixture, ours, others) = (fixture(), identity(), identity());
        let bytes = sealed(&fixture, &[ours.0, others.0]);
        for identities in [ours.1, others.1] {
            let backup = Backup::open(&bytes, &identities).unwrap();
            assert_eq!(*backup.record, fixture.record);
            assert_eq!(backup.root.secret().expose(), fixture.root.secret().expose());
            let earlier: Vec<_> = backup.earlier.iter().map(|root| root.id(UUID)).collect();
            assert_eq!(earlier, fixture.earlier.each_ref().map(|root| root.id(UUID)));
            assert_eq!((backup.created, backup.digest()), (Some(now()), Digest::of(&fixture.record)));
        }
        assert!(matches!(Backup::open(&bytes, &identity().1), Err(OpenBackupError::NoIdentity)));
    }

    #[test]
    fn a_backup_that_was_changed_never_opens() {
        let (fixture, ours) = (fixture(), identity());
        let bytes = sealed(&fixture, &[ours.0]);
        for index in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[index] ^= 1;
            assert!(Backup::open(&changed, &ours.1).is_err(), "byte {index}");
        }
        for length in (0..bytes.len()).step_by(7) {
            assert!(Backup::open(&bytes[..length], &ours.1).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn what_is_sealed_as_a_backup_and_is_none_is_refused() {
        let (fixture, ours) = (fixture(), identity());
        let Fixture { keyring, record, root, earlier } = &fixture;
        let good = [
            manifest(keyring, Digest::of(record), now()).into_bytes(),
            record.clone(),
            root_keys(UUID, root, earlier).as_bytes().to_vec(),
        ];
        let open = |contents: &[Vec<u8>; 3]| {
            let tar = tar(contents.each_ref().map(Vec::as_slice), now()).unwrap();
            Backup::open(&seal_to(std::slice::from_ref(&ours.0), &tar).unwrap(), &ours.1)
        };
        open(&good).unwrap();
        for (member, from, to, error) in [
            (
                0,
                "generation 1",
                "generation 2",
                "does not have the contents of a backup: its MANIFEST belongs to another keyring",
            ),
            (0, "primary", "pending", "its MANIFEST belongs to another keyring"),
            (0, "created", "made", "its MANIFEST has no time"),
            (1, "generation 1", "generation 2", "failed authentication"),
            (2, "root-keys/v1", "root-keys/v2", "its root keys cannot be read"),
            (2, "uuid 06", "uuid 07", "belongs to keyring"),
            (2, "=\n", "\n", "its root keys cannot be read"),
        ] {
            let mut contents = good.clone();
            let text = String::from_utf8(contents[member].clone()).unwrap();
            assert!(text.contains(from), "{from}");
            contents[member] = text.replacen(from, to, 1).into_bytes();
            let found = open(&contents).unwrap_err().to_string();
            assert!(found.contains(error), "{from} to {to}: {found}");
        }
        for bytes in [&b"no tar"[..], &[0; 2048], b""] {
            let bytes = seal_to(std::slice::from_ref(&ours.0), bytes).unwrap();
            let refused = Backup::open(&bytes, &ours.1).unwrap_err().to_string();
            assert!(refused.ends_with("it is not a tar of MANIFEST, keyring and root-keys"), "{refused}");
        }
        assert!(matches!(Backup::open(b"PK\x03\x04", &ours.1), Err(OpenBackupError::Foreign)));
    }

    #[test]
    fn a_record_with_a_blob_for_the_identity_is_enough() {
        let (fixture, (recipient, identities)) = (fixture(), identity());
        let recovery = recovery::seal(&recipient, UUID, &fixture.root).unwrap();
        let with = fixture.keyring.add_recovery(recovery, Digest::of(&fixture.record)).unwrap();
        let record = record::encode(&with, &fixture.root).unwrap();
        let backup = Backup::open(&record, &identities).unwrap();
        assert_eq!((*backup.record).as_slice(), record);
        let refused = Backup::open(&record, &identity().1).err().unwrap();
        let expected = "none of the recovery blobs in this keyring opens with a given identity";
        assert_eq!(refused.to_string(), expected);
        let without = Backup::open(&fixture.record, &identities).err().unwrap();
        assert_eq!(without.to_string(), "is a keyring without recovery blobs, so no identity opens it");
        assert!(matches!(Backup::open(&record[..record.len() - 9], &identities), Err(OpenBackupError::Record(_))));
    }
}
