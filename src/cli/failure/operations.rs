//! Hints for the operations that change a keyring, or make a backup of it.

use std::path::Path;

use super::{
    exit::{Exit, Explain, Explanation, refused},
    files::{durable, export, memory, store, text},
    keyring::{SHARED, backup, change, open, recovery, root, slot},
};
#[cfg(not(feature = "scan"))]
use crate::keeper::UsageDoubt;
use crate::{
    durable::DurableError,
    keeper::{
        BeginError, ChangeKeysError, ChangeRecoveryError, ChangeSlotsError, CommitError, ForgetBackupsError,
        ListBackupError, MakeBackupError, MergePlanError, ReadLedgerError, RekeyError, RootKeyError,
    },
    keyring::{ChangeError, ledger::LedgerError, merge::MergeError, state::Verb},
    text::TextError,
};

/// Ends a rekey that did not finish.
const FINISH_REKEY: &str = "let it finish: claviger rekey";

impl Explain for BeginError {
    fn explain(&self, state_dir: &Path) -> Explanation {
        match self {
            Self::Open(error) => error.explain(state_dir),
            Self::Lock(error) => durable(error),
            Self::Rekeying => refused(FINISH_REKEY),
        }
    }
}

impl Explain for ChangeKeysError {
    fn explain(&self, state_dir: &Path) -> Explanation {
        match self {
            Self::Begin(error) => error.explain(state_dir),
            Self::Refused(error) => change(error),
            Self::Needed { .. } | Self::LedgerLost { .. } | Self::Forgotten { .. } | Self::Unproven { .. } => {
                refused(not_given_up(self))
            }
            Self::Unbacked { ledger: Some(_), .. } => refused(BEGIN_ANEW),
            Self::Unbacked { ledger: None, .. } => refused(
                "write a backup to another disk: claviger backup create FILE; or open an existing one: claviger backup check FILE; \
                 --without-backup skips this check",
            ),
            Self::Commit(error) => commit(error),
        }
    }
}

impl Explain for ChangeRecoveryError {
    fn explain(&self, state_dir: &Path) -> Explanation {
        match self {
            Self::Begin(error) => error.explain(state_dir),
            Self::Recovery(error) => recovery(error),
            Self::Refused(error) => change(error),
            Self::LastRecipient(_) => {
                refused("add another one first: claviger recovery add; --risk-no-recovery removes the last one, too")
            }
            Self::Commit(error) => commit(error),
        }
    }
}

impl Explain for RekeyError {
    fn explain(&self, state_dir: &Path) -> Explanation {
        match self {
            Self::Begin(error) => error.explain(state_dir),
            Self::Root(error) => root(error),
            Self::Recovery(error) => recovery(error),
            Self::Refused(error) => change(error),
            Self::Memory(error) => memory(error),
            Self::Commit(error) => commit(error),
            Self::Unfinished(error) => (
                commit(error).0,
                Some("remove the cause, then let it finish: claviger rekey; nothing was lost".to_owned()),
            ),
        }
    }
}

impl Explain for ChangeSlotsError {
    fn explain(&self, state_dir: &Path) -> Explanation {
        match self {
            Self::Begin(error) => error.explain(state_dir),
            Self::Root(error) => root(error),
            Self::Slot(_, error) => slot(error),
            Self::NoOtherOpens { .. } => refused(
                "another slot has to open first: claviger slot test shows which do; or add one: claviger slot add",
            ),
            Self::KeyFile(DurableError::Exists(_)) => refused(IN_THE_WAY),
            Self::KeyFile(error) => durable(error),
            Self::Commit(error) => commit(error),
        }
    }
}

/// What to do with a file that is where a new one should be.
const IN_THE_WAY: &str =
    "if a command broke off, nothing needs it: move it away; or give another name: --name, or --slot-file";

impl Explain for RootKeyError {
    fn explain(&self, _: &Path) -> Explanation {
        match self {
            Self::Root(error) => root(error),
            Self::Unknown => unknown_root_key(),
        }
    }
}

