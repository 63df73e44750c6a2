//! The plan of a rotation in the state directory.
//!
//! It is a hint, and proves nothing: every gate of a rotation is decided again when somebody goes on. So a plan that is
//! lost or damaged costs time, and no key.

use std::collections::BTreeSet;

use super::{
    commit::{Commit, CommitError, Followers},
    open::{BeginError, Opened, open_to_change},
    state_dir::StateFiles,
};
use crate::{
    durable::{Dir, DurableError},
    keyring::{key_id::KeyId, state::State},
    memory::SecretError,
    plan::{Phase, PlanId, ReadPlanError, RotationPlan},
    root::Means,
};

/// Why the plan of a rotation was not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadPlanError {
    /// The file of the plan cannot be read.
    #[error(transparent)]
    File(#[from] DurableError),
    /// The plan is damaged, belongs to another keyring, or is from before a rekey.
    #[error(transparent)]
    Refused(#[from] ReadPlanError),
}

/// Why the plan of a rotation was not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WritePlanError {
    /// The keyring does not open, or another process holds the lock.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The file of the earlier plan cannot be read, so it is not replaced.
    #[error(transparent)]
    Read(#[from] DurableError),
    /// The file of the plan cannot be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// No memory could be locked for a key.
    #[error(transparent)]
    Memory(#[from] SecretError),
    /// The plan on the disk is neither this one nor the one that it replaces, or this one was given up.
    #[error("another command has replaced or ended the plan of the rotation")]
    Overtaken,
}

/// Why the plan of a rotation was not given up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GiveUpPlanError {
    /// The keyring does not open, or another process holds the lock.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The plan cannot be read, or was refused.
    #[error(transparent)]
    Load(#[from] LoadPlanError),
    /// There is no plan, or its rotation is finished.
    #[error("no rotation is unfinished, so there is none to give up")]
    Finished,
    /// The key of the plan was promoted, so values may be under it.
    #[error("{0} is not pending any more, so its rotation is not given up")]
    Promoted(KeyId),
    /// The file of the plan cannot be written.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// No memory could be locked for a key.
    #[error(transparent)]
    Memory(#[from] SecretError),
}

/// Ends the plan of an unfinished rotation in `dir` whose key is not primary yet. Returns the ended plan, and the
/// primary key.
///
/// # Errors
/// When no rotation is unfinished, the key of the plan was promoted, the keyring does not open, or the file of the plan
/// cannot be read or written.
pub fn give_up_plan(dir: &Dir, means: &Means) -> Result<(RotationPlan, KeyId), GiveUpPlanError> {
    let state = StateFiles::new(dir);
    let (opened, _lock) = open_to_change(state, means)?;
    let plan = match load_plan(dir, &opened) {
        // A rekey has voided the plan.
        Err(LoadPlanError::Refused(ReadPlanError::OtherRootKey)) => None,
        plan => plan?,
    };
    let plan = plan.filter(RotationPlan::is_unfinished).ok_or(GiveUpPlanError::Finished)?;
    let primary = opened.keyring.primary().id();
    let is_pending = |key: KeyId| {
        opened.keyring.keys().any(|one| one.id() == key && one.state() == State::Pending)
            && plan.phase == Phase::Prepare
    };
    if let Some(key) = plan.key.filter(|key| !is_pending(*key)) {
        return Err(GiveUpPlanError::Promoted(key));
    }
    let ended = RotationPlan { phase: Phase::Done, left: BTreeSet::new(), ..plan.clone() };
    let bytes = ended.encode(opened.keyring.uuid(), &opened.root)?;
    let commit = Commit { followers: Followers::Plan(bytes), ..Commit::default() };
    commit.run(state, &mut state.store())?;
    Ok((plan, primary))
}

/// Reads the plan of the last rotation in `dir`. `opened` is the keyring there. Returns `None` if there is no plan.
///
/// # Errors
/// When the file cannot be read, or was refused.
pub fn load_plan(dir: &Dir, opened: &Opened) -> Result<Option<RotationPlan>, LoadPlanError> {
    let Some(bytes) = StateFiles::new(dir).rotation()? else { return Ok(None) };
    Ok(Some(RotationPlan::decode(&bytes, &opened.root, opened.keyring.uuid())?))
}

/// Whether the plan of the rotation `id` is there and unfinished. The caller holds the lock.
///
/// # Errors
/// When the file cannot be read, or was refused.
pub(super) fn is_under_way(dir: &Dir, opened: &Opened, id: PlanId) -> Result<bool, LoadPlanError> {
    Ok(load_plan(dir, opened)?.is_some_and(|plan| plan.id == id && plan.is_unfinished()))
}

/// Writes the plan of a rotation. It replaces an earlier state of the same plan, or the plan `before`. A plan on the
/// disk that is refused counts as no plan.
///
/// # Errors
/// When another plan is there, this one was given up, the keyring does not open, or the file cannot be read or written.
pub fn write_plan(dir: &Dir, means: &Means, plan: &RotationPlan, before: Option<PlanId>) -> Result<(), WritePlanError> {
    let state = StateFiles::new(dir);
    let (opened, _lock) = open_to_change(state, means)?;
    let found = match load_plan(dir, &opened) {
        // Another command has ended this plan.
        Ok(Some(found)) if found.id == plan.id && !found.is_unfinished() && plan.is_unfinished() => {
            return Err(WritePlanError::Overtaken);
        }
        Ok(found) => found.map(|found| found.id),
        Err(LoadPlanError::Refused(_)) => None,
        Err(LoadPlanError::File(error)) => return Err(error.into()),
    };
    if found.is_some_and(|found| found != plan.id && Some(found) != before) {
        return Err(WritePlanError::Overtaken);
    }
    let bytes = plan.encode(opened.keyring.uuid(), &opened.root)?;
    let commit = Commit { followers: Followers::Plan(bytes), ..Commit::default() };
    commit.run(state, &mut state.store())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        keeper::{
            BackedUp, Promotion, add_key, promote_key, rekey,
            state_dir::ROTATION,
            testing::{opened, set_up},
        },
        keyring::testing::now,
        plan::{Aim, BeganAt, ROTATION_MAX},
        text::tampering,
    };

    #[test]
    fn a_plan_is_read_as_it_was_written_and_refused_when_anything_else_is_there() {
        let (_keep, dir) = set_up();
        let before = opened(&dir);
        assert_eq!(load_plan(&dir, &before).unwrap(), None);
        let left = BTreeSet::from([b"/registry/secrets/a/b".to_vec(), vec![0xff, b'\n']]);
        let mut plan = RotationPlan::begin(
            PlanId([7; 16]),
            BeganAt { record: before.digest, newest: 1 },
            Aim::NewKey,
            left,
            now(),
        );
        write_plan(&dir, &Means::default(), &plan, None).unwrap();
        assert_eq!(load_plan(&dir, &before).unwrap(), Some(plan.clone()));
        plan.key = Some(before.keyring.primary().id());
        plan.phase = Phase::Done;
        plan.report = Some(before.digest);
        write_plan(&dir, &Means::default(), &plan, None).unwrap();
        assert_eq!(load_plan(&dir, &before).unwrap(), Some(plan.clone()));
        // A command that has not seen this plan does not replace it.
        let other = RotationPlan { id: PlanId([8; 16]), ..plan.clone() };
        for before in [None, Some(PlanId([9; 16]))] {
            let refused = write_plan(&dir, &Means::default(), &other, before).unwrap_err().to_string();
            assert_eq!(refused, "another command has replaced or ended the plan of the rotation");
        }
        write_plan(&dir, &Means::default(), &other, Some(plan.id)).unwrap();
        write_plan(&dir, &Means::default(), &plan, Some(other.id)).unwrap();
        let bytes = dir.read(ROTATION, ROTATION_MAX).unwrap();
        for (how, changed) in tampering::of(&bytes) {
            dir.replace(ROTATION, &changed).unwrap();
            assert!(matches!(load_plan(&dir, &before), Err(LoadPlanError::Refused(_))), "{how}");
        }
        dir.replace(ROTATION, &bytes).unwrap();
        // A plan that cannot be read now may be the plan of another rotation.
        let (keep, unreadable) = set_up();
        std::fs::create_dir(keep.path().join(ROTATION)).unwrap();
        let refused = write_plan(&unreadable, &Means::default(), &plan, None).unwrap_err();
        assert!(matches!(refused, WritePlanError::Read(_)), "{refused}");
        let (_keep, stranger) = set_up();
        stranger.replace(ROTATION, &bytes).unwrap();
        let refused = load_plan(&stranger, &opened(&stranger)).unwrap_err().to_string();
        assert!(refused.starts_with("the plan of the rotation belongs to keyring "), "{refused}");
        rekey(&dir, &Means::default()).unwrap();
        let refused = load_plan(&dir, &opened(&dir)).unwrap_err().to_string();
        assert_eq!(refused, "the plan of the rotation is under another root key");
    }

    #[test]
    fn a_plan_is_given_up_until_its_key_is_primary() {
        let give_up = |dir: &Dir| give_up_plan(dir, &Means::default()).map_err(|error| error.to_string());
        let (_keep, dir) = set_up();
        let none = "no rotation is unfinished, so there is none to give up";
        assert_eq!(give_up(&dir).unwrap_err(), none);
        let before = opened(&dir);
        let primary = before.keyring.primary().id();
        let left = BTreeSet::from([b"/registry/secrets/a/b".to_vec()]);
        let at = BeganAt { record: before.digest, newest: 1 };
        let plan = RotationPlan::begin(PlanId([7; 16]), at, Aim::NewKey, left, now());
        write_plan(&dir, &Means::default(), &plan, None).unwrap();
        assert_eq!(give_up(&dir).unwrap(), (plan.clone(), primary));
        let ended = load_plan(&dir, &opened(&dir)).unwrap().unwrap();
        assert!(!ended.is_unfinished() && ended.report.is_none() && ended.left.is_empty());
        assert_eq!(give_up(&dir).unwrap_err(), none, "twice");
        // A command that goes on with this plan neither writes it nor promotes its key.
        let refused = write_plan(&dir, &Means::default(), &plan, None).unwrap_err().to_string();
        assert_eq!(refused, "another command has replaced or ended the plan of the rotation");
        let key_id = add_key(&dir, &Means::default(), &[], now()).unwrap().key_id;
        let promotion = |id: u8| {
            let rotation = Some(PlanId([id; 16]));
            let promotion = Promotion { key_id, backed_up: BackedUp::Waived, compromised_up_to: None, rotation };
            promote_key(&dir, &Means::default(), promotion, now()).map(drop).map_err(|error| error.to_string())
        };
        let too_late = format!("the rotation was given up or replaced meanwhile, so {key_id} is not promoted");
        assert_eq!(promotion(7).unwrap_err(), too_late);
        let promoted = RotationPlan { id: PlanId([8; 16]), key: Some(primary), ..plan };
        write_plan(&dir, &Means::default(), &promoted, Some(ended.id)).unwrap();
        assert_eq!(
            give_up(&dir).unwrap_err(),
            format!("{primary} is not pending any more, so its rotation is not given up")
        );
        assert_eq!(load_plan(&dir, &opened(&dir)).unwrap(), Some(promoted));
        let bytes = dir.read(ROTATION, 1 << 16).unwrap();
        dir.replace(ROTATION, b"damaged").unwrap();
        let unread = load_plan(&dir, &opened(&dir)).unwrap_err().to_string();
        assert_eq!(promotion(8).unwrap_err(), unread, "a plan that cannot be read was not given up");
        dir.replace(ROTATION, &bytes).unwrap();
        promotion(8).unwrap();
    }
}
