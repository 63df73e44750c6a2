//! Sets a directory that holds no keyring up with the keyring of a backup.
//!
//! Anyone who knows a recipient can make a backup. So the operator names the record, or the caller says which keys etcd needs: the
//! backup must hold all of them, and there must be at least one. Source: `docs/formats.md`, "Restoring".

use std::path::PathBuf;

use rand::rngs::SysRng;

use super::{
    commit::{Export, Limit, NewRecord, keyring_event},
    expect::{Expect, ExpectError},
    fresh::FreshBackup,
    init::{Contents, Files, InitError, Initialised, SetUp},
};
use crate::{
    audit::Event,
    crypto::Commitment,
    durable::Dir,
    escrow::{Backup, BackupError},
    keyring::{
        ChangeError, Key, Keyring,
        home::Home,
        key_id::KeyId,
        ledger::{Ledger, LedgerFull, ListedBackup, Proven},
        restore::{self as restoring, Candidates, Restored},
        state::State,
        time::Time,
    },
};

/// Which keyring is to be set up, and where.
pub struct RestorePlan {
    /// What it comes from.
    pub backup: Backup,
    /// Where that is.
    pub file: Option<String>,
    /// Which record the operator named, if one.
    pub expect: Option<Expect>,
    /// The keys that etcd or a snapshot needs, if one was scanned.
    pub needed: Option<Vec<NeededKey>>,
    /// Keys that others may know.
    pub compromised: Vec<KeyId>,
    /// What to do if a key has to be made.
    pub fresh: FreshBackup,
    /// Where the key file of its slot goes; the state directory if none.
    pub slot_file: Option<PathBuf>,
    /// When it was opened.
    pub now: Time,
}

/// A key that values in etcd are under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeededKey {
    /// As the values name it.
    pub name: String,
    /// Its commitment, as their wrapped seeds have it.
    pub commitment: Commitment,
    /// Live objects under it.
    pub objects: u64,
    /// The key in etcd of one of them.
    pub example: String,
}

/// A keyring that was restored.
#[derive(Debug)]
pub struct RestoredKeyring {
    /// What was set up.
    pub initialised: Initialised,
    /// The primary key's backup, and whether it counts, if that key had to be made.
    pub fresh: Option<(PathBuf, bool)>,
    /// Keys that values need, and that stay disabled.
    pub disabled: Vec<NeededKey>,
}

