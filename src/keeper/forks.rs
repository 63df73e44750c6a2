//! Tests merges of forks, and of keyrings that were damaged, rolled back or rekeyed.

use super::{
    BackedUp, FreshBackup, MergePreview, NeededKey, ReadSnapshot, ScannedNeeds, Usage, add_key,
    commit::{CommitStep, testing::dying_after},
    preview_merge, rekey,
    state_dir::{KEYRING, KEYRING_PREV, LEDGER, MARK, ROOT},
    testing::{
        add_passphrase, added, backup, copies, destroyed, disable_first, enabled, events, keys, list, merged, opened,
        planned, promoted, put_back, rotate, set_up, set_up_recoverable, source,
    },
};
use crate::{
    crypto::{Commitment, Digest},
    escrow::{Backup, testing::identity},
    keyring::{
        key_id::KeyId,
        listed_snapshot::ListedSnapshot,
        merge::Wishes,
        record::RECORD_MAX,
        state::{Fate, State},
        testing::now,
    },
    root::Means,
};

#[test]
fn a_keyring_that_follows_from_each_source_needs_no_merge() {
    let (_keep, dir) = set_up();
    assert!(planned(&dir, &[]).is_none());
    let first = backup(&dir);
    rotate(&dir);
    let sources = [source(&first), source(&backup(&dir))];
    assert!(planned(&dir, &sources).is_none());
    // The record may come from an earlier merge that died before it wrote the mark.
    std::fs::remove_file(dir.path_of(MARK)).unwrap();
    assert!(planned(&dir, &[]).is_none());
    let plan = planned(&dir, &sources).unwrap();
    assert_eq!((plan.doubts.len(), plan.columns), (0, vec![("here", 3), ("backup", 1), ("backup", 3)]));
}

#[test]
fn the_keys_of_a_fork_are_merged_and_its_backup_counts() {
    let (_keep, dir) = set_up();
    let before = copies(&dir, [KEYRING, MARK]);
    let theirs = added(&dir);
    let fork = backup(&dir);
    put_back(&dir, before);
    let ours = added(&dir);
    let record = opened(&dir).digest;
    let plan = planned(&dir, &[source(&fork)]).unwrap();
    assert_eq!((plan.rows.len(), plan.generation, plan.fresh), (3, 3, None));
    let merged = merged(&dir, plan);
    assert!([ours, theirs].iter().all(|key_id| keys(&merged).contains(key_id)));
    assert_eq!(merged.keyring.primary().id(), theirs, "the newest key that a backup contains");
    assert_eq!(merged.unbacked(), [ours]);
    let listed = merged.newest_backup().unwrap().unwrap();
    assert_eq!((listed.record(), listed.file()), (fork.digest(), Some("backup.age")));
    assert_eq!((merged.wants_rotation(), merged.keyring.restored()), (true, Some(3)));
    let event = events(&dir).pop().unwrap();
    assert_eq!((event["event"].as_str(), event["generation"].as_u64()), (Some("restore"), Some(3)));
    assert_eq!(Digest::of(&dir.read(KEYRING_PREV, RECORD_MAX).unwrap()), record, "a copy of the record before");
    assert!(planned(&dir, &[source(&fork)]).is_none(), "nothing is left to merge");
    rekey(&dir, &Means::default()).unwrap();
    assert_eq!(opened(&dir).keyring.restored(), Some(3), "it stays so");
}

