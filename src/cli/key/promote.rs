//! `claviger key promote`: makes a key primary, and optionally waits until the API servers have adopted it.

use crate::{
    cli::{
        Global, Site, Socket,
        adoption::{self, Awaited},
        backup_file::create_command,
        failure::{Exit, Failure},
        output,
        rotation::check_promotion,
    },
    config::Settings,
    keeper::{self, BackedUp, PromoteKeyError, Promotion},
    keyring::{Keyring, time::Time},
};

use super::{
    change::{CREATE, end, report_change},
    name::{KeyArg, named},
};

/// The operator's wishes for a promotion.
#[derive(Clone, Copy)]
pub(super) struct PromotionWishes {
    pub(super) backed_up: BackedUp,
    pub(super) despite_rotation: bool,
}

pub(super) fn promote(
    KeyArg { key, keyring }: KeyArg,
    PromotionWishes { backed_up, despite_rotation }: PromotionWishes,
    wait: Option<Socket>,
    global: &Global,
) -> Result<Exit, Failure> {
    let is_waiting = wait.is_some();
    let socket = wait.and_then(|Socket { socket }| socket);
    let site = Site::find(Settings { socket, ..keyring.settings() }, global)?;
    let opened = site.open()?;
    let keyring = &opened.keyring;
    let key_id = named(keyring, &key)?;
    if !despite_rotation {
        check_promotion(&site, &opened, key_id)?;
    }
    let change = || {
        let now = Time::new(jiff::Timestamp::now());
        let promotion = Promotion { key_id, backed_up, compromised_up_to: None, rotation: None };
        keeper::promote_key(&site.dir, &site.means, promotion, now).map_err(|error| refused(error, keyring))
    };
    if !is_waiting {
        return Ok(end(&change()?, Some(&promoted()), global));
    }
    let generation = if keyring.primary().id() == key_id {
        keyring.generation()
    } else {
        let now = Time::new(jiff::Timestamp::now());
        // A key that cannot be promoted is refused whether or not a plugin answers.
        let possible = keyring.promote(key_id, opened.digest, now);
        possible.map_err(|error| refused(PromoteKeyError::Refused(error), keyring))?;
        adoption::check(&site.config)?;
        let changed = change()?;
        report_change(&changed, Some(BACK_UP), global);
        changed.keyring.generation()
    };
    adoption::wait(&site.config, &Awaited { key_id, generation }, global)?;
    Ok(output::end_change(output::advice(REWRITE, global), global))
}

pub(super) fn backed_up(waived: bool) -> BackedUp {
    if waived { BackedUp::Waived } else { BackedUp::Required }
}

/// Returns the failure of a promotion. If `keyring` has no recovery recipient, the suggested backup command names a
/// recipient.
fn refused(error: PromoteKeyError, keyring: &Keyring) -> Failure {
    let is_unbacked = matches!(error, PromoteKeyError::Unbacked { ledger: None, .. });
    let failure = Failure::from(error);
    let hint = failure.hint().filter(|_| is_unbacked).map(|hint| hint.replace(CREATE, create_command(keyring)));
    failure.with_any_hint(hint)
}

const BACK_UP: &str = "next: make a backup in which this key is primary: claviger backup create FILE";

const REWRITE: &str = if cfg!(feature = "reencrypt") {
    "then: re-encrypt what is under older keys: claviger reencrypt"
} else {
    "then: write every Secret once, and every object of the other resources that are encrypted: kubectl get secrets \
     --all-namespaces -o json | kubectl replace -f -"
};

/// Returns the hint after a key was promoted.
fn promoted() -> String {
    format!("{BACK_UP}\nthen: wait until `claviger status` shows that every API server uses the key\n{REWRITE}")
}
