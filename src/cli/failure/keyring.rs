//! Hints for what is wrong with a keyring, its root file and its slots, its recovery recipients, or a backup of it.

use std::{io, path::Path};

use super::{
    super::given::quoted,
    exit::{Exit, Explain, Explanation, refused, with},
    files::{RANDOM, RESTORE, RESTORE_INSTEAD, io_hint, root_lost, secret_lost},
};
#[cfg(feature = "shares")]
use crate::escrow::{CombineError, SplitError};
use crate::{
    crypto::stretch::StretchError,
    durable::DurableError,
    escrow::{IdentityError, NotRecipient, OpenBackupError, OpenRecoveryError, SealBackupError, SealRecoveryError},
    keeper::OpenError,
    keyring::{mark::MarkError, record::RecordError},
    root::{DropSlotError, NoSuchSlot, PutSlotError, ResealError, RootError, SlotError},
    store::StoreError,
    text::TextError,
};

/// The hint for a defect of this build that has changed nothing.
pub(super) const DEFECT: &str = "this is a defect of claviger: report it; nothing was changed";

/// The hint for a root file that belongs to another keyring.
pub(super) const RIGHT_PAIR: &str =
    "the files `root` and `keyring` belong to different keyrings; put both back from one copy of the state directory";

pub(super) const IN_ETCD: &str =
    "this version does not support keyrings that are kept in etcd: use the newer version of claviger that put it there";

/// The hint for a keyring that has no numbers left.
pub(super) const NEW_KEYRING: &str = "make a new keyring in another state directory: claviger init --state-dir DIR";

/// Returns the hint for a damaged mark.
pub(in crate::cli) fn damaged_mark(path: &Path) -> String {
    let path = quoted(path);
    format!(
        "put your copy of it back; if there is none, move it away: mv {path} {path}.damaged; without a mark, `claviger status` says how to \
         see whether the keyring is the newest, and how a plugin makes the mark again"
    )
}

fn init_hint(state_dir: &Path) -> String {
    format!(
        "if this node had a keyring, encrypted Secrets need its keys: put its files back into {}, or restore a backup: claviger \
         backup restore FILE; on a new node see `claviger init --help`",
        state_dir.display()
    )
}

pub(super) fn restart_hint(state_dir: &Path) -> String {
    format!(
        "no key is in use yet; if `init` was interrupted, run it again with --restart; if `backup restore` \
         was, run it again; both with --state-dir {}",
        quoted(state_dir)
    )
}

impl Explain for OpenError {
    fn explain(&self) -> Explanation {
        match self {
            Self::NotInitialised(dir) | Self::StateDir(DurableError::Missing(dir)) => refused(&init_hint(dir)),
            Self::Unfinished(dir) => with(Exit::Damaged, &restart_hint(dir)),
            Self::MissingRoot(_) => with(Exit::Damaged, &root_lost()),
            Self::MissingRecord(_)
            | Self::File(DurableError::TooLong { .. })
            | Self::Store(StoreError::File(DurableError::TooLong { .. })) => with(Exit::Damaged, RESTORE),
            Self::File(error) | Self::StateDir(error) => error.explain(),
            Self::Store(error) => error.explain(),
            Self::Root { source, .. } => source.explain(),
            Self::Record { source, .. } => source.explain(),
            Self::Mark { path, source } => mark(source, path),
            Self::Memory(error) => error.explain(),
        }
    }
}

impl Explain for RootError {
    fn explain(&self) -> Explanation {
        match self {
            Self::File(DurableError::Missing(_) | DurableError::TooLong { .. })
            | Self::NotCanonical(_)
            | Self::OldRootKey => with(Exit::Damaged, &root_lost()),
            Self::File(error) => error.explain(),
            Self::Text(error @ TextError::TooNew { .. }) => error.explain(),
            Self::Text(error) => error.explain().with_hint(&root_lost()),
            Self::NoSlotOpens(failures) => no_slot_opens(failures),
            Self::OtherRootKey(_) => with(Exit::WrongKey, &root_lost()),
            Self::Memory(error) => error.explain(),
        }
    }
}

impl Explain for NoSuchSlot {
    fn explain(&self) -> Explanation {
        refused("name one that `claviger slot list` shows")
    }
}

impl Explain for PutSlotError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Exists(name) => refused(&format!(
                "give it another --name, or remove that one first: claviger slot remove {}",
                quoted(name)
            )),
            Self::Unreadable(RootError::Memory(error)) => error.explain(),
            Self::Unreadable(_) => refused(DEFECT),
        }
    }
}

