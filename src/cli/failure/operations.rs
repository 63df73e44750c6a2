//! Hints for the operations that change a keyring, or make a backup of it.

use super::{
    exit::{Exit, Explain, Explanation, refused, with},
    files::{RESTORE_INSTEAD, export, make_directory},
    keyring::{DEFECT, IN_ETCD, NEW_KEYRING, offers_restore},
};
use crate::{
    durable::DurableError,
    keeper::{
        AddRecoveryError, AddSlotError, BeginError, CarryOutMergeError, CommitError, EncodeRecordError,
        ForgetBackupsError, GiveUpPlanError, ListBackupError, LoadPlanError, MakeBackupError, NoteUnusedError,
        OpenError, PreviewMergeError, ReadLedgerError, RekeyError, RemoveRecoveryError, RemoveSlotError, RootFileError,
        RootKeyError, TestSlotsError, WritePlanError,
    },
    keyring::{
        ledger::{LedgerError, LedgerFull},
        merge::{MergeError, NamedWrongly},
    },
    root::{RootError, SlotError},
};

/// The number of digits with which hints name a backup or a snapshot. It is enough to distinguish the entries of one
/// ledger.
pub(in crate::cli) const ID_DIGITS: usize = 12;

/// The hint for a rekey that did not finish.
const FINISH_REKEY: &str = "finish the rekey: claviger rekey";

impl Explain for BeginError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Open(error) => error.explain(),
            Self::Lock(error) => error.explain(),
            Self::Rekeying(_) => refused(FINISH_REKEY),
        }
    }
}

impl Explain for LoadPlanError {
    fn explain(&self) -> Explanation {
        match self {
            Self::File(error) => error.explain(),
            Self::Refused(_) => {
                with(Exit::Damaged, "start the rotation again, which writes a new plan: claviger rotate")
            }
        }
    }
}

impl Explain for WritePlanError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Begin(error) => error.explain(),
            Self::Read(error) => error.explain(),
            Self::Commit(error) => error.explain(),
            Self::Memory(error) => error.explain(),
            Self::Overtaken => {
                refused("another command changed the plan; look at the keyring, then run yours again: claviger status")
            }
        }
    }
}

impl Explain for GiveUpPlanError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Begin(error) => error.explain(),
            Self::Load(error) => error.explain(),
            Self::Finished => refused("nothing has to be done: any pending key can be promoted: claviger key list"),
            Self::Promoted(_) => refused(
                "values may be under this key and under earlier ones, and all of these keys decrypt, so nothing is lost; finish the \
                 rotation: claviger rotate; or replace the key by another rotation after that",
            ),
            Self::Commit(error) => error.explain(),
            Self::Memory(error) => error.explain(),
        }
    }
}

impl Explain for AddRecoveryError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Begin(error) => error.explain(),
            Self::Seal(error) => error.explain(),
            Self::Untried(error) => error.explain(),
            Self::Refused(error) => error.explain(),
            Self::Commit(error) => error.explain(),
        }
    }
}

impl Explain for RemoveRecoveryError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Begin(error) => error.explain(),
            Self::Refused(error) => error.explain(),
            Self::LastRecipient(_) => refused(
                "add another one first: claviger recovery add RECIPIENT; --risk-no-recovery removes the last one, too",
            ),
            Self::Commit(error) => error.explain(),
        }
    }
}

impl Explain for RekeyError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Begin(error) => error.explain(),
            Self::Ledger(error) => error.explain(),
            Self::Root(error) => error.explain(),
            Self::Recipient(error) => error.explain(),
            Self::Recovery(error) => error.explain(),
            Self::Refused(error) => error.explain(),
            Self::Memory(error) => error.explain(),
            Self::Commit(error) => error.explain(),
            Self::Unfinished(error) => {
                error.explain().with_hint("remove the cause, then finish the rekey: claviger rekey; nothing was lost")
            }
        }
    }
}

impl Explain for TestSlotsError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Open(error) => error.explain(),
            Self::Unknown(error) => error.explain(),
        }
    }
}

impl Explain for RemoveSlotError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Begin(error) => error.explain(),
            Self::Root(error) => error.explain(),
            Self::Unreadable(error) => error.explain(),
            Self::NoOtherOpens { reasons, .. } => refused(&no_other_opens(reasons)),
            Self::Commit(error) => error.explain(),
        }
    }
}

