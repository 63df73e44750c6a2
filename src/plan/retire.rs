//! Decides the next step before a key is given up. `key disable` and `key destroy` have the same gates in the same
//! order. For `key disable`, the gates of the ledger and of the compaction are always open.
//!
//! Pure. Invariant: [`RetireStep::Retire`] is returned only if a scan has found no value under the key and no API
//! server can write one any more. Source: `docs/hierarchy.md`, "The life of a key".

use std::time::Duration;

use crate::{crypto::Digest, keyring::unused::EtcdRevision};

use super::{
    count::{self, CountDoubt},
    rules::{Rule, Rules},
    world::{ApiServers, ClusterNow, ConnectionNow, NodeNow, ServedNow},
};

/// The next step towards disabling or destroying a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum RetireStep {
    /// Scan every etcd for values under the key.
    Scan {
        /// Whether a scan that begins now proves that nothing needs the key, because no API server can write under it
        /// any more.
        is_proof: bool,
    },
    /// Count the API servers that use the etcd.
    Count,
    /// Note in the ledger at which revision the last scan found no value under the key.
    Note,
    /// Disable or destroy the key: nothing needs it.
    Retire,
    /// Wait, and look again later. Contains what is not settled yet.
    Wait(Unsettled),
    /// Stop, because this many values are under the key.
    Needed(u64),
    /// Stop, because this many listed snapshots need the key.
    Listed(u64),
    /// Stop, because of the count of API servers.
    Refuse(CountDoubt),
}

/// Why a key is not given up yet: an API server may still write under another key than the primary one, a plugin does
/// not serve the present record, or clients may read old values.
#[derive(Debug, Clone, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum Unsettled {
    /// The plugins of these nodes do not serve the present record.
    #[error("the plugin on {} does not serve the keyring as it is now", .0.join(", "))]
    NotServed(Vec<String>),
    /// The plugins of these nodes serve another record, although the operator has said that no API server runs.
    #[error("the plugin on {} serves the keyring as it was before", .0.join(", "))]
    ServesAnother(Vec<String>),
    /// The primary key has been served for less than the quiet time. Contains the time that is left.
    #[error("an API server that is not connected now may still write under another key, for {} s more", seconds(*.0))]
    Quiet(Duration),
    /// The plugins of these nodes have no connection of an API server that has called Status.
    #[error("no API server is connected to the plugin on {}, so none has shown which key it writes under", .0.join(", "))]
    NoConnection(Vec<String>),
    /// Not every connection of an API server has announced the primary key alone for long enough.
    #[error("{} for {} s more", not_settled(*api_servers), seconds(*left))]
    ApiServers {
        /// The number of API servers that have such a connection.
        api_servers: u64,
        /// The remaining time, if no connection announces another key and none calls Encrypt.
        left: Duration,
    },
    /// Clients can still list objects at a revision at which a value may have needed the key.
    #[error("etcd {} still has revisions before {}, at which values may need the key", .0.etcd, .0.revision)]
    History(EtcdRevision),
}

impl Unsettled {
    /// Returns the remaining time, if it is known.
    pub fn left(&self) -> Option<Duration> {
        match self {
            Self::Quiet(left) | Self::ApiServers { left, .. } => Some(*left),
            Self::NotServed(_) | Self::ServesAnother(_) | Self::NoConnection(_) | Self::History(_) => None,
        }
    }

    /// Returns the nodes whose plugin keeps the gate closed.
    pub fn nodes(&self) -> &[String] {
        match self {
            Self::NotServed(nodes) | Self::ServesAnother(nodes) | Self::NoConnection(nodes) => nodes,
            Self::Quiet(_) | Self::ApiServers { .. } | Self::History(_) => &[],
        }
    }
}

fn not_settled(api_servers: u64) -> String {
    match api_servers {
        1 => "1 connected API server may still be writing under another key".to_owned(),
        _ => format!("{api_servers} connected API servers may still be writing under another key"),
    }
}

fn seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

/// A finished scan for values under one key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyScan {
    /// The SHA-256 of the record when the scan began.
    pub record: Digest,
    /// The number of live values under the key.
    pub objects: u64,
    /// Whether API servers had stopped writing under the key for certain before the scan began.
    pub is_proof: bool,
}

/// Whether clients can still read etcd at a revision at which a value may have needed the key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum History {
    /// The ledger does not name a revision of each etcd at which no value needed the key.
    Unnoted,
    /// This etcd has not yet compacted the revisions before this one, at which no value needed the key.
    Kept(EtcdRevision),
    /// Every etcd has compacted the revisions at which values may have needed the key.
    Compacted,
}