/// Why nothing was restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RestoreFailed {
    /// Nothing says that this is the right backup.
    #[error("nothing shows that this is the right backup")]
    Unproven,
    /// It is not the record that the operator named.
    #[error(transparent)]
    Expect(#[from] ExpectError),
    /// Values need keys that it does not hold.
    #[error("the backup lacks keys that values in etcd need: {}", lacking(.0))]
    Lacks(Vec<NeededKey>),
    /// No value needs any key of it.
    #[error("no value in etcd needs a key of this backup, so nothing shows that it is the right one")]
    NothingNeeded,
    /// Its keyring is shared.
    #[error("the keyring's home is etcd, below {0}; this build restores a keyring file only")]
    HomeInEtcd(String),
    /// No keyring follows from it.
    #[error(transparent)]
    Keyring(#[from] ChangeError),
    /// A backup of a fresh key could not be made.
    #[error("the backup of a fresh key: {0}")]
    Backup(#[from] BackupError),
    /// Nobody could open a backup of a fresh key.
    #[error("nobody could open a backup of the fresh key that has to be made")]
    NoRecipient,
    /// The backup cannot be listed.
    #[error(transparent)]
    Ledger(#[from] LedgerFull),
    /// The directory could not be set up.
    #[error(transparent)]
    SetUp(#[from] InitError),
}

fn lacking(keys: &[NeededKey]) -> String {
    let one = |key: &NeededKey| format!("{} ({} objects, for example {})", key.name, key.objects, key.example);
    keys.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// Sets `dir` up with the keyring of a backup, under the same root key, which a new slot seals. No key_id changes.
///
/// # Errors
/// When nothing shows that it is the right backup, a keyring is there, or a file cannot be written. Before the first write nothing has
/// changed; after it, the same command begins again.
pub fn restore(dir: &Dir, plan: RestorePlan) -> Result<RestoredKeyring, RestoreFailed> {
    plan.check()?;
    let Restored { keyring, fresh } = plan.keyring()?;
    let RestorePlan { backup, file, needed, fresh: to, slot_file, now, .. } = plan;
    let root = &backup.root;
    let record = NewRecord::encode(&keyring, root, Limit::Whole).map_err(InitError::from)?;
    let listed = ListedBackup::of(&backup.keyring, backup.digest(), Proven::Checked(now), file);
    let mut ledger = Ledger::empty(keyring.uuid(), keyring.root_id()).with(listed, 1)?;
    let export = match fresh {
        Some(_) => Some(export(&to, dir, (&keyring, &record), &backup, now)?),
        None => None,
    };
    if let Some(listed) = export.as_ref().and_then(|export| export.listed.clone()) {
        ledger = ledger.with(listed, 2)?;
    }
    let event = Event::Restore(keyring_event(&keyring));
    let disabled = stay_disabled(&keyring, needed.unwrap_or_default());
    let contents = Contents { keyring, record, ledger: Some(ledger), is_restored: true };
    let files = Files::of(contents, (root, &backup.earlier), slot_file)?;
    let initialised = files.set_up(dir, SetUp { restart: true, event: Some(event), export: export.as_ref() })?;
    let fresh = export.map(|export| (export.file, export.listed.is_some()));
    Ok(RestoredKeyring { initialised, fresh, disabled })
}

impl RestorePlan {
    /// Makes sure that it is the right backup.
    ///
    /// # Errors
    /// When nothing shows that it is, or something shows that it is not.
    pub fn check(&self) -> Result<(), RestoreFailed> {
        if let Home::Etcd(prefix) = self.backup.keyring.home() {
            return Err(RestoreFailed::HomeInEtcd(prefix.clone()));
        }
        let is_unknown = |key_id: &&KeyId| self.backup.keyring.keys().all(|key| key.id() != **key_id);
        if let Some(unknown) = self.compromised.iter().find(is_unknown) {
            return Err(ChangeError::UnknownKey(*unknown).into());
        }
        if let Some(expect) = &self.expect {
            expect.check_exactly(&self.backup.keyring, self.backup.digest())?;
        }
        let Some(needed) = &self.needed else {
            return if self.expect.is_some() { Ok(()) } else { Err(RestoreFailed::Unproven) };
        };
        let (held, lacking): (Vec<_>, Vec<_>) = needed.iter().cloned().partition(|key| self.holds(key));
        if !lacking.is_empty() {
            return Err(RestoreFailed::Lacks(lacking));
        }
        // What the operator named need not be needed by anything.
        if held.is_empty() && self.expect.is_none() { Err(RestoreFailed::NothingNeeded) } else { Ok(()) }
    }

    fn holds(&self, needed: &NeededKey) -> bool {
        self.backup.keyring.keys().any(|key| key.kek().commitment() == needed.commitment)
    }

    fn keyring(&self) -> Result<Restored, ChangeError> {
        let Backup { keyring, root, .. } = &self.backup;
        let is_needed = |key: &&Key| {
            let commitment = key.kek().commitment();
            self.needed.iter().flatten().any(|needed| needed.commitment == commitment)
        };
        let candidates = match self.expect {
            Some(_) => Candidates::Any,
            None => Candidates::Needed(keyring.keys().filter(is_needed).map(Key::id).collect()),
        };
        let backup = (keyring, self.backup.digest());
        restoring::restore(&mut SysRng, root, backup, &candidates, &self.compromised, self.now)
    }
}

fn stay_disabled(keyring: &Keyring, needed: Vec<NeededKey>) -> Vec<NeededKey> {
    let disabled: Vec<Commitment> =
        keyring.keys().filter(|key| key.state() == State::Disabled).map(|key| key.kek().commitment()).collect();
    needed.into_iter().filter(|key| disabled.contains(&key.commitment)).collect()
}

/// The backup of `keyring`, which is written before its record is: nothing is wrapped under a key that no backup holds. `backup` has
/// its root keys.
fn export(
    to: &FreshBackup,
    dir: &Dir,
    (keyring, record): (&Keyring, &NewRecord),
    backup: &Backup,
    now: Time,
) -> Result<Export, RestoreFailed> {
    let recipients = to.recipients_of(keyring).map_err(BackupError::from)?;
    if recipients.is_empty() {
        return Err(RestoreFailed::NoRecipient);
    }
    Ok(to.sealed(dir, (keyring, record), (&backup.root, &backup.earlier), &recipients, now)?)
}