impl Explain for AddSlotError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Begin(error) => error.explain(),
            Self::Root(error) => error.explain(),
            Self::Slot(_, error) => error.explain(),
            Self::KeyFile(DurableError::Exists(_)) => refused(IN_THE_WAY),
            Self::KeyFile(DurableError::Missing(dir)) => refused(&make_directory(dir)),
            Self::KeyFile(error) => error.explain(),
            Self::Commit(error) => error.explain(),
        }
    }
}

/// Returns the hint for a slot that cannot be removed yet. Perhaps this command line only lacks the secret of another
/// slot.
fn no_other_opens(reasons: &RootError) -> String {
    let another =
        "another slot has to open first: claviger slot test shows which do; or add one: claviger slot add --help";
    let is_unasked = |(_, reason): &(String, SlotError)| matches!(reason, SlotError::NoPassphrase);
    match reasons {
        RootError::NoSlotOpens(slots) if slots.iter().any(is_unasked) => {
            format!("give the passphrase: --passphrase-file FILE, or run it on a terminal; or else {another}")
        }
        _ => another.to_owned(),
    }
}

/// The hint for a file that exists where a new file should be written.
const IN_THE_WAY: &str = "if an interrupted command left this file, move it away; otherwise choose another name: --name NAME, or --slot-file FILE";

impl Explain for RootFileError {
    fn explain(&self) -> Explanation {
        self.0.explain()
    }
}

impl Explain for RootKeyError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Root(error) => error.explain(),
            Self::Unknown => unknown_root_key(),
        }
    }
}

impl Explain for MakeBackupError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Open(error) => error.explain(),
            Self::Rekeying(_) => refused(FINISH_REKEY),
            Self::NoRecipient(_) => refused(NO_RECIPIENT),
            Self::Recipient(error) => error.explain(),
            Self::Root(error) => error.explain(),
            Self::Memory(error) => error.explain(),
            Self::Seal(error) => error.explain(),
            Self::NotAudited(error) => error.explain(),
        }
    }
}

const NO_RECIPIENT: &str = "name one: --recipient age1…; or keep one in the keyring: claviger recovery add RECIPIENT";

impl Explain for NoteUnusedError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Begin(error) => error.explain(),
            Self::Refused(error) => error.explain(),
            Self::Full(error) => error.explain(),
            Self::Commit(error) => error.explain(),
        }
    }
}

impl Explain for LedgerFull {
    fn explain(&self) -> Explanation {
        match self {
            Self::Noted(_) => {
                refused("destroy keys that are disabled: claviger key destroy KEY_ID; to see them: claviger key list")
            }
            Self::LongName => refused("give etcd a shorter address: --etcd-servers URL"),
            Self::Listed { .. } => refused(
                "forget a backup that no longer exists: claviger backup forget ID; to see their IDs: claviger backup list",
            ),
        }
    }
}

impl Explain for ListBackupError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Begin(error) => error.explain(),
            Self::RootKey(error) => error.explain(),
            Self::Refused(error) => error.explain(),
            Self::Full(error) => error.explain(),
            Self::Commit(error) => error.explain(),
        }
    }
}

impl Explain for ForgetBackupsError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Begin(error) => error.explain(),
            Self::Refused(error) => error.explain(),
            Self::Unknown { .. } => refused("name one by its ID: claviger backup list"),
            // The uuid has to be typed, because it proves which keyring is meant.
            Self::OtherUuid { .. } => {
                refused("if you mean the keyring here, give its uuid: claviger backup forget --all UUID")
            }
            Self::Commit(error) => error.explain(),
        }
    }
}

impl Explain for PreviewMergeError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Open(error @ (OpenError::Root { .. } | OpenError::MissingRoot(_) | OpenError::MissingRecord(_))) => {
                unopened(error)
            }
            Self::Open(error) => error.explain(),
            Self::Ledger(error) => error.explain(),
            Self::NoRecord => with(Exit::Damaged, "give a backup: claviger backup restore FILE"),
            Self::OtherKeyring(_) => with(
                Exit::WrongKey,
                "use a backup of this keyring; or, if values in etcd need the keys of the backup, move the state directory away, and \
                 restore the backup in its place: claviger backup restore FILE",
            ),
            Self::NewerRootKey => refused(
                "restore the backup into an empty directory: --state-dir NEW; then merge the keyring here into it: claviger backup \
                 restore FILE --state-dir NEW, where FILE is the file `keyring` of this directory",
            ),
            Self::RootKey(error) => error.explain(),
            Self::Merge(error) => error.explain(),
            Self::Recipient(error) => error.explain(),
            Self::Recovery(error) => error.explain(),
        }
    }
}

