//! `claviger rotate --give-up`: ends the plan of a rotation whose key is not primary yet.

use serde::Serialize;

use super::super::{
    Format, Global, Site,
    failure::{Exit, Failure},
    output::{self, OutputError},
};
use crate::{
    keeper,
    keyring::{Key, key_id::KeyId, state::State},
    plan::RotationPlan,
};

use super::words::short;

/// A rotation that was given up. As JSON it is a public interface.
#[derive(Serialize)]
struct GivenUpReport {
    format: &'static str,
    /// The id of the rotation.
    rotation: String,
    /// The key that the rotation has made. Its state does not change.
    key_id: Option<String>,
    /// The primary key. It stays primary.
    primary: String,
}

/// Gives up the rotation of the keyring in `site`.
///
/// # Errors
/// When no rotation is unfinished, its key is primary already, or the plan cannot be read or written.
pub(super) fn give_up(site: &Site, global: &Global) -> Result<Exit, Failure> {
    let (plan, primary) = keeper::give_up_plan(&site.dir, &site.means)?;
    let opened = site.open()?;
    let is_pending = |key: &&Key| Some(key.id()) == plan.key && key.state() == State::Pending;
    let pending = opened.keyring.keys().find(is_pending).map(Key::id);
    output::end_change(show(&plan, pending, primary, global), global);
    Ok(Exit::Done)
}

/// Prints the rotation that was given up. `pending` is the key of the plan, if the key is pending.
fn show(plan: &RotationPlan, pending: Option<KeyId>, primary: KeyId, global: &Global) -> Result<(), OutputError> {
    if global.output == Format::Json {
        return output::json(&GivenUpReport {
            format: "claviger/rotate-given-up/v1",
            rotation: plan.id.to_string(),
            key_id: plan.key.map(|key| key.to_string()),
            primary: primary.to_string(),
        });
    }
    let rotation = short(&plan.id.to_string()).to_owned();
    output::text_line(&format!("rotation {rotation} is given up; {primary} stays primary"))?;
    if plan.is_compromise {
        output::advice("this rotation has marked no key as compromised: that comes with the promotion", global)?;
    }
    let Some(key) = pending else { return Ok(()) };
    let next = format!(
        "{key} stays pending\nto promote it by hand: claviger key promote {key}\nto take it out of use: claviger key disable {key}"
    );
    output::advice(&next, global)
}