impl Explain for MakeBackupError {
    fn explain(&self, state_dir: &Path) -> Explanation {
        match self {
            Self::Open(error) => error.explain(state_dir),
            Self::Rekeying => refused(FINISH_REKEY),
            Self::NoRecipient => refused(NO_RECIPIENT),
            Self::Recovery(error) => recovery(error),
            Self::Root(error) => root(error),
            Self::Memory(error) => memory(error),
            Self::Backup(error) => backup(error),
            Self::NotAudited(error) => durable(error),
        }
    }
}

const NO_RECIPIENT: &str = "name one: --recipient age1…; or keep one in the keyring: claviger recovery add";

impl Explain for ListBackupError {
    fn explain(&self, state_dir: &Path) -> Explanation {
        match self {
            Self::Begin(error) => error.explain(state_dir),
            Self::RootKey(error) => error.explain(state_dir),
            Self::Refused(error) => ledger(error),
            Self::Full(_) => {
                refused("remove one that is not kept any more: claviger backup list, claviger backup forget ID")
            }
            Self::Commit(error) => commit(error),
        }
    }
}

impl Explain for ForgetBackupsError {
    fn explain(&self, state_dir: &Path) -> Explanation {
        match self {
            Self::Begin(error) => error.explain(state_dir),
            Self::Refused(error) => ledger(error),
            Self::Unknown { .. } => refused("name one by its ID: claviger backup list"),
            Self::OtherUuid { .. } => refused("give the uuid of the keyring here, if you mean this one"),
            Self::Commit(error) => commit(error),
        }
    }
}

impl Explain for MergePlanError {
    fn explain(&self, state_dir: &Path) -> Explanation {
        match self {
            Self::Open(error) => error.explain(state_dir),
            Self::Root(error) => root(error),
            Self::OtherKeyring(_) => (Exit::WrongKey, Some("use a backup of this keyring".to_owned())),
            Self::NewerRootKey => refused(
                "restore the backup into an empty directory: --state-dir NEW; then merge the keyring here into it: claviger backup \
                 restore FILE --state-dir NEW, where FILE is the file `keyring` of this directory",
            ),
            Self::UnknownRootKey => unknown_root_key(),
            Self::Merge(error) => merge(error),
            Self::Recovery(error) => recovery(error),
            Self::NoPlaceForBackup => {
                refused("say where to write the backup of the new key, on another disk: --backup-to FILE")
            }
            Self::NoRecipient => refused(NO_RECIPIENT),
            Self::Backup(error) => backup(error),
            Self::Lock(error) => durable(error),
            Self::Commit(error) => commit(error),
        }
    }
}

fn unknown_root_key() -> Explanation {
    let hint = "if you are sure that it is a backup of this keyring, add --expect with the line that `backup create` printed for it";
    (Exit::WrongKey, Some(hint.to_owned()))
}

fn merge(error: &MergeError) -> Explanation {
    const SHOWS: &str = "run the same command without --lost, --keep-destroyed and --compromised: it shows the key_ids";
    match error {
        MergeError::Change(ChangeError::UnknownKey(_)) => refused(SHOWS),
        MergeError::Change(error) => change(error),
        MergeError::Missing(_) => refused(
            "also give a backup that has these keys; if there is none: --lost KEY_ID for each, and what is under them stays \
             unreadable",
        ),
        MergeError::Beyond { .. } => (
            Exit::WrongKey,
            Some("its numbers are too high for a genuine keyring, so it may be forged: use another backup".to_owned()),
        ),
        _ => refused(SHOWS),
    }
}

/// Returns the hint for an operator who has lost the ledger of the keyring `uuid`.
pub(in crate::cli) fn no_backup_counts(error: &str, uuid: &str) -> String {
    format!(
        "no backup counts: {error}; put the newest copy of the file `ledger` back, or, if there is none, begin an empty ledger: \
         `claviger backup forget --all {uuid}`"
    )
}