impl Explain for DropSlotError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Unknown(error) => error.explain(),
            Self::Last(_) => refused("add another one first: claviger slot add --help"),
            Self::Memory(error) => error.explain(),
        }
    }
}

impl Explain for ResealError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Slot(_, error) => {
                let secret = match error {
                    SlotError::NoPassphrase | SlotError::WrongPassphrase => {
                        "give its passphrase: --passphrase-file FILE, or run it on a terminal"
                    }
                    _ => "make its secret available",
                };
                error.explain().with_hint(&format!("{secret}; or remove the slot; nothing was changed"))
            }
            Self::Root(error) => error.explain(),
            Self::Memory(error) => error.explain(),
        }
    }
}

/// Whether the hint for `error` ends with restoring a backup in place of the state directory.
pub(super) fn offers_restore(error: &OpenError) -> bool {
    match error {
        OpenError::MissingRoot(_) => true,
        OpenError::Root { source, .. } => match source {
            RootError::NoSlotOpens(slots) => slots.iter().any(|(_, error)| is_secret_lost(error)),
            RootError::Text(error) => !matches!(error, TextError::TooNew { .. }),
            RootError::File(error) => matches!(error, DurableError::Missing(_) | DurableError::TooLong { .. }),
            RootError::NotCanonical(_) | RootError::OldRootKey | RootError::OtherRootKey(_) => true,
            _ => false,
        },
        _ => false,
    }
}

/// Whether the secret of the slot may be lost for ever.
fn is_secret_lost(error: &SlotError) -> bool {
    match error {
        SlotError::File(error) => matches!(error, DurableError::Missing(_) | DurableError::TooLong { .. }),
        SlotError::SecretLength { .. } | SlotError::Malformed(_) | SlotError::WrongKey | SlotError::WrongPassphrase => {
            true
        }
        _ => false,
    }
}

/// Returns a hint for each slot, the easiest repair first. The exit code is that of the first slot.
fn no_slot_opens(failures: &[(String, SlotError)]) -> Explanation {
    let mut causes: Vec<(&str, Explanation)> =
        failures.iter().map(|(name, error)| (name.as_str(), error.explain())).collect();
    let exit = causes.first().map_or(Exit::Damaged, |(_, cause)| cause.exit);
    if let [(_, cause)] = causes.as_slice() {
        return cause.clone();
    }
    // Sorts by exit code: a refusal can be repaired in place, a wrong secret may be found, and a lost file needs a
    // backup.
    causes.sort_by_key(|(_, cause)| cause.exit as u8);
    let mut hints: Vec<(String, String)> = Vec::new();
    for (name, cause) in causes {
        let Some(hint) = cause.hint else { continue };
        match hints.iter_mut().find(|(_, known)| *known == hint) {
            Some((names, _)) => *names = format!("{names}, {name}"),
            None => hints.push((name.to_owned(), hint)),
        }
    }
    let hints: Vec<String> = hints.iter().map(|(names, hint)| format!("slot {names}: {hint}")).collect();
    Explanation { exit, hint: (!hints.is_empty()).then(|| hints.join("; or ")) }
}

impl Explain for SlotError {
    fn explain(&self) -> Explanation {
        match self {
            Self::File(DurableError::Missing(_) | DurableError::TooLong { .. }) | Self::SecretLength { .. } => {
                with(Exit::Damaged, &secret_lost())
            }
            Self::Malformed(_) => with(Exit::Damaged, &root_lost()),
            Self::CredentialName(_) => with(Exit::Usage, "give it another name: --credential NAME"),
            Self::File(error) => error.explain(),
            Self::WrongKey => with(
                Exit::WrongKey,
                &format!(
                    "the slot's secret belongs to another root file, or the file `root` is damaged; put the right one back; if it is lost, and no other slot opens: \
                     {RESTORE_INSTEAD}"
                ),
            ),
            Self::NoPassphrase => refused("give --passphrase-file FILE, or run it on a terminal"),
            Self::WrongPassphrase => with(
                Exit::WrongKey,
                &format!(
                    "run it again with the right passphrase; if nobody knows it, another slot may open: claviger slot test; if none does: \
                     {RESTORE_INSTEAD}"
                ),
            ),
            Self::NoCredentials(_) => {
                refused("systemd gives it to the unit: see what `claviger generate systemd-credential` prints")
            }
            Self::Credential { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                refused("see what `claviger generate systemd-credential` prints")
            }
            Self::Credential { source, .. } => io_hint(source),
            Self::CredentialLength { .. } => refused("a credential is a key: head -c 32 /dev/urandom makes one"),
            Self::Stretch(StretchError::Argon2(_)) => refused(DEFECT),
            Self::Stretch(StretchError::NoRoom(_)) => refused("free some memory, or use another slot"),
            Self::Unsupported(_) => refused("use a build that has this kind of slot"),
            Self::Memory(error) | Self::Stretch(StretchError::Memory(error)) => error.explain(),
            Self::Random(_) => refused(RANDOM),
            Self::Passphrase(_) => refused("correct the passphrase file, or name another one: --passphrase-file FILE"),
        }
    }
}

