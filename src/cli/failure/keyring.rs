//! Hints for what is wrong with a keyring, its root file and its slots, its recovery recipients, or a backup of it.

use std::{io, path::Path};

use super::{
    exit::{Exit, Explain, Explanation},
    files::{RANDOM, RESTORE, durable, io_hint, memory, store, text},
};
#[cfg(feature = "shares")]
use crate::escrow::ShareError;
use crate::{
    durable::DurableError,
    escrow::{BackupError, RecoveryError},
    keeper::OpenError,
    keyring::{
        ChangeError, KeyError,
        mark::MarkError,
        record::RecordError,
        state::{State, Verb},
    },
    root::{RootError, SlotError},
    store::StoreError,
    text::TextError,
};

pub(super) const SHARED: &str =
    "this version does not support keyrings that are kept in etcd: use the newer version of claviger that put it there";

const MARK: &str = "move it away and start `claviger serve --expect …` with what `claviger status` last printed here";

pub(super) fn look_hint(state_dir: &Path) -> String {
    format!("check it: claviger status --state-dir {}", state_dir.display())
}

fn init_hint(state_dir: &Path) -> String {
    format!(
        "if this node had a keyring, put its files back into {}: encrypted Secrets need its keys; on a new node \
         see `claviger init --help`",
        state_dir.display()
    )
}

pub(super) fn restart_hint(state_dir: &Path) -> String {
    format!(
        "no key is in use yet; if `claviger init` was interrupted, run it again with --restart; if `claviger backup \
         restore` was, run it again; both with --state-dir {}",
        state_dir.display()
    )
}

pub(super) fn open(error: &OpenError) -> Explanation {
    match error {
        OpenError::NotInitialised(_) => (Exit::Refused, None),
        OpenError::Unfinished(_) => (Exit::Damaged, None),
        OpenError::Missing(_)
        | OpenError::File(DurableError::TooLong { .. })
        | OpenError::Store(StoreError::File(DurableError::TooLong { .. })) => (Exit::Damaged, Some(RESTORE.to_owned())),
        OpenError::File(error) | OpenError::StateDir(error) => durable(error),
        OpenError::Store(error) => store(error),
        OpenError::Root { source, .. } => root(source),
        OpenError::Record { source, .. } => record(source),
        OpenError::Mark { source, .. } => mark(source),
        OpenError::Memory(error) => memory(error),
    }
}

pub(super) fn root(error: &RootError) -> Explanation {
    match error {
        RootError::File(error) => durable(error),
        RootError::Text(error) => text(error),
        RootError::NoSlotOpens(failures) => failures.first().map_or((Exit::Damaged, None), |(_, error)| slot(error)),
        RootError::OtherRootKey(_) => (Exit::WrongKey, Some(RESTORE.to_owned())),
        RootError::Reseal(_, error) => {
            (slot(error).0, Some("make its secret available, or remove the slot; nothing was changed".to_owned()))
        }
        RootError::SlotExists(_) => {
            (Exit::Refused, Some("give it another --name, or remove that one first: claviger slot remove".to_owned()))
        }
        RootError::NoSuchSlot(_) => (Exit::Refused, Some("name one that `claviger slot list` shows".to_owned())),
        RootError::LastSlot(_) => (Exit::Refused, Some("add another one first: claviger slot add --help".to_owned())),
        RootError::NoSuccessor => (Exit::WrongKey, Some("put the right files back".to_owned())),
        RootError::NotCanonical | RootError::OldRootKey => (Exit::Damaged, Some(RESTORE.to_owned())),
        RootError::Memory(error) => memory(error),
        RootError::Random(_) => (Exit::Refused, Some(RANDOM.to_owned())),
    }
}

pub(super) fn slot(error: &SlotError) -> Explanation {
    match error {
        SlotError::File(DurableError::Missing(_) | DurableError::TooLong { .. })
        | SlotError::SecretLength { .. }
        | SlotError::Malformed(_) => (Exit::Damaged, Some(RESTORE.to_owned())),
        SlotError::File(error) => durable(error),
        SlotError::WrongKey => {
            (Exit::WrongKey, Some("the slot's secret belongs to another root file; put the right one back".to_owned()))
        }
        SlotError::NoPassphrase => {
            (Exit::Refused, Some("give --passphrase-file FILE, or run it on a terminal".to_owned()))
        }
        SlotError::WrongPassphrase => (Exit::WrongKey, None),
        SlotError::NoCredentials(_) => (
            Exit::Refused,
            Some("systemd gives it to the unit: see what `claviger generate systemd-credential` prints".to_owned()),
        ),
        SlotError::Credential { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            (Exit::Refused, Some("see what `claviger generate systemd-credential` prints".to_owned()))
        }
        SlotError::Credential { source, .. } => io_hint(source),
        SlotError::CredentialLength { .. } => {
            (Exit::Refused, Some("a credential is a key: head -c 32 /dev/urandom makes one".to_owned()))
        }
        SlotError::Stretch(_) => (Exit::Refused, Some("free some memory, or use another slot".to_owned())),
        SlotError::Unsupported(_) => (Exit::Refused, Some("use a build that has this kind of slot".to_owned())),
        SlotError::Memory(error) => memory(error),
        SlotError::Random(_) => (Exit::Refused, Some(RANDOM.to_owned())),
        SlotError::Passphrase(_) => (Exit::Refused, None),
    }
}

