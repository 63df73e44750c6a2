//! The failure of a command because etcd refuses every write.

use super::{super::given::quoted, exit::Exit, report::Failure};

/// Returns the failure if the database of the etcd at `url` has reached its quota.
pub(in crate::cli) fn no_space(url: &str) -> Failure {
    Failure::new(Exit::Refused, &no_space_in(url), make_room(url))
}

/// Returns the text of that failure.
pub(in crate::cli) fn no_space_in(url: &str) -> String {
    format!("etcd {url} refuses every write: its database has become as large as it may (alarm NOSPACE)")
}

/// Returns the hint how to make room in the etcd at `url`.
pub(in crate::cli) fn make_room(url: &str) -> String {
    let etcdctl = format!("etcdctl --endpoints {}", quoted(url));
    format!(
        "make room: {etcdctl} compact REVISION, then {etcdctl} defrag --cluster, then {etcdctl} alarm disarm, each with the certificates of etcd"
    )
}