impl Explain for CarryOutMergeError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Recipient(error) => error.explain(),
            Self::RootKey(error) => error.explain(),
            Self::NoPlaceForBackup => {
                refused("say where to write the backup of the new key, on another disk: --backup-to FILE")
            }
            Self::NoRecipient(_) => refused(NO_RECIPIENT),
            Self::Backup(error) => error.explain(),
            Self::Lock(error) => error.explain(),
            Self::Commit(error) => error.explain(),
        }
    }
}

/// Explains how to merge into a keyring that does not open: a merge needs the root key.
fn unopened(error: &OpenError) -> Explanation {
    let explanation = error.explain();
    match &explanation.hint {
        Some(_) if offers_restore(error) => explanation,
        Some(hint) => {
            let hint = format!("{hint}; if it cannot be opened any more: {RESTORE_INSTEAD}");
            explanation.with_hint(&hint)
        }
        None => explanation.with_hint(RESTORE_INSTEAD),
    }
}

fn unknown_root_key() -> Explanation {
    with(
        Exit::WrongKey,
        "if you are sure that it is a backup of this keyring, add --expect with the line that `backup create` printed for it",
    )
}

impl Explain for MergeError {
    fn explain(&self) -> Explanation {
        const SEE_PREVIEW: &str =
            "run the same command without --lost, --keep-destroyed and --compromised: it shows the key_ids";
        match self {
            Self::Unknown(_) => refused(SEE_PREVIEW),
            Self::Named { reason: NamedWrongly::NotMissing, .. } => {
                refused(&format!("--lost cannot name it; {SEE_PREVIEW}"))
            }
            Self::Named { reason: NamedWrongly::Undestroyed, .. } => {
                refused(&format!("--keep-destroyed cannot name it; {SEE_PREVIEW}"))
            }
            Self::Named { reason: NamedWrongly::KeptHere, .. } => refused(
                "--keep-destroyed cannot name it; to destroy it: claviger key disable KEY_ID, then claviger key destroy KEY_ID",
            ),
            Self::Make(error) => error.explain(),
            Self::Missing(_) => refused(
                "also give a backup that has these keys; if there is none: --lost KEY_ID for each, and what is under them stays \
             unreadable",
            ),
            Self::Beyond { .. } => with(
                Exit::WrongKey,
                "its numbers are too high for a genuine keyring, so it may be forged: use another backup",
            ),
        }
    }
}

/// Returns the hint for repairing the ledger of the keyring `uuid`.
pub(in crate::cli) fn ledger_hint(error: &ReadLedgerError, uuid: &str) -> Option<String> {
    if !error.is_lost() {
        return error.explain().hint;
    }
    Some(new_ledger(uuid))
}

/// Returns the reason why no backup of the keyring `uuid` counts, with the hint for repairing its ledger.
pub(in crate::cli) fn no_backup_counts(error: &ReadLedgerError, uuid: &str) -> String {
    ledger_hint(error, uuid)
        .map_or_else(|| format!("no backup counts: {error}"), |next| format!("no backup counts: {error}; {next}"))
}

/// Returns the hint for a ledger of the keyring `uuid` that was refused.
fn new_ledger(uuid: &str) -> String {
    format!(
        "put the newest copy of the file `ledger` back; if there is none, begin an empty ledger: `claviger backup forget \
         --all {uuid}`"
    )
}

/// Returns the same hint where the uuid of the keyring is not known.
fn ledger_of_unknown() -> String {
    format!("{}; `claviger status` shows the uuid", new_ledger("UUID"))
}

impl Explain for ReadLedgerError {
    fn explain(&self) -> Explanation {
        match self {
            Self::File(_) if self.is_lost() => with(Exit::Damaged, &ledger_of_unknown()),
            Self::File(error) => error.explain(),
            Self::Ledger(LedgerError::Text(error)) if !self.is_lost() => error.explain(),
            Self::Ledger(LedgerError::Text(error)) => error.explain().with_hint(&ledger_of_unknown()),
            Self::Ledger(LedgerError::Memory(error)) => error.explain(),
            Self::Ledger(LedgerError::Origin(_)) => with(Exit::WrongKey, &ledger_of_unknown()),
            Self::Ledger(LedgerError::Missing(_) | LedgerError::NotCanonical(_)) => {
                with(Exit::Damaged, &ledger_of_unknown())
            }
            Self::Ledger(LedgerError::RolledBack { .. }) => refused(&ledger_of_unknown()),
        }
    }
}

