//! Hints for the operations that change one key.

use super::{
    exit::{Exit, Explain, Explanation, refused},
    files::RANDOM,
    keyring::NEW_KEYRING,
    operations::ID_DIGITS,
};
use crate::{
    crypto::Digest,
    keeper::{AddKeyError, DestroyKeyError, DisableKeyError, EnableKeyError, PromoteKeyError, UsageDoubt},
    keyring::{
        ChangeKeyError, ChangePrimaryError, ChangeRecipientError, KeyError, MakeKeyError, RewrapError,
        state::{State, Verb},
    },
    plan::{CountDoubt, Unsettled},
};

impl Explain for AddKeyError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Begin(error) => error.explain(),
            Self::Refused(error) => error.explain(),
            Self::Commit(error) => error.explain(),
        }
    }
}

impl Explain for PromoteKeyError {
    fn explain(&self) -> Explanation {
        match self {
            Self::GivenUp(_) => refused("see how the keyring is: claviger status"),
            Self::Plan(error) => error.explain(),
            Self::Begin(error) => error.explain(),
            Self::Refused(error) => error.explain(),
            Self::Unbacked { ledger: Some(error), .. } => Explanation { exit: Exit::Refused, ..error.explain() },
            Self::Unbacked { ledger: None, .. } => refused(
                "write a backup to another disk: claviger backup create FILE; or open an existing one: claviger backup check FILE; \
                 --without-backup skips this check",
            ),
            Self::Commit(error) => error.explain(),
        }
    }
}

impl Explain for DisableKeyError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Begin(error) => error.explain(),
            Self::Refused(error) => error.explain(),
            Self::Needed { key_id, .. } => refused(&write_again(&format!("claviger key disable {key_id}"))),
            Self::Unproven { key_id, reason } => refused(&format!(
                "{}; --risk-unreadable-secrets skips this check, and `claviger key enable {key_id}` undoes it",
                find_out(&format!("claviger key disable {key_id}"), reason)
            )),
            Self::Commit(error) => error.explain(),
        }
    }
}

impl Explain for EnableKeyError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Begin(error) => error.explain(),
            Self::Refused(error) => error.explain(),
            Self::Commit(error) => error.explain(),
        }
    }
}

impl Explain for DestroyKeyError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Begin(error) => error.explain(),
            Self::Refused(error) => error.explain(),
            Self::LedgerLost { .. } | Self::Forgotten { .. } => refused(LISTED_ONCE),
            Self::InSnapshot { id, .. } => refused(&in_snapshot(*id)),
            Self::Needed { key_id, .. } => refused(&write_again(&format!("claviger key destroy {key_id}"))),
            Self::Unproven { key_id, reason } => refused(&format!(
                "{}; --risk-losing-secrets skips this check, and what is under the key is then lost for ever",
                find_out(&format!("claviger key destroy {key_id}"), reason)
            )),
            Self::Commit(error) => error.explain(),
        }
    }
}

impl Explain for ChangePrimaryError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Key(error) => error.explain(),
            Self::Compromised(_) => refused("add another key, and promote that one: claviger key add"),
        }
    }
}

impl Explain for ChangeKeyError {
    fn explain(&self) -> Explanation {
        let hint = match self {
            Self::UnknownKey(_) => "name one that `claviger key list` shows",
            Self::Destroyed { verb: Verb::Disable | Verb::Destroy, .. } => {
                "nothing has to be done: its bytes are gone, and only `claviger key list` still shows it"
            }
            Self::Destroyed { .. } => {
                "its bytes are gone here; a backup from before may still hold the key: `claviger \
                 backup list` shows which one does, and `claviger backup check FILE` shows the keys in a file; to bring the key back: \
                 claviger backup restore FILE"
            }
            Self::State { state: State::Primary, verb: Verb::Disable | Verb::Destroy, .. } => {
                "promote another key first: claviger key add, then claviger key promote KEY"
            }
            Self::State { state: State::Primary, verb: Verb::Promote, .. } => {
                "nothing has to be done; for a newer primary key: claviger key add, then claviger key promote KEY"
            }
            Self::State { state: State::Disabled, verb: Verb::Disable, .. } => {
                "nothing has to be done: `claviger key list` shows it"
            }
            Self::State { verb: Verb::Enable, .. } => "nothing has to be done: the key unwraps already",
            Self::State { verb: Verb::Promote, .. } => {
                "only a pending key can be promoted; to replace the primary key, add a key and promote it: claviger key add"
            }
            Self::State { key_id, verb: Verb::Destroy, .. } => {
                return refused(&format!(
                    "disable it first, and destroy it after some days without failures: claviger key disable {key_id}"
                ));
            }
            Self::State { .. } => "`claviger key list` shows the state of each key",
            Self::LastGeneration(_) => NEW_KEYRING,
        };
        refused(hint)
    }
}

impl Explain for MakeKeyError {
    fn explain(&self) -> Explanation {
        match self {
            Self::LastGeneration(_) | Self::LastSeq => refused(NEW_KEYRING),
            Self::Key(error) => error.explain(),
        }
    }
}

impl Explain for RewrapError {
    fn explain(&self) -> Explanation {
        match self {
            Self::LastGeneration(_) => refused(NEW_KEYRING),
            Self::Key(error) => error.explain(),
        }
    }
}

