//! `claviger key disable` and `claviger key destroy`: both ask `retire` first whether a value may still need the key.

use crate::{
    cli::failure::{Exit, Failure},
    keeper::{self, Opened, Usage, UsageDoubt},
    keyring::{
        Key,
        state::{State, Verb},
    },
};

use super::{
    change::end,
    retire::{self, GateArgs},
    retiring::Retiring,
};

/// Disables or destroys a key that nothing in etcd needs, or whose values the operator gives up.
pub(super) fn give_up(retiring: &Retiring<'_>, gates: &GateArgs, is_waived: bool) -> Result<Exit, Failure> {
    let Retiring { site, key, verb, global, .. } = *retiring;
    let opened = site.open()?;
    let is_pending = opened.keyring.keys().any(|one| one.id() == key && one.state() == State::Pending);
    let usage = if is_waived { Usage::Waived } else { usage(retiring, opened, gates)? };
    let (changed, next) = if verb == Verb::Destroy {
        (keeper::destroy_key(&site.dir, &site.means, key, &usage)?, DESTROYED)
    } else {
        (keeper::disable_key(&site.dir, &site.means, key, &usage)?, if is_pending { UNUSED } else { DISABLED })
    };
    Ok(end(&changed, Some(next), global))
}

/// Finds out whether values need the key. Skips this if the keyring refuses the change in any case.
fn usage(retiring: &Retiring<'_>, opened: Opened, gates: &GateArgs) -> Result<Usage, Failure> {
    let is_allowed = |key: &Key| key.id() == retiring.key && key.state().after(retiring.verb).is_some();
    if opened.keyring.keys().any(is_allowed) {
        retire::usage(retiring, opened, gates)
    } else {
        Ok(Usage::Unknown(UsageDoubt::NotRead))
    }
}

/// The hint after a key was disabled.
const DISABLED: &str = "an API server may go on reading what is under the key, by seeds that it has in memory, until it is \
                        restarted\nto go back: claviger key enable KEY_ID";

/// The hint after a pending key was disabled. No value is under it.
const UNUSED: &str = "it can never be promoted any more, because `key enable` makes it decrypt-only; to get another key: claviger key \
                      add; to remove it: claviger key destroy KEY_ID";

/// The note after a key was destroyed.
const DESTROYED: &str = "copies of the state directory and backups still contain it, wrapped under the root key";