/// What an operator does whose ledger is not believed.
const BEGIN_ANEW: &str = "put the newest copy of the file `ledger` back; if there is none, begin an empty ledger: claviger backup \
                          forget --all UUID (`claviger status` shows the keyring's uuid)";

fn ledger(error: &ReadLedgerError) -> Explanation {
    match error {
        ReadLedgerError::Ledger(LedgerError::Text(error @ TextError::TooNew { .. })) => text(error),
        ReadLedgerError::File(DurableError::TooLong { .. }) => (Exit::Damaged, Some(BEGIN_ANEW.to_owned())),
        ReadLedgerError::File(error) => durable(error),
        ReadLedgerError::Ledger(_) => refused(BEGIN_ANEW),
    }
}

/// The hint for a key that is not disabled or destroyed, because something needs it or may need it.
fn not_given_up(error: &ChangeKeysError) -> &'static str {
    match error {
        ChangeKeysError::Needed { .. } => {
            "write these objects again, which puts them under the primary key: kubectl get … -o json | kubectl replace -f -, as in \
             the README"
        }
        ChangeKeysError::LedgerLost { .. } | ChangeKeysError::Forgotten { .. } => {
            "if no backup and no snapshot that the lost ledger listed is needed any more: --risk-losing-secrets; otherwise keep the \
             key disabled"
        }
        #[cfg(not(feature = "scan"))]
        ChangeKeysError::Unproven { verb, reason: UsageDoubt::CannotScan, .. } => match verb {
            Verb::Destroy => {
                "scan with a claviger that was built with its feature `scan`; --risk-losing-secrets skips this check, and what \
                 is under the key is then lost for ever"
            }
            _ => {
                "scan with a claviger that was built with its feature `scan`; --risk-unreadable-secrets skips this check, and \
                 `claviger key enable` undoes it"
            }
        },
        ChangeKeysError::Unproven { verb: Verb::Destroy, .. } => {
            "let it read all of etcd: --etcd-servers URL, or --apiserver-manifest FILE, and see `claviger scan` and `claviger \
             status`; --risk-losing-secrets skips this check, and what is under the key is then lost for ever"
        }
        _ => {
            "let it read all of etcd: --etcd-servers URL, or --apiserver-manifest FILE, and see `claviger scan` and `claviger \
             status`; --risk-unreadable-secrets skips this check, and `claviger key enable` undoes it"
        }
    }
}

pub(super) fn commit(error: &CommitError) -> Explanation {
    let mended = || Some("remove the cause; `claviger serve` then marks the keyring; nothing was lost".to_owned());
    match error {
        CommitError::NoMark => {
            refused("`claviger serve --expect …` makes it, with what `claviger status` last printed here")
        }
        CommitError::HomeInEtcd(_) => refused(SHARED),
        CommitError::Full => refused(
            "make room: `claviger scan --keyring FILE` shows which keys are in use; disable and destroy others: claviger key \
             disable, claviger key destroy",
        ),
        CommitError::Record(_) | CommitError::LedgerSpent => (Exit::Refused, None),
        CommitError::Memory(error) => memory(error),
        CommitError::Overtaken(_) => refused("another command or the daemon is at work here; run it again"),
        CommitError::Unread(error) => open(error),
        CommitError::NotExported(error) => export(error),
        CommitError::NotWritten(DurableError::Exists(_)) => refused(IN_THE_WAY),
        CommitError::NotAudited(error) | CommitError::NotWritten(error) => durable(error),
        CommitError::NotSwapped(error) => store(error),
        CommitError::InDoubt { failed, .. } => (store(failed).0, Some("check it: claviger status".to_owned())),
        CommitError::NotConfirmed(error) => (store(error).0, mended()),
        CommitError::RootNotConfirmed(error) => {
            (durable(error).0, Some("check it: claviger slot test; nothing was lost".to_owned()))
        }
        CommitError::NotMarked(error) | CommitError::LedgerNotMarked(error) => (durable(error).0, mended()),
        CommitError::Unchecked(error) => (open(error).0, Some("check it: claviger status".to_owned())),
    }
}
