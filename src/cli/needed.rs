//! Finds out which keys the values in etcd need, for the verbs that give up a key or restore a keyring.
//!
//! It reads everything that is declared: the API server's etcd and those of its overrides, or a snapshot. If a part
//! cannot be read, the answer is "unknown", because a value in that part may need any key.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;

use crate::{
    config::{Config, Settings},
    crypto::{Commitment, Digest},
    keeper::{NeededKey, Needing, Opened, ReadSnapshot, ScannedNeeds, Usage, UsageDoubt},
    keyring::{Key, unused::EtcdRevision},
    scan::{
        needs::{LeftValue, Need, NeededKeys, NeedsError, ScannedEtcd, SnapshotNeeds, read_needs, read_snapshot},
        place::ScanPlace,
    },
    text::hex_array,
};

use super::{
    Global,
    etcd::{Declared, EtcdArgs, LIVE},
    failure::{Exit, Failure},
    scanning::PlaceMeter,
};

/// What shows which keys are needed: a snapshot of etcd, or a live etcd.
#[derive(Args, Default)]
pub(super) struct ProofArgs {
    /// Snapshot of etcd: check which keys its values need
    #[arg(long, value_name = "FILE", conflicts_with_all = LIVE)]
    snapshot: Option<PathBuf>,
    #[command(flatten)]
    etcd: EtcdArgs,
}

impl ProofArgs {
    /// Whether a flag names an etcd or a snapshot.
    pub(super) fn is_given(&self) -> bool {
        self.snapshot.is_some() || self.etcd.is_given()
    }

    /// Returns the path of the snapshot, if one is given.
    pub(super) fn snapshot(&self) -> Option<PathBuf> {
        self.snapshot.clone()
    }

    /// Moves the flags about etcd into `settings`.
    pub(super) fn put_into(self, settings: Settings) -> Settings {
        self.etcd.put_into(settings)
    }
}

/// The usage of a key, and the etcds in which it was looked for.
pub(super) struct KeyUsage {
    pub(super) usage: Usage,
    /// The etcds that were scanned.
    pub(super) etcds: Vec<ScannedEtcd>,
    /// The values that are left by name. The usage does not count them.
    pub(super) left: Vec<LeftValue>,
}

impl KeyUsage {
    fn unknown(doubt: UsageDoubt) -> Self {
        Self { usage: Usage::Unknown(doubt), etcds: Vec::new(), left: Vec::new() }
    }
}

/// Counts the values that need `key`, in every declared etcd, without those in `left`.
///
/// # Errors
/// When the API server's manifest exists and cannot be read.
pub(super) fn usage(
    config: &Config,
    opened: &Opened,
    key: &Key,
    left: &BTreeSet<Vec<u8>>,
    global: &Global,
) -> Result<KeyUsage, Failure> {
    let declared = Declared::read(&config.cluster)?;
    let Some(places) = declared.places() else {
        return Ok(KeyUsage::unknown(UsageDoubt::NotDeclared));
    };
    match read(&places, &declared, left, global) {
        Ok(needs) => {
            let usage = usage_of(&needs, key, opened.digest);
            Ok(KeyUsage { usage, etcds: needs.etcds().to_vec(), left: needs.left().to_vec() })
        }
        Err(error) => Ok(KeyUsage::unknown(UsageDoubt::Incomplete(Arc::new(error)))),
    }
}

fn usage_of(needs: &NeededKeys, key: &Key, record: Digest) -> Usage {
    // A value that only names the key counts, too, because its seed may be the part that is damaged.
    let found: Vec<_> =
        [needs.of(&key.kek().commitment()), needs.named(&key.id().to_string())].into_iter().flatten().collect();
    let objects = found.iter().map(|need| need.objects).sum();
    match needs.check_complete() {
        // If a value needs the key, it does not matter whether others were missed.
        Err(doubts) if objects == 0 => Usage::Unknown(UsageDoubt::Incomplete(Arc::new(doubts))),
        _ => {
            let example = found.first().map(|need| need.sample.clone());
            let etcds = needs.etcds().iter().map(at).collect();
            Usage::Scanned { needing: Needing { objects, example }, record, etcds, left: Vec::new() }
        }
    }
}