impl Explain for RecordError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Text(error) => error.explain(),
            Self::Origin(_) => with(Exit::WrongKey, RIGHT_PAIR),
            Self::Memory(error) => error.explain(),
            Self::Kek(_) | Self::Commitment(_) | Self::Primaries(_) | Self::Order | Self::NotCanonical(_) => {
                with(Exit::Damaged, RESTORE)
            }
        }
    }
}

/// Whether the mark itself is damaged, and not the keyring that it is compared with.
pub(in crate::cli) fn is_mark_damaged(error: &OpenError) -> bool {
    let OpenError::Mark { source, .. } = error else { return false };
    match source {
        MarkError::Text(error) => !matches!(error, TextError::TooNew { .. }),
        MarkError::NotCanonical(_) => true,
        _ => false,
    }
}

/// Explains a fault of the mark in the file `path`, or of a keyring that does not follow from the mark.
fn mark(error: &MarkError, path: &Path) -> Explanation {
    match error {
        MarkError::Text(error @ TextError::TooNew { .. }) => error.explain(),
        MarkError::Text(error) => error.explain().with_hint(&damaged_mark(path)),
        MarkError::NotCanonical(_) => with(Exit::Damaged, &damaged_mark(path)),
        MarkError::TooFarAhead { .. } => refused(
            "if you trust this keyring, start `claviger serve --expect EXPECT` once; EXPECT is the line `expect` of `claviger status` \
             where the keyring was changed last",
        ),
        MarkError::RolledBack { .. }
        | MarkError::Forked(_)
        | MarkError::NoSuccessor { .. }
        | MarkError::KeyLost { .. } => refused(
            "this is an older copy or a fork of the keyring: put the newest copy of the state directory back, or merge a backup: claviger backup restore FILE",
        ),
        MarkError::Origin(_) => with(
            Exit::WrongKey,
            "the file `mark` belongs to another keyring; put the files of one copy of the state directory back",
        ),
        MarkError::Memory(error) => error.explain(),
    }
}

impl Explain for SealRecoveryError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Seal(_) | Self::TooLong(_) => refused(DEFECT),
        }
    }
}

impl Explain for OpenRecoveryError {
    fn explain(&self) -> Explanation {
        match self {
            Self::NoIdentity(_) => with(
                Exit::WrongKey,
                "give the identity of each recipient that you name, with --recovery-identity; it is read once and never stored",
            ),
            Self::Damaged(_) | Self::Contents(_) => {
                with(Exit::Damaged, "use another backup, or the identity of another recipient")
            }
            Self::Memory(error) => error.explain(),
        }
    }
}

impl Explain for NotRecipient {
    fn explain(&self) -> Explanation {
        match self {
            Self::Identity => with(
                Exit::Usage,
                "`age-keygen -y FILE` prints the recipient of the identity in FILE. The identity may now be in your shell's history and \
                 in the process list: if somebody may have seen it, make a new one",
            ),
            _ => {
                with(Exit::Usage, "`age-keygen` makes an identity and prints its recipient; keep the identity offline")
            }
        }
    }
}

impl Explain for IdentityError {
    fn explain(&self) -> Explanation {
        match self {
            #[cfg(feature = "shares")]
            Self::Share(error) => error.explain(),
            #[cfg(not(feature = "shares"))]
            Self::NoShares => with(Exit::Usage, "build claviger with its feature `shares`"),
            Self::NotIdentity => with(
                Exit::Usage,
                "give the file that `age-keygen -o FILE` wrote when it printed the recipient; the recipient, age1…, opens nothing",
            ),
        }
    }
}