/// The facts that one run of `key disable` or `key destroy` has seen. They begin empty at each start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct RetireProgress {
    /// The result of the last scan.
    pub scanned: Option<KeyScan>,
    /// The last count of the API servers.
    pub counted: Option<ApiServers>,
    /// The number of listed snapshots that needed the key when the run began. A snapshot that has left the ledger since
    /// may have been restored. 0 for `key disable`, which does not ask the ledger.
    pub listed: u64,
    /// Whether etcd still has revisions at which values needed the key. `None` for `key disable`, which does not ask,
    /// because a disabled key can be enabled again.
    pub history: Option<History>,
    /// `--api-servers 0`: whether the operator says that no API server runs.
    pub has_no_api_servers: bool,
}

/// Decides the next step. The keyring itself decides whether the state of the key allows it.
pub fn retire(world: &ClusterNow, progress: &RetireProgress) -> RetireStep {
    retire_by(Rules::default(), world, progress)
}

/// Decides the next step by `rules`. A test can leave out one of the rules.
pub(super) fn retire_by(rules: Rules, world: &ClusterNow, progress: &RetireProgress) -> RetireStep {
    decide(rules, world, progress).map_or_else(|step| step, |()| RetireStep::Retire)
}

/// The result of a gate. A closed gate returns the step that leads to its opening.
type RetireGate<T = ()> = Result<T, RetireStep>;

/// Passes the gates one after the other, and returns the step of the first closed one.
fn decide(rules: Rules, world: &ClusterNow, progress: &RetireProgress) -> RetireGate {
    let settled =
        if progress.has_no_api_servers { disconnected(world) } else { settled(rules, world).map_err(RetireStep::Wait) };
    let scan = RetireStep::Scan { is_proof: settled.is_ok() };
    // The scan comes first, because a value that needs the key is the best reason to keep it.
    let scanned = progress.scanned.filter(|scanned| scanned.record == world.record.digest).ok_or(scan)?;
    if rules.has(Rule::Scan) && scanned.objects > 0 {
        return Err(RetireStep::Needed(scanned.objects));
    }
    if rules.has(Rule::Ledger) && progress.listed > 0 {
        return Err(RetireStep::Listed(progress.listed));
    }
    settled?;
    if !scanned.is_proof {
        return Err(RetireStep::Scan { is_proof: true });
    }
    count_holds(rules, world, progress)?;
    if rules.has(Rule::Compaction) { compacted(progress) } else { Ok(()) }
}

/// Opens if no client can read a value that needed the key any more. This gate comes last, because only a scan that is
/// a proof may be noted.
fn compacted(progress: &RetireProgress) -> RetireGate {
    match &progress.history {
        None | Some(History::Compacted) => Ok(()),
        Some(History::Unnoted) => Err(RetireStep::Note),
        Some(History::Kept(before)) => Err(RetireStep::Wait(Unsettled::History(before.clone()))),
    }
}

/// Opens if no plugin contradicts the operator's word that no API server runs. A plugin of another keyring does not
/// count.
fn disconnected(world: &ClusterNow) -> RetireGate {
    let is_other = |node: &&NodeNow| node.serves.as_ref().is_some_and(|serves| serves.record != world.record.digest);
    let others: Vec<String> = world.nodes.iter().filter(is_other).map(|node| node.name.clone()).collect();
    if !others.is_empty() {
        return Err(RetireStep::Wait(Unsettled::ServesAnother(others)));
    }
    match world.connected(|_| true) {
        0 => Ok(()),
        connected => Err(RetireStep::Refuse(CountDoubt::Connected(connected))),
    }
}

/// Opens if no API server can write under another key than the primary one any more.
pub(super) fn settled(rules: Rules, world: &ClusterNow) -> Result<(), Unsettled> {
    let missing = world.nodes_without(|serves: &ServedNow| serves.record == world.record.digest);
    if !missing.is_empty() {
        return Err(Unsettled::NotServed(missing));
    }
    if rules.has(Rule::Quiet) {
        quiet(world)?;
    }
    if rules.has(Rule::Settle) { adopted(world) } else { Ok(()) }
}

/// Opens after the quiet time, which covers the API servers that are not connected now.
fn quiet(world: &ClusterNow) -> Result<(), Unsettled> {
    let served = asked(world).filter_map(|node| node.serves.as_ref()).map(|serves| serves.primary_for).min();
    match world.timeouts.quiet().saturating_sub(served.unwrap_or_default()) {
        Duration::ZERO => Ok(()),
        left => Err(Unsettled::Quiet(left)),
    }
}

