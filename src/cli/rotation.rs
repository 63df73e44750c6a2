//! Finds an unfinished rotation, and refuses the commands that would disturb it: promoting another key, and replacing
//! the root key.

use crate::{
    durable::Dir,
    keeper::{self, LoadPlanError, Opened},
    keyring::{Key, key_id::KeyId, state::Verb},
    plan::{Phase, ReadPlanError, RotationPlan},
};

use super::{
    Global, Site,
    failure::{Exit, Failure, warn},
};

/// The words in a hint before another way to continue.
const FINISH: &str = if cfg!(feature = "reencrypt") { "finish it: claviger rotate; or " } else { "" };

/// Another way out for a rotation whose key is not primary yet.
const GIVE_UP: &str = if cfg!(feature = "reencrypt") { "give it up: claviger rotate --give-up; or " } else { "" };

/// Refuses to promote a key while a rotation to another key is unfinished. Does not refuse a key that cannot be
/// promoted anyway: the promotion itself does.
///
/// # Errors
/// When such a rotation is unfinished, or its plan cannot be read.
pub(super) fn check_promotion(site: &Site, opened: &Opened, key_id: KeyId) -> Result<(), Failure> {
    let can_be_promoted = |key: &Key| key.state().after(Verb::Promote).is_some() && !key.is_compromised();
    if !opened.keyring.keys().any(|key| key.id() == key_id && can_be_promoted(key)) {
        return Ok(());
    }
    let Some(plan) = unfinished(&site.dir, opened)?.filter(|plan| plan.key != Some(key_id)) else { return Ok(()) };
    let message = format!("{}, so no other key is promoted", described(&plan));
    let give_up = if plan.phase == Phase::Prepare { GIVE_UP } else { "" };
    let hint =
        format!("{FINISH}{give_up}promote the key all the same: claviger key promote {key_id} --despite-rotation");
    Err(Failure::new(Exit::Refused, &message, hint))
}

/// Refuses to replace the root key while a rotation is unfinished, because that would void the plan.
///
/// # Errors
/// When a rotation is unfinished, or its plan cannot be read.
pub(super) fn check_rekey(site: &Site, opened: &Opened) -> Result<(), Failure> {
    let Some(plan) = unfinished(&site.dir, opened)? else { return Ok(()) };
    let message = format!("{}, and another root key would void its plan", described(&plan));
    let hint = format!("{FINISH}replace the root key all the same: claviger rekey --despite-rotation");
    Err(Failure::new(Exit::Refused, &message, hint))
}

/// Warns that a new key cannot be promoted while a rotation to another key is unfinished.
pub(super) fn warn_of_rotation(site: &Site, opened: &Opened, global: &Global) {
    // A plan that cannot be read stops the promotion, which says so.
    let Ok(Some(plan)) = unfinished(&site.dir, opened) else { return };
    let message = format!("{}, so the new key can be promoted only after it", described(&plan));
    warn(&message, &format!("{FINISH}see how it stands: claviger status"), global);
}

/// Returns the plan of the unfinished rotation in `dir`. A plan that a rekey has voided does not count.
///
/// # Errors
/// When the plan cannot be read.
pub(super) fn unfinished(dir: &Dir, opened: &Opened) -> Result<Option<RotationPlan>, Failure> {
    let plan = match keeper::load_plan(dir, opened) {
        Err(LoadPlanError::Refused(ReadPlanError::OtherRootKey)) => None,
        plan => plan?,
    };
    Ok(plan.filter(RotationPlan::is_unfinished))
}

fn described(plan: &RotationPlan) -> String {
    let to = plan.key.map_or_else(String::new, |key| format!(" to {key}"));
    format!("a rotation{to} is unfinished since {}", plan.since)
}