#[cfg(feature = "shares")]
impl Explain for CombineError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Damaged(_) => {
                with(Exit::Damaged, "compare it with the paper, character by character; or use another share")
            }
            Self::TooFew { .. } => {
                with(Exit::Usage, "give more: --recovery-identity FILE for each, or all in one file")
            }
            Self::Mixed(_) => with(Exit::Usage, "give shares of one set: its name is in the comment above each"),
            Self::Twice(_) => with(Exit::Usage, "give another one in its place"),
            Self::Other(_) => with(Exit::WrongKey, "one of them is not genuine: try others"),
        }
    }
}

#[cfg(feature = "shares")]
impl Explain for SplitError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Counts { .. } => with(Exit::Usage, "for example: --shares 5 --threshold 3"),
            Self::Identity => with(Exit::Usage, "give a file with one identity: --recovery-identity FILE"),
            Self::Random(_) => refused(RANDOM),
        }
    }
}

impl Explain for SealBackupError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Tar(_) | Self::Seal(_) => refused(DEFECT),
        }
    }
}

impl Explain for OpenBackupError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Foreign => {
                with(Exit::Damaged, "give a file that `backup create` wrote, or a copy of a file `keyring`")
            }
            Self::NoIdentity => with(Exit::WrongKey, "give the identity of one of its recipients"),
            Self::NoBlobs => {
                with(Exit::WrongKey, "use a backup; only the slots of its own state directory open this keyring")
            }
            Self::NoRecovery => with(Exit::WrongKey, "use a backup, or the identity of one of its recipients"),
            Self::Damaged | Self::Contents(_) => with(Exit::Damaged, "use another backup"),
            Self::Record(error) => error.explain().with_hint("use another backup"),
            Self::Recovery(error) => error.explain(),
            Self::Memory(error) => error.explain(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    #[cfg(feature = "shares")]
    use crate::memory::testing::no_random;

    #[cfg(feature = "shares")]
    #[test]
    fn a_random_source_that_fails_is_a_refusal_wherever_it_fails() {
        let split = SplitError::Random(no_random()).explain();
        assert_eq!(split, refused(RANDOM));
        assert_eq!(split, SlotError::Random(no_random()).explain());
    }

    #[test]
    fn the_hint_names_what_mends_each_slot_with_the_most_hopeful_first() {
        let lost = |name: &str| (name.to_owned(), SlotError::File(DurableError::Missing("/mnt/key".into())));
        let failures = vec![
            lost("disk"),
            ("typed".to_owned(), SlotError::WrongPassphrase),
            ("asked".to_owned(), SlotError::NoPassphrase),
        ];
        let hint = |error: &SlotError| error.explain().hint.unwrap();
        let expected = format!(
            "slot asked: {}; or slot typed: {}; or slot disk, stick: {}",
            hint(&SlotError::NoPassphrase),
            hint(&SlotError::WrongPassphrase),
            secret_lost()
        );
        let failures = failures.into_iter().chain([lost("stick")]).collect();
        assert_eq!(RootError::NoSlotOpens(failures).explain(), with(Exit::Damaged, &expected));
        assert_eq!(RootError::NoSlotOpens(vec![lost("disk")]).explain(), with(Exit::Damaged, &secret_lost()));
    }

    #[test]
    fn a_merge_adds_the_way_of_a_restore_to_the_hints_that_lack_it() {
        let root = |source| OpenError::Root { path: "root".into(), source };
        let slot = |error| root(RootError::NoSlotOpens(vec![("a".to_owned(), error)]));
        let missing = || DurableError::Missing("file".into());
        let mode = || DurableError::Mode { path: "file".into(), mode: 0o644, expected: 0o600 };
        let errors = [
            OpenError::MissingRoot("/st/root".into()),
            OpenError::MissingRecord("/st/keyring".into()),
            root(RootError::OldRootKey),
            root(RootError::File(missing())),
            root(RootError::File(mode())),
            root(RootError::Text(TextError::Incomplete)),
            slot(SlotError::File(missing())),
            slot(SlotError::File(mode())),
            slot(SlotError::WrongKey),
            slot(SlotError::WrongPassphrase),
            slot(SlotError::NoPassphrase),
        ];
        for error in errors {
            let hint = error.explain().hint.unwrap();
            assert_eq!(offers_restore(&error), hint.contains(RESTORE_INSTEAD), "{error}: {hint}");
        }
    }
}