/// The snapshot needs the first key, a destroyed key, and a key of another keyring.
#[test]
fn a_merge_lists_the_snapshot_that_was_scanned() {
    let snapshot = ReadSnapshot { sha256: Digest([7; 32]), revision: 17, file: "/media/usb/etcd.db".to_owned() };
    let need = |commitment| NeededKey { name: "k1-…".to_owned(), commitment, objects: 3, example: "/a".to_owned() };
    let scanned = |commitments: &[Commitment], snapshot| ScannedNeeds {
        keys: commitments.iter().copied().map(need).collect(),
        snapshot,
    };
    let (_keep, dir) = set_up();
    let first = disable_first(&dir);
    destroyed(&dir, first, &Usage::Waived);
    let before = copies(&dir, [KEYRING, MARK]);
    added(&dir);
    let fork = backup(&dir);
    put_back(&dir, before.clone());
    added(&dir);
    let entries =
        opened(&dir).keyring.entries().iter().map(|entry| (entry.id(), entry.commitment())).collect::<Vec<_>>();
    assert_eq!(entries[0].0, first);
    let needed = [entries[1].1, Commitment([9; 32]), entries[0].1];
    // The ledger lists neither a live etcd, nor a snapshot that needs no key of this keyring.
    let now_here = copies(&dir, [KEYRING, MARK]);
    for nothing in [scanned(&needed, None), scanned(&[Commitment([9; 32])], Some(snapshot.clone()))] {
        let merged = merged(&dir, planned(&dir, &[source(&fork)]).unwrap().listing(&nothing));
        assert_eq!((merged.snapshots().unwrap().len(), merged.backups().unwrap().len()), (0, 1));
        std::fs::remove_file(dir.path_of(LEDGER)).unwrap();
        put_back(&dir, now_here.clone());
    }
    let scanned = scanned(&needed, Some(snapshot));
    let merged = merged(&dir, planned(&dir, &[source(&fork)]).unwrap().listing(&scanned));
    let listed = ListedSnapshot::new(
        Digest([7; 32]),
        17,
        now(),
        Some("/media/usb/etcd.db".to_owned()),
        vec![first, entries[1].0],
    );
    assert_eq!(merged.snapshots().unwrap(), [listed]);
    assert_eq!(merged.backups().unwrap().len(), 1);
    // A merge does not replace a ledger that was refused.
    let another = backup(&dir);
    put_back(&dir, now_here);
    dir.replace(LEDGER, b"no ledger").unwrap();
    let merged = self::merged(&dir, planned(&dir, &[source(&another)]).unwrap().listing(&scanned));
    assert!(merged.snapshots().is_err());
    assert_eq!(**dir.read(LEDGER, 100).unwrap(), *b"no ledger");
}

#[test]
fn the_bytes_of_a_destroyed_key_come_back_unless_the_operator_says_otherwise() {
    let (_keep, dir) = set_up();
    let first = disable_first(&dir);
    added(&dir);
    let sources = [source(&backup(&dir))];
    destroyed(&dir, first, &Usage::Waived);
    let becomes =
        |key_id: KeyId, plan: &super::MergePreview| plan.rows.iter().find(|row| row.key_id == key_id).unwrap().after;
    let plan = planned(&dir, &sources).unwrap();
    assert_eq!(becomes(first, &plan), Fate::Becomes(State::DecryptOnly));
    let wishes = Wishes { keep_destroyed: vec![first], ..Wishes::default() };
    let plan = preview_merge(&dir, &Means::default(), &sources, &wishes, now()).unwrap().unwrap();
    assert_eq!(becomes(first, &plan), Fate::Tomb);
    let merged = merged(&dir, plan);
    assert!(!keys(&merged).contains(&first));
    let copy = dir.read(KEYRING_PREV, RECORD_MAX).unwrap();
    assert_eq!(Digest::of(&copy), merged.digest, "no copy has its bytes");
}

#[test]
fn without_any_record_there_is_no_merge() {
    let (_keep, dir) = set_up();
    std::fs::remove_file(dir.path_of(KEYRING)).unwrap();
    let refused = preview_merge(&dir, &Means::default(), &[], &Wishes::default(), now()).map(drop).unwrap_err();
    assert_eq!(refused.to_string(), "there is nothing to merge: no record is readable here, and no backup was given");
}

