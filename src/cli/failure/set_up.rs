//! Hints for what sets a state directory up: init, and restoring to an empty directory.

use tonic::Code;

use super::{
    super::{given::quoted, live::LivePluginError},
    exit::{Exit, Explain, Explanation, refused, with},
    files::{RANDOM, make_directory},
    keyring::{IN_ETCD, restart_hint},
};
use crate::{
    durable::DurableError,
    keeper::{EncodeRecordError, InitError, RestoreError, SetUpError},
    keyring::{KeyError, restore::RestoreKeysError},
    probe::ProbeError,
};

/// The hint if the keyring was written and a later step failed.
const CHECK_IT: &str = "check it, with the same --state-dir: claviger status";

impl Explain for InitError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Unfinished(dir) => refused(&restart_hint(dir)),
            Self::Record(EncodeRecordError::TooLong(_)) => refused("give fewer recovery recipients"),
            Self::Record(error) => error.explain(),
            Self::SetUp(SetUpError::BrokenOff(error)) => {
                error.explain().with_hint("fix that, then run the same `init` again with --restart; nothing was lost")
            }
            Self::SetUp(error) => error.explain(),
            Self::Seal(error) => error.explain(),
            Self::Untried(error) => error.explain(),
            Self::Keyring(KeyError::Secret(error)) | Self::Memory(error) => error.explain(),
            Self::Keyring(KeyError::Random(_)) | Self::Random(_) => refused(RANDOM),
        }
    }
}

impl Explain for SetUpError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Exists(dir) => refused(&format!("check it: claviger status --state-dir {}", quoted(dir))),
            Self::File(DurableError::Exists(_)) => {
                refused("it may be another keyring's: move it away, or give another --slot-file")
            }
            // At a set-up no file can be damaged yet: the missing path is a directory.
            Self::File(DurableError::Missing(path)) => refused(&make_directory(path)),
            Self::File(error) => error.explain(),
            Self::NotBegun(error) => error.explain(),
            Self::BrokenOff(error) => {
                error.explain().with_hint("fix that, then run the same command again; nothing was lost")
            }
            Self::NotConfirmed(error) => error.explain().with_hint(CHECK_IT),
            Self::NotMarked(error) => error.explain().with_hint(CHECK_IT),
            Self::DoesNotOpen(error) => error.explain().with_hint(CHECK_IT),
            Self::Slot(error) => error.explain(),
            Self::Memory(error) => error.explain(),
        }
    }
}

impl Explain for LivePluginError {
    fn explain(&self) -> Explanation {
        match self {
            Self::NewKeyring { .. } => refused(
                "a new keyring does not read what is encrypted: restore a backup instead, and let the plugin run; `claviger \
                 status` says how; if nothing is encrypted that you need: --risk-unreadable-secrets",
            ),
            Self::OtherKeyring { .. } => refused(
                "restore a backup of the keyring that the plugin serves; or, if you mean this one, give another --state-dir, or \
                 stop the plugin first: what it encrypted is then unreadable",
            ),
            Self::TakeOver { .. } => refused(
                "serve from the directory of its keyring, which `claviger status` names; or give this keyring another --socket",
            ),
            Self::TakeOverBeside { .. } => refused(
                "to restart the plugin of this directory, give its socket, which its log line `listening` names: --socket SOCKET; \
                 to serve from this directory at the given socket, end that plugin first",
            ),
            Self::Unanswered { error, .. } => refused(&unanswered_hint(error)),
        }
    }
}

/// Returns the hint for a plugin that does not answer.
fn unanswered_hint(error: &ProbeError) -> String {
    let first = match error {
        ProbeError::Denied | ProbeError::Status(Code::PermissionDenied, _) => {
            "run the command as root, or as the plugin's user"
        }
        ProbeError::Impostor(_) => "this user is not the plugin's: find out which process listens there, and end it",
        _ => "see how the plugin is: claviger status; repeat the command when it answers",
    };
    format!("{first}; if the plugin of this keyring listens elsewhere, give that --socket")
}

#[cfg(feature = "scan")]
const PROOF: &str = "give --expect with what `backup create` or `status` printed where the keyring was; or show which \
                     keys are needed: --snapshot FILE of etcd, or --etcd-servers URL";
#[cfg(not(feature = "scan"))]
const PROOF: &str = "give --expect with what `backup create` or `status` printed where the keyring was";

impl Explain for RestoreError {
    fn explain(&self) -> Explanation {
        match self {
            Self::SetUp(SetUpError::Exists(_)) => refused(
                "to merge into the keyring that is there, omit --slot-file; to restore beside it, give another \
                     --state-dir",
            ),
            Self::Unproven => refused(PROOF),
            Self::NothingNeeded => {
                refused("give --expect with what `backup create` or `status` printed where the keyring was")
            }
            Self::Lacks(_) => refused(
                "use a newer backup. To use several: first restore this one with --expect and without --snapshot and \
                     --etcd-servers; then run `claviger backup restore FILE …` with the others, which merges them",
            ),
            Self::HoldsNone(_) => refused(
                "this is a backup of another keyring, or it was made before these keys: `claviger backup check FILE` shows the keys of \
                 a backup; use one that has them",
            ),
            Self::Expect(_) => refused("restore the backup that this line `expect` was printed for"),
            Self::HomeInEtcd(_) => refused(IN_ETCD),
            Self::Keyring(RestoreKeysError::Unknown(_)) => {
                refused("name a key of the backup: claviger backup check FILE")
            }
            Self::Keyring(RestoreKeysError::Make(error)) => error.explain(),
            Self::Backup(error) => error.explain(),
            Self::Recipient(error) => error.explain(),
            Self::NoRecipient => refused("give the identity of a recipient: --recovery-identity FILE"),
            Self::Record(EncodeRecordError::TooLong(_)) | Self::Ledger(_) => with(Exit::Damaged, "use another backup"),
            Self::Record(error) => error.explain(),
            Self::SetUp(error) => error.explain(),
        }
    }
}