/// Opens this gate when every node has a live connection, and each connection has announced only the primary key for
/// longer than a write can take.
fn adopted(world: &ClusterNow) -> Result<(), Unsettled> {
    let unconnected: Vec<String> =
        asked(world).filter(|node| node.connections.is_empty()).map(|node| node.name.clone()).collect();
    if !unconnected.is_empty() {
        return Err(Unsettled::NoConnection(unconnected));
    }
    let primary = world.record.primary();
    let left = |connection: &ConnectionNow| {
        let steady = if connection.announced == primary { connection.steady } else { Duration::ZERO };
        world.timeouts.settled().saturating_sub(steady)
    };
    let longest = asked(world).flat_map(|node| &node.connections).map(left).max().unwrap_or_default();
    if longest.is_zero() {
        return Ok(());
    }
    let api_servers =
        asked(world).map(|node| node.connected(world.entries, |connection| !left(connection).is_zero())).sum();
    Err(Unsettled::ApiServers { api_servers, left: longest })
}

/// Returns the nodes that the operator has not called gone.
fn asked(world: &ClusterNow) -> impl Iterator<Item = &NodeNow> {
    world.nodes.iter().filter(|node| !node.is_skipped)
}

fn count_holds(rules: Rules, world: &ClusterNow, progress: &RetireProgress) -> RetireGate {
    let counted = progress.counted.filter(|counted| counted.is_fresh(world.now)).ok_or(RetireStep::Count)?;
    let doubt = if progress.has_no_api_servers {
        Some(counted.count).filter(|count| *count > 0).map(CountDoubt::Counted)
    } else {
        count::doubt(rules, world, counted)
    };
    doubt.map_or(Ok(()), |doubt| Err(RetireStep::Refuse(doubt)))
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            testing::{connection, counted, key, world},
            world::Ticks,
        },
        *,
    };
    use crate::keyring::state::State;

    /// Returns the facts of a run that has looked, counted and scanned.
    fn seen(world: &ClusterNow) -> RetireProgress {
        let scanned = KeyScan { record: world.record.digest, objects: 0, is_proof: true };
        RetireProgress {
            scanned: Some(scanned),
            counted: Some(counted(world.now, 1)),
            listed: 0,
            history: None,
            has_no_api_servers: false,
        }
    }

    fn waits(world: &ClusterNow) -> Unsettled {
        match retire(world, &seen(world)) {
            RetireStep::Wait(wait) => wait,
            other => panic!("{other:?}"),
        }
    }

    fn change_node(change: impl FnOnce(&mut NodeNow)) -> ClusterNow {
        let mut world = world();
        change(&mut world.nodes[0]);
        world
    }

    #[test]
    fn a_key_is_given_up_after_a_scan_and_a_count() {
        let world = world();
        let mut progress = RetireProgress::default();
        assert_eq!(retire(&world, &progress), RetireStep::Scan { is_proof: true });
        progress.scanned = seen(&world).scanned;
        assert_eq!(retire(&world, &progress), RetireStep::Count);
        progress.counted = Some(counted(world.now, 2));
        let doubt = CountDoubt::TooMany { count: 2, nodes: 1 };
        assert_eq!(retire(&world, &progress), RetireStep::Refuse(doubt));
        progress.counted = Some(counted(world.now, 0));
        assert_eq!(retire(&world, &progress), RetireStep::Refuse(CountDoubt::Unknown));
        progress.counted = Some(counted(world.now, 1));
        assert_eq!(retire(&world, &progress), RetireStep::Retire);
        let later = ClusterNow { now: Ticks(Duration::from_mins(3)), ..world };
        assert_eq!(retire(&later, &progress), RetireStep::Count, "the count is old");
    }

    #[test]
    fn values_under_the_key_are_named_before_any_wait() {
        let world = change_node(|node| node.connections.clear());
        let mut progress = RetireProgress::default();
        assert_eq!(retire(&world, &progress), RetireStep::Scan { is_proof: false });
        progress.scanned = Some(KeyScan { record: world.record.digest, objects: 3, is_proof: false });
        assert_eq!(retire(&world, &progress), RetireStep::Needed(3));
        progress.scanned = Some(KeyScan { objects: 0, ..progress.scanned.unwrap() });
        progress.listed = 2;
        assert_eq!(retire(&world, &progress), RetireStep::Listed(2));
    }

    #[test]
    fn a_scan_counts_only_if_it_began_when_nothing_could_be_written_under_the_key() {
        let world = world();
        let mut progress = seen(&world);
        progress.scanned.as_mut().unwrap().is_proof = false;
        assert_eq!(retire(&world, &progress), RetireStep::Scan { is_proof: true });
        progress.scanned.as_mut().unwrap().is_proof = true;
        progress.scanned.as_mut().unwrap().record = Digest([9; 32]);
        assert_eq!(retire(&world, &progress), RetireStep::Scan { is_proof: true }, "the keyring was changed");
    }

    #[test]
    fn a_key_is_destroyed_only_after_etcd_has_forgotten_when_values_needed_it() {
        let world = world();
        let with = |history| RetireProgress { history: Some(history), ..seen(&world) };
        assert_eq!(retire(&world, &with(History::Unnoted)), RetireStep::Note);
        let before = EtcdRevision { etcd: "a".to_owned(), revision: 7 };
        let waits = RetireStep::Wait(Unsettled::History(before.clone()));
        assert_eq!(retire(&world, &with(History::Kept(before))), waits);
        assert_eq!(retire(&world, &with(History::Compacted)), RetireStep::Retire);
        let mut early = with(History::Unnoted);
        early.scanned.as_mut().unwrap().is_proof = false;
        assert_eq!(retire(&world, &early), RetireStep::Scan { is_proof: true }, "such a scan is not noted");
    }

    #[test]
    fn each_plugin_serves_the_record_and_the_primary_key_for_the_quiet_time() {
        let silent = change_node(|node| node.serves = None);
        assert_eq!(waits(&silent), Unsettled::NotServed(vec!["a".to_owned()]));
        let behind = change_node(|node| node.serves.as_mut().unwrap().record = Digest([2; 32]));
        assert_eq!(waits(&behind), Unsettled::NotServed(vec!["a".to_owned()]));
        let fresh = change_node(|node| node.serves.as_mut().unwrap().primary_for = Duration::from_secs(262));
        assert_eq!(waits(&fresh), Unsettled::Quiet(Duration::from_secs(1)));
    }

    #[test]
    fn each_connection_has_settled_on_the_primary_key() {
        let alone = change_node(|node| node.connections.clear());
        assert_eq!(waits(&alone), Unsettled::NoConnection(vec!["a".to_owned()]));
        let unsettled = |announced: Option<u32>, steady| {
            let one = connection(announced.map(key), Duration::from_secs(steady));
            let mut world = change_node(|node| node.connections.push(one));
            world.record.keys[0].state = State::DecryptOnly;
            let mut progress = seen(&world);
            progress.counted.as_mut().unwrap().count = 2;
            retire(&world, &progress)
        };
        let left =
            |seconds| RetireStep::Wait(Unsettled::ApiServers { api_servers: 1, left: Duration::from_secs(seconds) });
        assert_eq!(unsettled(Some(2), 179), left(1));
        assert_eq!(unsettled(Some(1), 500), left(180), "settled on another key");
        assert_eq!(unsettled(None, 0), left(180));
        let doubt = CountDoubt::TooMany { count: 2, nodes: 1 };
        assert_eq!(unsettled(Some(2), 180), RetireStep::Refuse(doubt));
    }

    #[test]
    fn the_word_that_no_api_server_runs_opens_the_gates_unless_one_is_connected() {
        let step = |world: &ClusterNow, count| {
            let counted = Some(counted(world.now, count));
            retire(world, &RetireProgress { has_no_api_servers: true, counted, ..seen(world) })
        };
        let dead = change_node(|node| (node.serves, node.connections) = (None, Vec::new()));
        assert_eq!(step(&dead, 0), RetireStep::Retire);
        assert_eq!(step(&dead, 1), RetireStep::Refuse(CountDoubt::Counted(1)), "one that is not connected");
        let refuted = RetireStep::Refuse(CountDoubt::Connected(1));
        assert_eq!(step(&world(), 0), refuted);
        let still = change_node(|node| node.connections[0].is_alive = false);
        assert_eq!(step(&still, 0), refuted, "one that is paused");
        let other = change_node(|node| {
            node.connections.clear();
            node.serves.as_mut().unwrap().record = Digest([9; 32]);
        });
        assert_eq!(step(&other, 0), RetireStep::Wait(Unsettled::ServesAnother(vec!["a".to_owned()])));
    }

    #[test]
    fn a_doubt_says_what_is_missing_and_for_how_long() {
        let text = |unsettled: Unsettled| unsettled.to_string();
        let names = || vec!["a".to_owned(), "b".to_owned()];
        assert_eq!(text(Unsettled::NotServed(names())), "the plugin on a, b does not serve the keyring as it is now");
        let another = text(Unsettled::ServesAnother(names()));
        assert_eq!(another, "the plugin on a, b serves the keyring as it was before");
        assert_eq!(
            text(Unsettled::Quiet(Duration::from_millis(1500))),
            "an API server that is not connected now may still write under another key, for 2 s more"
        );
        assert_eq!(
            text(Unsettled::NoConnection(names())),
            "no API server is connected to the plugin on a, b, so none has shown which key it writes under"
        );
        assert_eq!(
            text(Unsettled::History(EtcdRevision { etcd: "http://a".to_owned(), revision: 7 })),
            "etcd http://a still has revisions before 7, at which values may need the key"
        );
        let left = Duration::from_secs(7);
        assert_eq!(
            text(Unsettled::ApiServers { api_servers: 1, left }),
            "1 connected API server may still be writing under another key for 7 s more"
        );
        assert_eq!(
            text(Unsettled::ApiServers { api_servers: 2, left }),
            "2 connected API servers may still be writing under another key for 7 s more"
        );
    }
}