#[cfg(feature = "scan")]
const MAKE_ROOM: &str = "make room: `claviger scan --keyring FILE` shows which keys are in use; disable and destroy others: claviger \
                         key disable KEY_ID, claviger key destroy KEY_ID";
#[cfg(not(feature = "scan"))]
const MAKE_ROOM: &str =
    "make room: disable and destroy keys that are not in use: claviger key disable KEY_ID, claviger key destroy KEY_ID";

/// The hint for a missing mark. Only a plugin makes a mark. `claviger status` finds out whether the plugin may be
/// restarted.
const NO_MARK: &str = "compare the line `expect` of `claviger status` with the last one that you wrote down; if they match, restart the plugin, \
                       which makes the mark; then run this command again";

impl Explain for EncodeRecordError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Full | Self::TooLong(_) => refused(MAKE_ROOM),
            Self::NotReadBack(_) => refused(DEFECT),
            Self::Memory(error) => error.explain(),
        }
    }
}

impl Explain for CommitError {
    fn explain(&self) -> Explanation {
        const MARK_LATER: &str =
            "remove the cause; `claviger status` then says how a plugin marks the keyring; nothing was lost";
        match self {
            Self::NoMark => refused(NO_MARK),
            Self::HomeInEtcd(_) => refused(IN_ETCD),
            Self::Encode(error) => error.explain(),
            Self::LedgerSpent => refused(NEW_KEYRING),
            Self::Memory(error) => error.explain(),
            Self::Overtaken(_) => refused("another command or the daemon is at work here; run it again"),
            Self::Unread(error) => error.explain(),
            Self::NotExported(error) => export(error),
            Self::NotWritten(DurableError::Exists(_)) => refused(IN_THE_WAY),
            Self::NotAudited(error) | Self::NotWritten(error) => error.explain(),
            Self::NotSwapped(error) => error.explain(),
            Self::InDoubt { failed, .. } => failed.explain().with_hint("check it: claviger status"),
            Self::NotConfirmed(error) => error.explain().with_hint(MARK_LATER),
            Self::RootNotConfirmed(error) => {
                error.explain().with_hint("check it: claviger slot test; nothing was lost")
            }
            Self::NotMarked(error) | Self::LedgerNotMarked(error) => error.explain().with_hint(MARK_LATER),
            Self::DoesNotOpen(error) => error.explain().with_hint("check it: claviger status"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::{SecretError, testing::no_random};

    #[test]
    fn a_ledger_that_only_lacks_memory_is_not_begun_anew() {
        let memory = || SecretError::Random(no_random());
        assert_eq!(ReadLedgerError::Ledger(LedgerError::Memory(memory())).explain(), memory().explain());
        assert_eq!(
            ReadLedgerError::Ledger(LedgerError::Missing(3)).explain(),
            with(Exit::Damaged, &ledger_of_unknown())
        );
    }

    #[test]
    fn a_ledger_is_given_up_only_if_it_is_lost() {
        let path = || "/st/ledger".into();
        let says = |error: ReadLedgerError| no_backup_counts(&error, "ab12");
        assert_eq!(
            says(ReadLedgerError::File(DurableError::Mode { path: path(), mode: 0o644, expected: 0o600 })),
            "no backup counts: /st/ledger has mode 0644, expected 0600; chmod 0600 /st/ledger"
        );
        assert_eq!(
            says(ReadLedgerError::File(DurableError::Owner { path: path(), found: 7, expected: 0 })),
            "no backup counts: /st/ledger is owned by uid 7, expected uid 0; chown 0 /st/ledger"
        );
        let anew = "; put the newest copy of the file `ledger` back; if there is none, begin an empty ledger: `claviger backup \
                    forget --all ab12`";
        for error in
            [LedgerError::Missing(3).into(), ReadLedgerError::File(DurableError::TooLong { path: path(), limit: 9 })]
        {
            let why = error.to_string();
            assert_eq!(says(error), format!("no backup counts: {why}{anew}"));
        }
    }
}