impl Explain for KeyError {
    fn explain(&self) -> Explanation {
        match self {
            Self::Secret(error) => error.explain(),
            Self::Random(_) => refused(RANDOM),
        }
    }
}

impl Explain for ChangeRecipientError {
    fn explain(&self) -> Explanation {
        refused(match self {
            Self::LastGeneration(_) => NEW_KEYRING,
            Self::Known(_) => "nothing has to be done: `claviger recovery list` shows it",
            Self::Unknown(_) => "name one that `claviger recovery list` shows",
        })
    }
}

/// Returns the hint for objects that are under a key. `command` is the one to repeat.
fn write_again(command: &str) -> String {
    let leave = format!(
        "; to leave an object that no key opens, or whose kind the API server does not serve: {command} --leave ETCD_KEY"
    );
    format!("{WRITE_AGAIN}{}", if cfg!(feature = "recover") { &leave } else { "" })
}

const WRITE_AGAIN: &str = if cfg!(feature = "reencrypt") {
    "to see which objects: claviger scan; to re-encrypt them: claviger reencrypt"
} else {
    "to see which objects: claviger scan; to re-encrypt Secrets: kubectl get secrets --all-namespaces -o json | \
     kubectl replace -f -"
};

/// The hint if a lost ledger may have listed snapshots that need the key.
const LISTED_ONCE: &str =
    "keep the key disabled; if you keep no snapshot of etcd that the lost ledger listed: --risk-losing-secrets";

/// Returns the hint for a key that the snapshot with this ID needs.
fn in_snapshot(id: Digest) -> String {
    let id: String = id.to_hex().chars().take(ID_DIGITS).collect();
    format!(
        "if the snapshot is not kept any more: claviger backup forget {id}; to see all of them: claviger backup list; \
         --risk-losing-secrets skips this check"
    )
}

/// Returns the hint for API servers that may still write under another key than the primary one. `again` is the
/// command to repeat.
fn unsettled_hint(again: &str, unsettled: &Unsettled) -> String {
    match unsettled {
        Unsettled::ApiServers { .. } => format!("to wait for that: {again} --wait"),
        Unsettled::Quiet(_) => {
            format!("to wait for that: {again} --wait; if no API server runs: {again} --api-servers 0")
        }
        Unsettled::NoConnection(_) => {
            format!("to wait for one that runs: {again} --wait; if none runs: {again} --api-servers 0")
        }
        Unsettled::History(before) => format!(
            "API servers compact etcd every five minutes, and keep the revisions of the last five: to wait for that: {again} --wait; \
             if none runs, compact it yourself: etcdctl --endpoints URL compact {}",
            before.revision
        ),
        Unsettled::ServesAnother(_) => {
            format!("to wait until it takes up the change: {again} --wait; to see how it is: claviger status")
        }
        Unsettled::NotServed(_) => {
            format!(
                "to wait for it: {again} --wait; to see how it is: claviger status; if no API server runs: {again} --api-servers 0"
            )
        }
    }
}

/// Returns the hint for a count of the API servers that stops a rotation or keeps a key. `again` is the command to
/// repeat.
pub(in crate::cli) fn miscounted(again: &str, doubt: CountDoubt) -> String {
    match doubt {
        CountDoubt::Unknown => format!("if you know how many there are: {again} --api-servers NUMBER"),
        CountDoubt::TooMany { .. } => format!(
            "one keyring file serves one API server, and a plugin with a copy of the file does not follow its changes; if fewer API servers run: {again} --api-servers NUMBER"
        ),
        CountDoubt::Counted(_) | CountDoubt::Connected(_) => "run it without --api-servers 0".to_owned(),
        CountDoubt::TooManyConnected { .. } => "see who is connected: claviger status".to_owned(),
    }
}

/// Returns how to find out whether a key is in use. `again` is the command to repeat.
fn find_out(again: &str, reason: &UsageDoubt) -> String {
    let hint = match reason {
        #[cfg(not(feature = "scan"))]
        UsageDoubt::CannotScan => "scan with a claviger that was built with its feature `scan`",
        UsageDoubt::PluginSilent(_) | UsageDoubt::NotReported => {
            "see what the plugin answers, as root or as the user that it runs as: claviger status"
        }
        UsageDoubt::OtherSocket(_) => {
            "name the socket of that plugin, which the log line `listening` shows: --socket SOCKET"
        }
        UsageDoubt::Unsettled(unsettled) => &unsettled_hint(again, unsettled),
        UsageDoubt::Count(doubt) => &miscounted(again, *doubt),
        UsageDoubt::KeyringChanged | UsageDoubt::SnapshotForgotten => "run it again",
        UsageDoubt::NotRead | UsageDoubt::NotDeclared | UsageDoubt::Incomplete(_) => READ_ALL,
    };
    hint.to_owned()
}

const READ_ALL: &str =
    "say where etcd is: --etcd-servers URL, or --apiserver-manifest FILE; to test that: claviger scan";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_key_that_no_api_server_may_use_is_given_up_at_once() {
        let hint = unsettled_hint("claviger key disable k1", &Unsettled::Quiet(Duration::from_secs(220)));
        let expected = "to wait for that: claviger key disable k1 --wait; if no API server runs: claviger key disable k1 --api-servers 0";
        assert_eq!(hint, expected);
    }
}
