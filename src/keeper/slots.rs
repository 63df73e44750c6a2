//! Changes the slots in the root file. The root key does not change, so no record, ledger or mark has to be written.

use std::path::PathBuf;

use rand::rngs::SysRng;

use super::{
    commit::{Commit, CommitError, KeyFile, NewRoot},
    error::{OpenError, RootFileError, UnfinishedRekey},
    open::{BeginError, Opened, open_with},
    roots::{SlotSummary, read_root, summaries},
    state_dir::StateFiles,
};
use crate::{
    audit::{Event, SlotEvent},
    crypto::Uuid,
    durable::{Dir, DurableError},
    root::{
        DropSlotError, Kind, Means, NoSuchSlot, PutSlotError, RootError, RootFile, RootIn, Sealer, Slot, SlotError,
    },
};

/// A slot, and the result of opening it without another slot.
pub type Tested = (SlotSummary, Result<(), RootError>);

/// The result of a change of the slots.
#[derive(Debug)]
pub struct SlotsChanged {
    /// The slots after the change. `opened` is false for all of them.
    pub slots: Vec<SlotSummary>,
    /// The key file of a removed slot, if the file was not removed.
    pub left: Option<LeftKeyFile>,
}

/// A key file that is still there after its slot was removed. It opens nothing any more.
#[derive(Debug)]
pub enum LeftKeyFile {
    /// The file is outside of the state directory, where claviger removes nothing.
    Elsewhere(PathBuf),
    /// The file could not be removed.
    NotRemoved(DurableError),
}