#[test]
fn a_key_that_a_merge_makes_is_backed_up_first() {
    let (keep, dir, _, identities) = set_up_recoverable();
    let before = opened(&dir);
    let wishes = Wishes { compromised: keys(&before), ..Wishes::default() };
    let plan = || preview_merge(&dir, &Means::default(), &[], &wishes, now()).unwrap().unwrap();
    assert!(plan().fresh.is_some());
    let refused = plan().carry_out(&dir, &Means::default(), None).map(drop).unwrap_err().to_string();
    assert!(refused.ends_with("and nothing says where to back it up"), "{refused}");
    assert_eq!(opened(&dir).digest, before.digest);
    let file = keep.path().join("fresh.age");
    let fresh = FreshBackup { file: file.clone(), recipients: vec![identity().0] };
    let merged = plan().carry_out(&dir, &Means::default(), Some(&fresh)).unwrap();
    let backup = Backup::open(&std::fs::read(file).unwrap(), &identities).unwrap();
    assert_eq!((backup.digest(), backup.keyring.primary().id()), (merged.digest, merged.keyring.primary().id()));
    assert_ne!(merged.keyring.primary().id(), before.keyring.primary().id());
}

fn doubts(plan: &MergePreview) -> Vec<String> {
    plan.doubts.iter().map(ToString::to_string).collect()
}

#[test]
fn a_plan_says_what_is_wrong_with_the_keyring_here() {
    let (_keep, dir) = set_up();
    let first = list(&dir);
    let old = copies(&dir, [KEYRING]);
    enabled(&dir, disable_first(&dir));
    let newest = copies(&dir, [KEYRING, MARK]);
    let sources = [source(&first), source(&backup(&dir))];
    put_back(&dir, old.clone());
    let plan = planned(&dir, &sources).unwrap();
    let rolled_back = "the keyring was rolled back: it has generation 1, this node has seen 5";
    assert_eq!((doubts(&plan), plan.generation), (vec![rolled_back.to_owned()], 6));
    put_back(&dir, newest.clone());
    dir.replace(MARK, b"no mark").unwrap();
    let found = doubts(&planned(&dir, &sources).unwrap());
    assert!(found.len() == 1 && found[0].starts_with("the mark: "), "{found:?}");
    put_back(&dir, newest);
    rekey(&dir, &Means::default()).unwrap();
    let sources = [source(&backup(&dir))];
    put_back(&dir, old);
    let found = doubts(&planned(&dir, &sources).unwrap());
    assert_eq!((found.len(), &*found[1]), (2, "the keyring is under an earlier root key"));
}

#[test]
fn a_record_that_is_missing_or_damaged_is_repaired_from_its_copy() {
    for (bytes, expected) in [(None, "the keyring is missing"), (Some(b"damaged"), "the keyring: ")] {
        let (_keep, dir) = set_up();
        let added = added(&dir);
        list(&dir);
        promoted(&dir, added, BackedUp::Required);
        std::fs::remove_file(dir.path_of(KEYRING)).unwrap();
        if let Some(bytes) = bytes {
            dir.create(KEYRING, bytes).unwrap();
        }
        let plan = planned(&dir, &[]).unwrap();
        assert!(doubts(&plan)[0].starts_with(expected), "{:?}", plan.doubts);
        assert_eq!(plan.columns, [("keyring.prev", 2)]);
        let merged = merged(&dir, plan);
        assert_eq!((merged.keyring.generation(), merged.keyring.primary().id()), (4, added));
        add_key(&dir, &Means::default(), &[], now()).unwrap();
    }
}

#[test]
fn a_rekey_that_broke_off_is_no_damage() {
    for step in [CommitStep::Root, CommitStep::Copy, CommitStep::Swap] {
        let (_keep, dir) = set_up();
        dying_after(step, || rekey(&dir, &Means::default())).0.unwrap_err();
        assert!(planned(&dir, &[]).is_none(), "after {step:?}");
    }
}

#[test]
fn a_plan_is_not_carried_out_after_a_slot_was_added() {
    let (_keep, dir) = set_up();
    let first = list(&dir);
    std::fs::remove_file(dir.path_of(MARK)).unwrap();
    let plan = planned(&dir, &[source(&first)]).unwrap();
    add_passphrase(&dir, "spoken");
    let refused = plan.carry_out(&dir, &Means::default(), None).map(drop).unwrap_err().to_string();
    assert_eq!(refused, format!("{} was changed while this command ran", dir.path_of(ROOT).display()));
}