/// Returns the revision at which the etcd was read.
pub(super) fn at(ScannedEtcd { name, revision, .. }: &ScannedEtcd) -> EtcdRevision {
    EtcdRevision { etcd: name.clone(), revision: *revision }
}

/// Returns the keys that values need: the values in `snapshot`, otherwise those in every declared etcd. Also returns
/// the snapshot, if one was read. Returns `None` if neither a snapshot nor an etcd is given.
///
/// # Errors
/// When one of them cannot be read, or not whole.
pub(super) fn keys(
    config: &Config,
    snapshot: Option<PathBuf>,
    global: &Global,
) -> Result<Option<ScannedNeeds>, Failure> {
    if let Some(file) = snapshot {
        let needs = in_snapshot(&file, &snapshot_prefix(config)?, global)?;
        let (keys, snapshot) = (whole_needs(needs.keys())?, read_snapshot_of(&needs, &file));
        return Ok(Some(ScannedNeeds { keys, snapshot }));
    }
    let declared = Declared::read(&config.cluster)?;
    let Some(places) = declared.places() else { return Ok(None) };
    let keys = whole_needs(&read(&places, &declared, &BTreeSet::new(), global)?)?;
    Ok(Some(ScannedNeeds { keys, snapshot: None }))
}

/// Returns the snapshot in the form in which the ledger lists it.
fn read_snapshot_of(needs: &SnapshotNeeds, file: &Path) -> Option<ReadSnapshot> {
    let sha256 = hex_array(&needs.source.digest.as_ref()?.sha256).map(Digest)?;
    let file = std::path::absolute(file).map_or_else(|_| file.display().to_string(), |path| path.display().to_string());
    Some(ReadSnapshot { sha256, revision: needs.source.revision, file })
}

/// Returns the needed keys, if the list is certainly complete.
fn whole_needs(needs: &NeededKeys) -> Result<Vec<NeededKey>, Failure> {
    needs.check_complete().map_err(|doubts| {
        let message = format!("it is not certain which keys are needed: {doubts}");
        Failure::new(
            Exit::Damaged,
            &message,
            "if the prefix is wrong, give --etcd-prefix; if the file is, another snapshot; or use only --expect"
                .to_owned(),
        )
    })?;
    let needed = |(commitment, need): (&Commitment, &Need)| NeededKey {
        name: need.key_ids.first().cloned().unwrap_or_default(),
        commitment: *commitment,
        objects: need.objects,
        example: need.sample.clone(),
    };
    Ok(needs.iter().map(needed).collect())
}

/// Reads a snapshot, and returns the keys that open its values. The snapshot does not contain objects that the API
/// server keeps in other etcds.
///
/// # Errors
/// When it cannot be read at all.
pub(super) fn in_snapshot(file: &Path, prefix: &str, global: &Global) -> Result<SnapshotNeeds, Failure> {
    let mut meter = PlaceMeter::new(&ScanPlace::Snapshot(file.to_owned()), global);
    Ok(read_snapshot(file, prefix, &mut |done, of| meter.show(done, of))?)
}

/// Returns the prefix of all keys in a snapshot.
///
/// # Errors
/// When the API server's manifest is named and cannot be read.
pub(super) fn snapshot_prefix(config: &Config) -> Result<String, Failure> {
    Ok(Declared::read_for_snapshot(&config.cluster)?.prefix)
}

/// Reads all places for the keys that their values need, and shows how far it is.
fn read(
    places: &[ScanPlace],
    declared: &Declared,
    left: &BTreeSet<Vec<u8>>,
    global: &Global,
) -> Result<NeededKeys, NeedsError> {
    let mut last: Option<(ScanPlace, PlaceMeter)> = None;
    let mut progress = |place: &ScanPlace, done, of| {
        let (_, meter) = match last.take() {
            Some((shown, meter)) if shown == *place => last.insert((shown, meter)),
            _ => last.insert((place.clone(), PlaceMeter::new(place, global))),
        };
        meter.show(done, of);
    };
    let mut needs = read_needs(places, &declared.prefix, left, &mut progress)?;
    needs.add_doubts_about_flags(&declared.doubts);
    Ok(needs)
}
