//! Collects the [`ClusterNow`] of this node for the planner: its keyring, and what its plugin reports of its
//! connections.

use std::time::Duration;

use crate::{
    crypto::Digest,
    keeper::Opened,
    keyring::key_id::KeyId,
    plan::{ConnectionNow, KeyNow, NodeNow, RecordNow, ServedNow},
    probe::ProbeAnswer,
    rotate::RotationClock,
    service::{ConnectionReport, SelfReport},
    text::hex_array,
};

/// The name of this node in messages.
const HERE: &str = "this node";

/// Returns the planner's view of the keyring.
pub(super) fn record_now(opened: &Opened) -> RecordNow {
    let unbacked = opened.unbacked();
    let keys = opened.keyring.keys().map(|key| KeyNow {
        id: key.id(),
        state: key.state(),
        is_backed_up: !unbacked.contains(&key.id()),
        is_compromised: key.is_compromised(),
    });
    RecordNow {
        digest: opened.digest,
        past: opened.keyring.past().iter().map(|past| past.record).collect(),
        keys: keys.collect(),
    }
}

/// Returns the planner's view of this node if its plugin does not answer.
pub(super) fn silent_node() -> NodeNow {
    NodeNow { name: HERE.to_owned(), is_skipped: false, serves: None, connections: Vec::new() }
}

/// Returns the planner's view of this node. `canary` is the key under which the plugin has opened a canary.
pub(super) fn node_now(answer: &ProbeAnswer, canary: Option<KeyId>, clock: &dyn RotationClock) -> NodeNow {
    let Some(report) = &answer.report else { return silent_node() };
    // Only API servers call Status. A paused API server has called it, too.
    let api_servers = report.connections.iter().filter(|connection| connection.status_s.is_some());
    NodeNow {
        serves: served_now(&answer.key_id, report, canary, clock),
        connections: api_servers.map(|connection| connection_now(connection, clock)).collect(),
        ..silent_node()
    }
}

fn served_now(
    primary: &str,
    report: &SelfReport,
    canary: Option<KeyId>,
    clock: &dyn RotationClock,
) -> Option<ServedNow> {
    // After a take-over, the earlier plugin may still serve.
    if report.alone == Some(false) {
        return None;
    }
    Some(ServedNow {
        record: Digest(report.record.as_deref().and_then(hex_array)?),
        primary: primary.parse().ok()?,
        canary,
        primary_for: span(report.primary_s, clock),
    })
}

fn connection_now(connection: &ConnectionReport, clock: &dyn RotationClock) -> ConnectionNow {
    ConnectionNow {
        // A plugin of an earlier version gives 0 for a process that it does not see.
        process: connection.pid.filter(|pid| *pid > 0),
        announced: connection.key_id.as_deref().and_then(|key_id| key_id.parse().ok()),
        steady: span(connection.steady_s, clock),
        is_alive: connection.is_alive(),
    }
}

fn span(seconds: Option<u64>, clock: &dyn RotationClock) -> Duration {
    clock.measured(Duration::from_secs(seconds.unwrap_or(0)))
}
