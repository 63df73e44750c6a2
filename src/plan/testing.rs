//! Keyrings, nodes and scans from which tests of the planner build a cluster.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    crypto::{Commitment, Digest},
    keyring::{key_id::KeyId, state::State, testing::now},
};

use super::{
    rotation::{Aim, BeganAt, Phase, PlanId, RotationPlan},
    world::{ApiServers, ClusterNow, ConnectionNow, KeyNow, NodeNow, RecordNow, Scanned, ServedNow, Ticks, Timeouts},
};

/// Returns the key with this number.
pub fn key(seq: u32) -> KeyId {
    KeyId::new(seq, &Commitment([u8::try_from(seq).unwrap(); 32]))
}

/// Returns the record with this number. The records with lower numbers are its past.
pub fn record(number: u8, keys: &[(u32, State)]) -> RecordNow {
    let keys = keys.iter().map(|(seq, state)| KeyNow {
        id: key(*seq),
        state: *state,
        is_backed_up: true,
        is_compromised: false,
    });
    let past = (1..number).rev().map(|number| Digest([number; 32]));
    RecordNow { digest: Digest([number; 32]), past: past.collect(), keys: keys.collect() }
}

const HOUR: Duration = Duration::from_hours(1);

/// Returns a connection of a live API server.
pub fn connection(announced: Option<KeyId>, steady: Duration) -> ConnectionNow {
    ConnectionNow { process: None, announced, steady, is_alive: true }
}

/// Returns a cluster of one node, which serves record 3 with key 2.
pub fn world() -> ClusterNow {
    let serves = ServedNow { record: Digest([3; 32]), primary: key(2), canary: Some(key(2)), primary_for: HOUR };
    ClusterNow {
        now: Ticks::default(),
        record: record(3, &[(1, State::DecryptOnly), (2, State::Primary)]),
        nodes: vec![NodeNow {
            name: "a".to_owned(),
            is_skipped: false,
            serves: Some(serves),
            connections: vec![connection(Some(key(2)), HOUR)],
        }],
        timeouts: Timeouts::default(),
        entries: 1,
        can_back_up: false,
        needs_no_backup: false,
        is_compromise: false,
    }
}

/// Returns a plan towards key 2, which every node serves.
pub fn plan() -> RotationPlan {
    let aim = Aim::Finish(key(2));
    let begun = RotationPlan::begin(
        PlanId([9; 16]),
        BeganAt { record: Digest([1; 32]), newest: 1 },
        aim,
        BTreeSet::new(),
        now(),
    );
    RotationPlan { phase: Phase::Sweep, ..begun }
}

/// Returns a scan that has found nothing, while key 2 was primary.
pub fn clean(at: Ticks) -> Scanned {
    Scanned {
        primary: key(2),
        at,
        stale: 0,
        under_other_keys: 0,
        in_need: 0,
        failed: 0,
        events: 0,
        unchangeable: 0,
        uncovered: 0,
        is_settled: true,
        is_incomplete: false,
    }
}

/// Returns a count of the API servers.
pub fn counted(at: Ticks, count: u64) -> ApiServers {
    ApiServers { at, count }
}