/// Why `slot add` failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddSlotError {
    /// The keyring did not open, the lock is held, or a rekey is unfinished. Nothing was changed.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The root file has a slot of this name, or could not be made.
    #[error(transparent)]
    Root(#[from] PutSlotError),
    /// The new slot could not be sealed.
    #[error("slot {0}: {1}")]
    Slot(String, #[source] SlotError),
    /// The key file of the new slot exists already, or its directory cannot be trusted.
    #[error(transparent)]
    KeyFile(DurableError),
    /// Writing the change failed. The error says what was changed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Why `slot remove` failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RemoveSlotError {
    /// The keyring did not open, the lock is held, or a rekey is unfinished. Nothing was changed.
    #[error(transparent)]
    Begin(#[from] BeginError),
    /// The root file has no slot of this name or no other slot, or could not be made.
    #[error(transparent)]
    Root(#[from] DropSlotError),
    /// A remaining slot contains another root key, or the root file was changed.
    #[error(transparent)]
    Unreadable(#[from] RootFileError),
    /// None of the remaining slots opens here.
    #[error("none of the other slots opens here, so slot {removed} is not removed: {reasons}")]
    NoOtherOpens {
        /// The slot that was not removed.
        removed: String,
        /// Why the other slots do not open.
        reasons: RootError,
    },
    /// Writing the change failed. The error says what was changed.
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// Why `slot test` did not test the slots.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TestSlotsError {
    /// The root file cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The root file has no slot with this name.
    #[error(transparent)]
    Unknown(#[from] NoSuchSlot),
}

/// Returns the slots of the root file in `dir` without opening one. So nothing proves that they are authentic.
///
/// # Errors
/// When the root file is missing or damaged.
pub fn slots(dir: &Dir) -> Result<Vec<SlotSummary>, OpenError> {
    Ok(summaries(&read_root(StateFiles::new(dir))?))
}

/// Returns the uuid of the keyring in `dir` without opening a slot. So nothing proves that it is authentic.
///
/// # Errors
/// When the root file is missing or damaged.
pub fn uuid_of(dir: &Dir) -> Result<Uuid, OpenError> {
    Ok(read_root(StateFiles::new(dir))?.uuid())
}

/// Checks whether the slot `name` opens, without the help of another slot. Without a name, checks every slot in this
/// way.
///
/// # Errors
/// When the root file is missing, damaged or has no such slot.
pub fn test_slots(dir: &Dir, means: &Means, name: Option<&str>) -> Result<Vec<Tested>, TestSlotsError> {
    let state = StateFiles::new(dir);
    let file = read_root(state)?;
    let wanted = |slot: &&Slot| name.is_none_or(|name| slot.name() == name);
    let test = |slot: &Slot| (SlotSummary::of(slot), file.test(slot, dir, means));
    let tested: Vec<_> = file.slots().iter().filter(wanted).map(test).collect();
    match name.filter(|_| tested.is_empty()) {
        Some(name) => Err(NoSuchSlot(name.to_owned()).into()),
        None => Ok(tested),
    }
}

/// Adds a slot of this name to the root file in `dir`. `sealer` seals the root key in it.
///
/// # Errors
/// When the keyring does not open or is being rekeyed, there is such a slot, or a file cannot be written. The slots
/// were then not changed, except after [`CommitError::RootNotConfirmed`].
pub fn add_slot(dir: &Dir, means: &Means, name: &str, sealer: &dyn Sealer) -> Result<SlotsChanged, AddSlotError> {
    let state = StateFiles::new(dir);
    add(state, &begin(state, means)?, name, sealer)
}

/// Seals the root key in a new slot, and commits the new root file.
fn add(state: StateFiles<'_>, opened: &Opened, name: &str, sealer: &dyn Sealer) -> Result<SlotsChanged, AddSlotError> {
    let Opened { root_file, current, keyring, .. } = opened;
    let slot = Slot::seal(&mut SysRng, name, sealer, RootIn { uuid: keyring.uuid(), root: current })
        .map_err(|error| AddSlotError::Slot(name.to_owned(), error))?;
    let bytes = root_file.with(slot, current)?;
    let slots = summaries(&RootFile::parse(&bytes).map_err(|error| PutSlotError::Unreadable(error.into()))?);
    let _lock = state.lock().map_err(BeginError::Lock)?;
    sealer.check_keep(name, state.dir()).map_err(AddSlotError::KeyFile)?;
    let commit = Commit {
        root_before: Some(root_file.bytes()),
        event: Some(Event::SlotAdd(event(opened, name, sealer.kind()))),
        root: Some(NewRoot { bytes: &bytes, key_file: KeyFile::New(name, sealer) }),
        ..Commit::default()
    };
    commit.run(state, &mut state.store())?;
    Ok(SlotsChanged { slots, left: None })
}

/// Removes the slot of this name from the root file in `dir`.
///
/// # Errors
/// When the keyring does not open or is being rekeyed, there is no such slot, none of the remaining slots opens here,
/// or a file cannot be written. The slots were then not changed, except after [`CommitError::RootNotConfirmed`].
pub fn remove_slot(dir: &Dir, means: &Means, name: &str) -> Result<SlotsChanged, RemoveSlotError> {
    let state = StateFiles::new(dir);
    let opened = &begin(state, means)?;
    let (bytes, removed) = opened.root_file.without(name, &opened.current)?;
    let slots = summaries(&RootFile::parse(&bytes).map_err(|error| RootFileError(error.into()))?);
    check_that_another_opens(state.dir(), means, &opened.root_file, name)?;
    let is_file = removed.kind() == Kind::File;
    let elsewhere = removed.parameter("path").filter(|_| is_file).map(PathBuf::from);
    let is_here = is_file && elsewhere.is_none();
    let _lock = state.lock().map_err(BeginError::Lock)?;
    let commit = Commit {
        root_before: Some(opened.root_file.bytes()),
        event: Some(Event::SlotRemove(event(opened, name, removed.kind()))),
        root: Some(NewRoot { bytes: &bytes, key_file: if is_here { KeyFile::Removed(name) } else { KeyFile::Kept } }),
        ..Commit::default()
    };
    let committed = commit.run(state, &mut state.store())?;
    let left = elsewhere.map(LeftKeyFile::Elsewhere).or(committed.key_file_left.map(LeftKeyFile::NotRemoved));
    Ok(SlotsChanged { slots, left })
}

/// Makes sure that another slot opens, so that a mistake locks nobody out.
fn check_that_another_opens(dir: &Dir, means: &Means, file: &RootFile, removed: &str) -> Result<(), RemoveSlotError> {
    let mut failed = Vec::new();
    for slot in file.slots().iter().filter(|slot| slot.name() != removed) {
        match file.test(slot, dir, means) {
            Ok(()) => return Ok(()),
            Err(RootError::NoSlotOpens(reasons)) => failed.extend(reasons),
            Err(error) => return Err(RootFileError(error).into()),
        }
    }
    Err(RemoveSlotError::NoOtherOpens { removed: removed.to_owned(), reasons: RootError::NoSlotOpens(failed) })
}

/// Opens the keyring to change its slots. An unfinished rekey has to come first.
fn begin(state: StateFiles<'_>, means: &Means) -> Result<Opened, BeginError> {
    let opened = open_with(state, means, None, None).map_err(BeginError::Open)?;
    if opened.is_being_rekeyed() { Err(UnfinishedRekey.into()) } else { Ok(opened) }
}

fn event(opened: &Opened, slot: &str, kind: Kind) -> SlotEvent {
    SlotEvent { keyring: opened.keyring.uuid().to_hex(), slot: slot.to_owned(), kind: kind.as_str() }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, sync::Arc};

    use super::*;
    use crate::{
        crypto::stretch::Cost,
        durable::{self, testing::dying_after},
        keeper::{
            self,
            testing::{add_passphrase, events, set_up, slow},
        },
        root::{FileSlot, Passphrase, PassphraseSlot, key_file_name},
    };

    fn add_second(dir: &Dir) -> Result<SlotsChanged, AddSlotError> {
        add_slot(dir, &Means::default(), "second", &FileSlot::generate(&mut SysRng, None).unwrap())
    }

    fn remove(dir: &Dir, name: &str) -> Result<SlotsChanged, RemoveSlotError> {
        remove_slot(dir, &Means::default(), name)
    }

    fn names(dir: &Dir) -> Vec<String> {
        slots(dir).unwrap().into_iter().map(|slot| slot.name).collect()
    }

    #[test]
    fn a_change_that_dies_at_any_step_leaves_the_slots_of_before_or_after_and_the_keyring_opens() {
        let slots = |names: &str| names.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let added = outcomes(|_| {}, |dir| add_second(dir).is_ok());
        let expected = [(false, slots("file")), (false, slots("file second")), (true, slots("file second"))];
        assert_eq!(added, expected.into());
        let removed = outcomes(|dir| drop(add_second(dir).unwrap()), |dir| remove(dir, "file").is_ok());
        let expected = [(false, slots("file second")), (false, slots("second")), (true, slots("second"))];
        assert_eq!(removed, expected.into());
    }

    /// Lets `act` die after every number of steps. It returns whether it succeeded. Returns each outcome: whether it
    /// succeeded, and the slots after it. The keyring has to open after each.
    fn outcomes(before: impl Fn(&Dir), act: impl Fn(&Dir) -> bool) -> BTreeSet<(bool, Vec<String>)> {
        let outcome = |steps| {
            let (_keep, dir) = set_up();
            before(&dir);
            let (changed, _) = dying_after(steps, || act(&dir));
            let opened = keeper::open(&dir, &Means::default()).unwrap();
            assert!(opened.slots.iter().any(|slot| slot.opened));
            (changed, names(&dir))
        };
        (0..24).map(outcome).collect()
    }

    #[test]
    fn a_slot_is_not_removed_if_no_other_opens_here() {
        let (_keep, dir) = set_up();
        let passphrase = Arc::new(Passphrase::new(b"correct horse").unwrap());
        let sealer = PassphraseSlot { passphrase, cost: Cost::new(1, 64, 1).unwrap() };
        add_slot(&dir, &Means::default(), "known", &sealer).unwrap();
        let error = remove(&dir, "file").unwrap_err();
        assert_eq!(
            error.to_string(),
            "none of the other slots opens here, so slot file is not removed: slot known: no passphrase was given"
        );
        assert_eq!(names(&dir), ["file", "known"]);
        assert_eq!(remove(&dir, "tape").unwrap_err().to_string(), "there is no slot tape");
        assert_eq!(
            add_slot(&dir, &Means::default(), "known", &sealer).unwrap_err().to_string(),
            "there is a slot known already"
        );
    }

    #[test]
    fn the_key_file_of_a_removed_slot_goes_with_it() {
        let (_keep, dir) = set_up();
        add_second(&dir).unwrap();
        assert!(dir.contains("slot-second.key").unwrap());
        remove(&dir, "second").unwrap();
        assert!(!dir.contains("slot-second.key").unwrap());
        // The name can be used again.
        add_second(&dir).unwrap();
    }

    #[test]
    fn one_slot_or_each_of_them_can_be_tried() {
        let (_keep, dir) = set_up();
        add_passphrase(&dir, "spoken");
        let opens = |name| {
            let tested = test_slots(&dir, &Means::default(), name).map_err(|error| error.to_string())?;
            Ok::<_, String>(tested.into_iter().map(|(slot, tested)| (slot.name, tested.is_ok())).collect::<Vec<_>>())
        };
        let (file, spoken) = (("file".to_owned(), true), ("spoken".to_owned(), false));
        assert_eq!(opens(None), Ok(vec![file.clone(), spoken.clone()]));
        assert_eq!(opens(Some("file")), Ok(vec![file]));
        assert_eq!(opens(Some("spoken")), Ok(vec![spoken]));
        assert_eq!(opens(Some("tape")), Err("there is no slot tape".to_owned()));
    }

    #[test]
    fn a_slot_that_somebody_adds_meanwhile_is_not_lost() {
        let meanwhile: fn(&Dir) = |dir| add_passphrase(dir, "third");
        let (_keep, dir) = set_up();
        add_passphrase(&dir, "spoken");
        let changed = format!("{} was changed while this command ran", dir.path_of("root").display());
        let refused = remove_slot(&dir, &slow(&dir, meanwhile), "file").unwrap_err().to_string();
        assert_eq!((refused, names(&dir).join(" ")), (changed.clone(), "file spoken third".to_owned()));
        // Sealing a slot takes as long as typing a passphrase.
        let opened = keeper::open(&dir, &Means::default()).unwrap();
        add_passphrase(&dir, "fourth");
        let sealer = FileSlot::generate(&mut SysRng, None).unwrap();
        let refused = add(StateFiles::new(&dir), &opened, "fifth", &sealer).unwrap_err().to_string();
        assert_eq!((refused, names(&dir).join(" ")), (changed, "file spoken third fourth".to_owned()));
    }

    #[test]
    fn the_key_file_of_a_removed_slot_stays_if_it_is_elsewhere_and_so_does_every_other_file() {
        let ((_keep, dir), (elsewhere, _)) = (set_up(), durable::testing::private());
        let path = elsewhere.path().join("claviger.key");
        let sealer = FileSlot::generate(&mut SysRng, Some(path.clone())).unwrap();
        add_slot(&dir, &Means::default(), "usb", &sealer).unwrap();
        add_passphrase(&dir, "spoken");
        for (name, left) in [("usb", Some(path.clone())), ("spoken", None)] {
            let other = format!("slot-{name}.key");
            dir.create(&other, b"of an attempt that died").unwrap();
            let found = remove(&dir, name).unwrap().left.map(|left| match left {
                LeftKeyFile::Elsewhere(path) => path,
                LeftKeyFile::NotRemoved(error) => panic!("{error}"),
            });
            assert_eq!(found, left);
            assert!(dir.contains(&other).unwrap(), "{other}");
        }
        assert!(path.exists());
    }

    #[test]
    fn the_reason_why_a_key_file_could_not_be_removed_is_kept() {
        let (_keep, dir) = set_up();
        add_second(&dir).unwrap();
        let path = dir.path_of(&key_file_name("second"));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let left = remove(&dir, "second").unwrap().left.unwrap();
        let LeftKeyFile::NotRemoved(error) = left else { panic!("{left:?}") };
        assert_eq!(error.to_string(), format!("removing {}: Is a directory (os error 21)", path.display()));
        assert_eq!(names(&dir), ["file"]);
    }

    #[test]
    fn the_audit_log_says_which_slots_were_changed() {
        let (_keep, dir) = set_up();
        add_passphrase(&dir, "spoken");
        remove(&dir, "spoken").unwrap();
        let found = events(&dir).into_iter().map(|event| ["event", "slot", "kind"].map(|name| event[name].clone()));
        let expected =
            ["slot-add", "slot-remove"].map(|event| [event, "spoken", "passphrase"].map(serde_json::Value::from));
        assert_eq!(found.collect::<Vec<_>>(), expected);
    }
}