fn record(error: &RecordError) -> Explanation {
    match error {
        RecordError::Text(error) => text(error),
        RecordError::OtherKeyring { .. } | RecordError::OtherRootKey => (
            Exit::WrongKey,
            Some("root file and keyring are of different installations; put the right pair back".to_owned()),
        ),
        RecordError::Memory(error) => memory(error),
        _ => (Exit::Damaged, Some(RESTORE.to_owned())),
    }
}

fn mark(error: &MarkError) -> Explanation {
    match error {
        MarkError::Text(error @ TextError::TooNew { .. }) => text(error),
        MarkError::Text(error) => (text(error).0, Some(MARK.to_owned())),
        MarkError::TooFarAhead { .. } => (
            Exit::Refused,
            Some(
                "if you trust this keyring, start `claviger serve --expect EXPECT` once; EXPECT is the line `expect` of `claviger \
                 status` where the keyring was changed last"
                    .to_owned(),
            ),
        ),
        MarkError::RolledBack { .. }
        | MarkError::Forked(_)
        | MarkError::NoSuccessor { .. }
        | MarkError::KeyLost { .. } => {
            (Exit::Refused, Some("this is an older copy or a fork of the keyring: put the newest copy of the state directory back, or merge a backup: claviger backup restore FILE".to_owned()))
        }
        MarkError::OtherKeyring { .. } | MarkError::OtherRootKey => {
            (Exit::WrongKey, Some("the mark is another installation's; put the right files back".to_owned()))
        }
        MarkError::NotCanonical => (Exit::Damaged, Some(MARK.to_owned())),
        MarkError::Memory(error) => memory(error),
    }
}

impl Explain for OpenError {
    fn explain(&self, state_dir: &Path) -> Explanation {
        match self {
            Self::NotInitialised(_) | Self::StateDir(DurableError::Missing(_)) => {
                (Exit::Refused, Some(init_hint(state_dir)))
            }
            Self::Unfinished(_) => (Exit::Damaged, Some(restart_hint(state_dir))),
            error => open(error),
        }
    }
}

pub(super) fn change(error: &ChangeError) -> Explanation {
    let hint = match error {
        ChangeError::UnknownKey(_) | ChangeError::Destroyed(_) => "name one that `claviger key list` shows",
        ChangeError::UnknownRecipient(_) => "name one that `claviger recovery list` shows",
        ChangeError::State { state: State::Primary, verb: Verb::Disable | Verb::Destroy, .. } => {
            "promote another key first: claviger key add, then claviger key promote"
        }
        ChangeError::State { verb: Verb::Promote, .. } => {
            "only a pending key is promoted; to go back, add a key and promote that one: claviger key add"
        }
        ChangeError::Compromised(_) => "add another key, and promote that one: claviger key add",
        ChangeError::State { verb: Verb::Destroy, .. } => {
            "disable it first, and destroy it when nothing has failed without it"
        }
        ChangeError::State { .. } => "`claviger key list` shows the state of each key",
        ChangeError::KnownRecipient(_) => "nothing has to be done: `claviger recovery list` shows it",
        ChangeError::Exhausted => "make a new keyring in another state directory: claviger init --state-dir DIR",
        ChangeError::Key(KeyError::Secret(error)) => return memory(error),
        ChangeError::Key(KeyError::Random(_)) => RANDOM,
    };
    (Exit::Refused, Some(hint.to_owned()))
}

pub(super) fn recovery(error: &RecoveryError) -> Explanation {
    match error {
        RecoveryError::Recipient(_) => pair(),
        RecoveryError::NoIdentity(_) => (
            Exit::WrongKey,
            Some(
                "give the identity of every recipient with --recovery-identity; it is read once and never stored"
                    .to_owned(),
            ),
        ),
        RecoveryError::Seal(_) | RecoveryError::Contents(_) => (Exit::Damaged, None),
        RecoveryError::Memory(error) => memory(error),
    }
}

/// What is no recipient and no identity.
pub(super) fn pair() -> Explanation {
    (Exit::Usage, Some("make a pair with `age-keygen`; keep the identity offline".to_owned()))
}

#[cfg(feature = "shares")]
pub(super) fn share(error: &ShareError) -> Explanation {
    let (exit, hint) = match error {
        ShareError::Damaged(_) => {
            (Exit::Damaged, "compare it with the paper, character by character; or use another share")
        }
        ShareError::TooFew { .. } => (Exit::Usage, "give more: --recovery-identity FILE for each, or all in one file"),
        ShareError::Mixed(_) => (Exit::Usage, "give shares of one set: its name is in the comment above each"),
        ShareError::Twice(_) => (Exit::Usage, "give another one in its place"),
        ShareError::Other(_) => (Exit::WrongKey, "one of them is not genuine: try others"),
        ShareError::Counts { .. } | ShareError::Identity | ShareError::Random => return (Exit::Usage, None),
    };
    (exit, Some(hint.to_owned()))
}

pub(super) fn backup(error: &BackupError) -> Explanation {
    match error {
        BackupError::Foreign => (Exit::Usage, None),
        BackupError::NoIdentity => (Exit::WrongKey, Some("give the identity of one of its recipients".to_owned())),
        BackupError::NoRecovery => {
            (Exit::WrongKey, Some("use a backup, or the identity of one of its recipients".to_owned()))
        }
        BackupError::Damaged | BackupError::Contents(_) => (Exit::Damaged, Some("use another backup".to_owned())),
        BackupError::Record(error) => (record(error).0, Some("use another backup".to_owned())),
        BackupError::Recovery(error) => recovery(error),
        BackupError::Memory(error) => memory(error),
    }
}
