//! Sets up, opens, changes and backs up the keyring of a state directory, and publishes the keys that the serving path
//! reads.
//!
//! Invariant: a record is durable before it is marked, and marked before it is published. The module `open` opens a
//! keyring. The module `commit` makes every change. The arrows point to the modules that a module uses:
//!
//! ```text
//! publisher daemon_lock -> open_to_serve, served_keys
//! merge                 -> restore -> init;   merge, restore -> fresh;   merge -> recovery
//! keys                  -> rotation, key_errors
//! proof                 -> open
//! init keys key_errors ledger recovery rekey rotation slots backup fresh open_to_serve
//!                       -> commit -> open -> roots listed -> error -> expect state_dir
//! ```

mod backup;
mod commit;
#[cfg(test)]
mod crashes;
mod daemon_lock;
mod error;
mod expect;
#[cfg(test)]
mod forks;
mod fresh;
mod init;
mod key_errors;
mod keys;
mod ledger;
mod listed;
mod merge;
#[cfg(test)]
mod model;
mod open;
mod open_to_serve;
#[cfg(feature = "scan")]
mod proof;
mod publisher;
mod recovery;
#[cfg(test)]
mod refusals;
mod rekey;
mod restore;
mod roots;
mod rotation;
mod served_keys;
mod slots;
mod state_dir;
#[cfg(test)]
mod testing;

pub use self::{
    backup::{Additional, Made, MakeBackupError, back_up},
    commit::{CommitError, EncodeRecordError},
    daemon_lock::Serving,
    error::{OpenError, ReadLedgerError, RootFileError, RootKeyError, UnfinishedRekey},
    expect::Expect,
    fresh::FreshBackup,
    init::{InitError, InitRequest, Initialised, SetUpError, first_key_file, init},
    key_errors::{AddKeyError, DestroyKeyError, DisableKeyError, EnableKeyError, Needing, PromoteKeyError, UsageDoubt},
    keys::{BackedUp, Changed, Promotion, Usage, add_key, destroy_key, disable_key, enable_key, promote_key},
    ledger::{
        Forget, ForgetBackupsError, ListBackupError, NoteUnusedError, forget_backups, list_backup, list_snapshot,
        note_unused,
    },
    merge::{CarryOutMergeError, KEYRING_HERE, MergePreview, PreviewMergeError, Source, preview_merge},
    open::{BeginError, Opened, is_set_up, key_files, open, open_again},
    open_to_serve::ServeError,
    publisher::{Followed, Publisher, Unsealed},
    recovery::{AddRecoveryError, LastRecipient, RemoveRecoveryError, add_recovery, remove_recovery},
    rekey::{RekeyError, Rekeyed, rekey},
    restore::{NeededKey, ReadSnapshot, RestoreError, RestoreRequest, RestoredKeyring, ScannedNeeds, restore},
    roots::SlotSummary,
    rotation::{GiveUpPlanError, LoadPlanError, WritePlanError, give_up_plan, load_plan, write_plan},
    served_keys::{Degraded, Published, ServedFrom, ServedKeys, ServingKey},
    slots::{
        AddSlotError, LeftKeyFile, RemoveSlotError, SlotsChanged, TestSlotsError, add_slot, remove_slot, slots,
        test_slots, uuid_of,
    },
    state_dir::{KEYRING, KEYRING_PREV, MARK, RECORD_FILES, ROOT},
};
