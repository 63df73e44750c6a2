//! Decides whether a count of the API servers proves that all of them use this keyring. A [`CountDoubt`] says why not.

use super::{
    rules::{Rule, Rules},
    world::{ApiServers, ClusterNow},
};

/// Why a count of the API servers keeps a gate closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum CountDoubt {
    /// Nobody knows how many API servers use the etcd.
    #[error("the API servers of this etcd cannot be counted, so one of them may use another keyring")]
    Unknown,
    /// More API servers use the etcd than the keyring has nodes.
    #[error("{} use this etcd, expected at most {nodes}, because a keyring file serves one API server", counted(*count, "API server"))]
    TooMany {
        /// The number of API servers.
        count: u64,
        /// The number of nodes.
        nodes: u64,
    },
    /// More API servers are connected than etcd shows, or than the operator has said.
    #[error("{}, expected at most {count}", are_connected(*connected))]
    TooManyConnected {
        /// How many API servers are connected.
        connected: u64,
        /// The number that etcd shows, or that the operator has given.
        count: u64,
    },
    /// The operator says that no API server runs, and etcd shows some.
    #[error("{} this etcd, but the operator says that none runs", use_it(*.0))]
    Counted(u64),
    /// The operator says that no API server runs, and some are connected.
    #[error("{}, but the operator says that none runs", are_connected(*.0))]
    Connected(u64),
}

fn use_it(count: u64) -> String {
    if count == 1 { "1 API server uses".to_owned() } else { format!("{count} API servers use") }
}

fn are_connected(count: u64) -> String {
    match count {
        1 => "1 API server is connected to the plugin".to_owned(),
        _ => format!("{count} API servers are connected to the plugin"),
    }
}

fn counted(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// Says why this count does not open a gate. Returns `None` if the count is consistent: there are at most as many API
/// servers as nodes, and no more API servers are connected.
pub(super) fn doubt(rules: Rules, world: &ClusterNow, counted: ApiServers) -> Option<CountDoubt> {
    let nodes = u64::try_from(world.nodes.len()).unwrap_or(u64::MAX);
    let connected = world.connected(|connection| connection.is_alive);
    match counted.count {
        0 => Some(CountDoubt::Unknown),
        count if rules.has(Rule::Count) && count > nodes => Some(CountDoubt::TooMany { count, nodes }),
        count if rules.has(Rule::Count) && connected > count => Some(CountDoubt::TooManyConnected { connected, count }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_doubt_says_how_many_were_counted() {
        let unknown = "the API servers of this etcd cannot be counted, so one of them may use another keyring";
        assert_eq!(CountDoubt::Unknown.to_string(), unknown);
        let several = CountDoubt::TooMany { count: 3, nodes: 1 };
        assert_eq!(
            several.to_string(),
            "3 API servers use this etcd, expected at most 1, because a keyring file serves one API server"
        );
        let too_many = CountDoubt::TooManyConnected { connected: 2, count: 1 }.to_string();
        assert_eq!(too_many, "2 API servers are connected to the plugin, expected at most 1");
        let counted = [1, 2].map(|count| CountDoubt::Counted(count).to_string());
        let untrue = "this etcd, but the operator says that none runs";
        assert_eq!(counted, [format!("1 API server uses {untrue}"), format!("2 API servers use {untrue}")]);
        let connected = "1 API server is connected to the plugin, but the operator says that none runs";
        assert_eq!(CountDoubt::Connected(1).to_string(), connected);
    }
}
